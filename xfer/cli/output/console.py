"""Lines on standard error and standard output, whose readers may have gone."""

import contextlib
import os
import sys

from xfer.names import printable


def say(message: str) -> None:
    """Write a sentence of this program's. Control characters in it are escaped: a peer may have
    written parts of it, and could steer the terminal."""
    write(f"xfer: {printable(message)}")


def write(line: str) -> None:
    """Write a line as it is. That standard error is closed or full is no reason to fail."""
    if sys.stderr:  # None if it was closed at the start: print would write to stdout then
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def write_out(line: str) -> None:
    """Write a line on standard output. OSError where that fails.

    Whoever read it may have seen enough, as `head` does: that is no error, and what
    is written from then on goes nowhere.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Let standard output go nowhere. Else what is still in its buffer is written again later."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def is_terminal() -> bool:
    """Whether standard error is a terminal, where a person reads along."""
    return sys.stderr is not None and sys.stderr.isatty()
