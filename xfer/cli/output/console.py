"""Lines on standard error. That it is closed or full is no reason to fail."""

import contextlib
import sys

from xfer.names import printable


def say(message: str) -> None:
    """Write a sentence of this program's. Control characters in it are escaped: a peer may have
    written parts of it, and could steer the terminal."""
    write(f"xfer: {printable(message)}")


def write(line: str) -> None:
    """Write a line as it is."""
    if sys.stderr:  # None if it was closed at the start: print would write to stdout then
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether standard error is a terminal, where a person reads along."""
    return sys.stderr is not None and sys.stderr.isatty()
