"""A terminal, as a person has one."""

import contextlib
import os
import pty
import termios
from collections.abc import Iterator

from tests.support.processes import (
    Log,
)


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, Log]]:
    """A terminal of 100 columns: what a process writes to, and what a person saw."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    log = Log(os.fdopen(ours, "rb", buffering=0))
    try:
        yield theirs, log
    finally:
        with contextlib.suppress(OSError):
            os.close(theirs)
        log.join()
