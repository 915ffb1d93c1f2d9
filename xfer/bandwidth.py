"""A limit on bytes a second, for all connections that share it together."""

import threading
import time
from typing import Final

_PIECES_A_SECOND: Final = 20
_LEAST_PIECE: Final = 256
_MOST_SAVED: Final = 0.1
"""Seconds: what was not used for longer is lost, and makes no burst later."""


class Bandwidth:
    """At most `rate` bytes a second. Used by many threads at once."""

    def __init__(self, rate: int) -> None:
        self.piece = max(rate // _PIECES_A_SECOND, _LEAST_PIECE)
        """Bytes to move at once, so that nothing stands still for long."""
        self._rate = rate
        self._paid_until = 0.0
        self._paying = threading.Lock()

    def pay(self, size: int) -> None:
        """Wait until `size` bytes, which have just moved, are within the limit."""
        with self._paying:
            now = time.monotonic()
            self._paid_until = max(self._paid_until, now - _MOST_SAVED) + size / self._rate
            wait = self._paid_until - now
        if wait > 0:
            time.sleep(wait)
