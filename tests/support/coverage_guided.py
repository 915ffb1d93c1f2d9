"""`python -m tests.support.coverage_guided [libFuzzer options]`: inputs that find new branches."""

import sys

import atheris

with atheris.instrument_imports(include=["xfer", "json"]):
    from tests.support import fuzzing
    from xfer.errors import ProtocolError, Refused


def one_input(data: bytes) -> None:
    target, _ = fuzzing.TARGETS[data[0] % len(fuzzing.TARGETS)] if data else fuzzing.TARGETS[0]
    try:
        target(data[1:])
    except (ProtocolError, Refused):
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
