"""A minimum rate for what flows in: whoever drips bodies is not waited for, for ever.

Only the time counts in which the receiver waits: a slow disk is not the
sender's fault.
"""

import time
from collections.abc import Callable
from typing import Final

from xfer.errors import PeerTimeout

WINDOW_SECONDS: Final = 10.0
_TWO_TLS_RECORDS: Final = 32 * 1024
_STEPS: Final = 4


class Pace:
    """At least `rate` bytes a second (1 or more), on average.

    The average is over 10 seconds, or over 32 KiB if these take longer, because
    TLS delivers up to 16 KiB at once.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._window = max(WINDOW_SECONDS, _TWO_TLS_RECORDS / rate)
        self._step = max(1, int(rate * self._window) // _STEPS)
        self._bytes = self._arriving = 0
        self._seconds = 0.0
        self._began: float | None = None

    def read_into(self, read: Callable[[memoryview], None], view: memoryview) -> None:
        """Fill `view` with `read`. PeerTimeout when that has been too slow for too long."""
        for begin in range(0, len(view), self._step):
            piece = view[begin : begin + self._step]
            self._began, self._arriving = self._clock(), len(piece)
            try:
                read(piece)
            finally:
                self._seconds += self._clock() - self._began
                self._began = None
            self._bytes += len(piece)
            self._judge(self._bytes, self._seconds)
            if self._seconds >= self._window or self._bytes >= self._rate * self._window:
                self._bytes, self._seconds = 0, 0.0

    def look(self) -> None:
        """Call it while more is waited for: what is arriving is taken to be nearly there."""
        if self._began is not None:
            so_far = self._seconds + self._clock() - self._began
            self._judge(self._bytes + self._arriving, so_far)

    def _judge(self, size: int, seconds: float) -> None:
        if seconds >= self._window and size < self._rate * seconds:
            raise PeerTimeout(f"the sender is slower than {self._rate} bytes a second")
