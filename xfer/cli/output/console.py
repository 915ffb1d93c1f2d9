"""Lines on standard error, which may be closed or full: that is no reason to fail."""

import contextlib
import sys

from xfer.names import printable


def say(message: str) -> None:
    """A sentence of this program's own, safe to show whoever wrote parts of it."""
    write(f"xfer: {printable(message)}")


def write(line: str) -> None:
    """A line as it is."""
    if sys.stderr:  # None when it is closed from the start, and print would take stdout then
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Whether a person reads along, and not a log file."""
    return sys.stderr is not None and sys.stderr.isatty()
