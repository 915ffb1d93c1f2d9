"""A limit on bytes a second, for all connections that share it together."""

import struct
import threading
import time
from typing import Final

_PIECES_A_SECOND: Final = 20
_LEAST_PIECE: Final = 256
_MOMENT: Final = struct.Struct("=d")
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
            wait = self._charge(size)
        if wait > 0:
            time.sleep(wait)

    def _charge(self, size: int) -> float:
        """How many seconds it takes until so many bytes more are within the limit."""
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - _MOST_SAVED) + size / self._rate
        return self._paid_until - now


class SharedBandwidth(Bandwidth):
    """One limit for several processes, which are forked after it is made."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        from xfer.system.shared_memory import SharedMemory  # noqa: PLC0415 (no sender needs it)

        self._memory = SharedMemory(_MOMENT.size)

    def _charge(self, size: int) -> float:
        with self._memory.locked():
            (self._paid_until,) = _MOMENT.unpack_from(self._memory.view)
            wait = super()._charge(size)
            _MOMENT.pack_into(self._memory.view, 0, self._paid_until)
        return wait
