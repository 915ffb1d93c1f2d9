"""Ends sessions whose bodies arrive below `--min-rate`.

Only the time counts in which the receiver does nothing but wait for bytes: a
slow disk of its own is not held against the sender.
"""

from collections.abc import Callable
from typing import Final

from xfer.errors import PeerTimeout

WINDOW_SECONDS: Final = 10.0
_TWO_TLS_RECORDS: Final = 32 * 1024
_PIECES_A_WINDOW: Final = 4
"""A body is read in pieces, because the one that is arriving counts as if it were there."""


class MinimumRate:
    """At least `rate` bytes a second (1 or more) of the bodies, on average.

    The average is over 10 seconds, or over the time that 32 KiB take at this
    rate if that is longer: TLS delivers up to 16 KiB at once, so that less would
    be judged by single records.

    Used by the receiving thread only: `read_into` calls `read`, and what waits
    in there calls `waited`.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._window = max(WINDOW_SECONDS, _TWO_TLS_RECORDS / rate)
        self._piece = max(1, int(rate * self._window) // _PIECES_A_WINDOW)
        self._bytes = 0  # received in this window
        self._seconds = 0.0  # waited in this window
        self._arriving = 0  # bytes being waited for; 0 outside of a body

    def read_into(self, read: Callable[[memoryview], None], view: memoryview) -> None:
        """Fill `view` with `read`, during which `waited` is told of each wait.

        Raises PeerTimeout when the average of a window is too low.
        """
        for begin in range(0, len(view), self._piece):
            piece = view[begin : begin + self._piece]
            self._arriving = len(piece)
            try:
                read(piece)
            finally:
                self._arriving = 0
            self._bytes += len(piece)
            self._check()
            if self._seconds >= self._window or self._bytes >= self._rate * self._window:
                self._bytes, self._seconds = 0, 0.0

    def waited(self, seconds: float) -> None:
        """For so many seconds nothing could be received. It only counts within a body.

        Raises PeerTimeout as `read_into`, which then need not wait for the rest.
        """
        if self._arriving:
            self._seconds += seconds
            self._check()

    def _check(self) -> None:
        """Raise PeerTimeout for a full window below the rate.

        The piece that is arriving counts: all but its last byte may be there already.
        """
        size = self._bytes + self._arriving
        if self._seconds >= self._window and size < self._rate * self._seconds:
            raise PeerTimeout(f"the sender is slower than {self._rate} bytes a second")
