"""Long work during which the peer must not give up: it is told that this side is alive.

And the other end of that: for how long such a word is taken for it.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct

from xfer.errors import PeerTimeout, XferError
from xfer.system.background import BackgroundThread, wait_for

Value = TypeVar("Value")

HEARTBEAT_SECONDS: Final = 1.0
"""How often a `working` message goes out; far below any sensible timeout."""
_LONGEST_WORK: Final = 3600.0
"""Seconds that a peer may be at work with nothing to show for it, and beside them"""
_SLOWEST_WORK: Final = 1024 * 1024
"""one for so many bytes of the largest file that it may be at work on."""


class Progress(Struct):
    """How far some work is: `done` of `size` bytes of `name`."""

    name: str
    size: int = 0
    done: int = 0


class Heartbeat:
    """Does long work in the helper thread while the caller's own sends heartbeats."""

    def __init__(self, background: BackgroundThread, beat: Callable[[Progress], None]) -> None:
        """`beat` is called once in a while, with how far the work is."""
        self._background = background
        self._beat = beat

    def during(self, progress: Progress, work: Callable[[Progress], Value]) -> Value:
        """What `work(progress)` returns or raises. Raises ConnectionLost if the peer went away.

        Either way, the work has ended when this returns.
        """
        future = self._background.submit(work, progress)
        try:
            while not wait_for(future, HEARTBEAT_SECONDS):
                self._beat(progress)
        finally:
            wait_for(future)
        return future.result()


class Watchdog:
    """Over work in the caller's own thread that is hardly ever long.

    Whenever it is, the helper thread sends heartbeats; it looks after one
    piece of work after the other, and leaves when there was none for a while.
    """

    def __init__(self, background: BackgroundThread, beat: Callable[[], None]) -> None:
        self._background = background
        self._beat = beat
        self._changed = threading.Condition()
        self._works = 0
        self._is_at_work = False
        self._is_kept = False
        self._ends = False

    def watch(self, work: Callable[[], None]) -> None:
        """Do `work`. There is no heartbeat any more once this returns."""
        with self._changed:
            self._works += 1
            self._is_at_work, self._ends = True, False
            if not self._is_kept:
                self._is_kept = True
                self._background.submit(self._keep)
        try:
            work()
        finally:
            with self._changed:
                self._is_at_work = False

    def end(self) -> None:
        """The helper thread is wanted for something else."""
        with self._changed:
            self._ends = True
            self._changed.notify()

    def _keep(self) -> None:
        works = 0
        with self._changed:
            while not self._ends and (self._is_at_work or self._works != works):
                if self._works == works:
                    with contextlib.suppress(XferError):  # whoever works comes across it, too
                        self._beat()
                works = self._works
                self._changed.wait(HEARTBEAT_SECONDS)
            self._is_kept = False


class StallLimit:
    """In a peer that says that it is at work; nothing else may come of that for a while."""

    def __init__(self) -> None:
        self._largest = 0
        self._renewed_at = time.monotonic()

    def expect_size(self, size: int) -> None:
        """The peer may be at work on a file of so many bytes."""
        self._largest = max(self._largest, size)

    def renew(self) -> None:
        """Something was sent, or answered."""
        self._renewed_at = time.monotonic()

    def check(self) -> None:
        """PeerTimeout when the peer has been at work for too long."""
        if time.monotonic() - self._renewed_at > _LONGEST_WORK + self._largest / _SLOWEST_WORK:
            raise PeerTimeout("the other side is at work all the time, and nothing comes of it")
