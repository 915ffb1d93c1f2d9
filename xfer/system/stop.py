"""A signal to stop that can be waited for in poll(2), together with a socket."""

import contextlib
import os


class Interrupted(Exception):
    """The stop signal was set during a wait, or before it."""


class StopSignal:
    """Set once, from any thread or signal handler, and never cleared.

    It is a pipe whose write end is closed to set it: from then on each poll
    finds that something, the end of the file, can be read from `descriptor`.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.descriptor, write_end = os.pipe()
        # The call of `set` that pops it closes it: of two at once, only one can. There is
        # no lock because a signal handler might have interrupted the thread that holds it.
        self._write_end = [write_end]

    def set(self) -> None:
        """Wake all that wait for it."""
        self.is_set = True
        with contextlib.suppress(IndexError):
            os.close(self._write_end.pop())

    def close(self) -> None:
        """Set it, and close the pipe. Nothing may wait for it any more."""
        self.set()
        os.close(self.descriptor)
