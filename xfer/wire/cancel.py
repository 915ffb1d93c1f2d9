"""A way to end a job at once, from any thread or signal handler.

    cancel() ── a byte in a pipe ──▶ every poll of the job's connections, pauses and lookups

The token is looked at before each system call of a connection, and its pipe is polled
beside the socket, so that no wait is too long for it.
"""

import os
import select

from xfer.errors import Cancelled


class CancelToken:
    """Ends the jobs that it was given to. Once cancelled, it stays so: each call takes a new one.

    `is_cancelled` is written once, by any thread, and `descriptor` can be read from
    once it is true.
    """

    def __init__(self) -> None:
        self.is_cancelled = False
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)

    def __del__(self) -> None:
        """Only then: no call of `cancel` can find a descriptor that is another file's by now."""
        os.close(self.descriptor)
        os.close(self._write_end)

    def cancel(self) -> None:
        """End the jobs, which raise Cancelled. Returns at once; again, it does nothing."""
        if not self.is_cancelled:
            self.is_cancelled = True
            # A byte, not an end of file: a process that was forked has the write end, too.
            os.write(self._write_end, b".")

    def check(self) -> None:
        """Raise Cancelled if it is."""
        if self.is_cancelled:
            raise Cancelled("cancelled: what has no receipt is not stored")

    def wait(self, seconds: float) -> None:
        """Sleep for so many seconds, or until it is cancelled."""
        poller = select.poll()
        poller.register(self.descriptor, select.POLLIN)
        poller.poll(seconds * 1000)
