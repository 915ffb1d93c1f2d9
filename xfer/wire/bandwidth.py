"""A limit on bytes a second (`--bwlimit`), which many connections share."""

import struct
import threading
import time
from collections.abc import Callable
from typing import Final

_PIECES_A_SECOND: Final = 20
_MIN_PIECE: Final = 256
_MOMENT: Final = struct.Struct("=d")
_MAX_SAVED_SECONDS: Final = 0.1
"""What was not used for longer than that is lost: it must not make a burst later."""


class Bandwidth:
    """At most `rate` bytes a second. Used by many threads at once.

    `pause` waits for so many seconds, or returns early where the wait is pointless.
    """

    def __init__(self, rate: int, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self.piece = max(rate // _PIECES_A_SECOND, _MIN_PIECE)
        """How many bytes to move at once, so that no pause is long."""
        self._rate = rate
        self._lock = threading.Lock()
        self._paid_until = 0.0  # monotonic time; guarded by `_lock`

    def pay(self, size: int) -> None:
        """Wait until `size` bytes, which have just moved, are within the limit."""
        with self._lock:
            wait = self._charge(size)
        if wait > 0:  # without the lock, or the others could not pay meanwhile
            self._pause(wait)

    def _charge(self, size: int) -> float:
        """Count `size` bytes more; seconds until all that was counted is within the limit."""
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - _MAX_SAVED_SECONDS) + size / self._rate
        return self._paid_until - now


class SharedBandwidth(Bandwidth):
    """One limit for several processes, which are forked after it is made.

    What is paid for is in memory that they share: all of them read the same
    monotonic clock.
    """

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        from xfer.system.shared_memory import SharedMemory  # noqa: PLC0415 (no sender needs it)

        self._memory = SharedMemory(_MOMENT.size)

    def _charge(self, size: int) -> float:
        with self._memory.locked():  # against processes, and `_lock` against threads
            (self._paid_until,) = _MOMENT.unpack_from(self._memory.view)
            wait = super()._charge(size)
            _MOMENT.pack_into(self._memory.view, 0, self._paid_until)
        return wait
