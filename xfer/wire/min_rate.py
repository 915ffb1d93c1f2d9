"""A minimum rate for what flows in: whoever drips bodies is not waited for, for ever.

Only the time counts in which the receiver has nothing to do but wait: a slow
disk is not the sender's fault.
"""

from collections.abc import Callable
from typing import Final

from xfer.errors import PeerTimeout

WINDOW_SECONDS: Final = 10.0
_TWO_TLS_RECORDS: Final = 32 * 1024
_STEPS: Final = 4


class MinimumRate:
    """At least `rate` bytes a second (1 or more) of the bodies, on average.

    The average is over 10 seconds, or over 32 KiB if these take longer, because
    TLS delivers up to 16 KiB at once.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._window = max(WINDOW_SECONDS, _TWO_TLS_RECORDS / rate)
        self._step = max(1, int(rate * self._window) // _STEPS)
        self._bytes = self._arriving = 0
        self._seconds = 0.0

    def read_into(self, read: Callable[[memoryview], None], view: memoryview) -> None:
        """Fill `view` with `read`, which says how long it has `waited`.

        PeerTimeout when that has been too slow for too long.
        """
        for begin in range(0, len(view), self._step):
            piece = view[begin : begin + self._step]
            self._arriving = len(piece)
            try:
                read(piece)
            finally:
                self._arriving = 0
            self._bytes += len(piece)
            self._judge()
            if self._seconds >= self._window or self._bytes >= self._rate * self._window:
                self._bytes, self._seconds = 0, 0.0

    def waited(self, seconds: float) -> None:
        """So long nothing could be received. Outside of a body that may be as long as it likes."""
        if self._arriving:
            self._seconds += seconds
            self._judge()

    def _judge(self) -> None:
        """What is arriving is taken to be nearly there."""
        size = self._bytes + self._arriving
        if self._seconds >= self._window and size < self._rate * self._seconds:
            raise PeerTimeout(f"the sender is slower than {self._rate} bytes a second")
