"""Long work during which the peer must not give up: it is told that this side is alive.

`Heartbeat` and `Watchdog` are for the side that works, `StallLimit` for the one
that waits for it: it bounds how long heartbeats alone are enough.
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
"""Seconds that a peer may send nothing but heartbeats, to which are added"""
_SLOWEST_WORK: Final = 1024 * 1024
"""one for each so many bytes of the largest file, which it may have to read."""


class Progress(Struct):
    """How far some work is: `done` of `size` bytes of `name`.

    The working thread writes `done` and the one that sends heartbeats reads it:
    one reference, replaced whole.
    """

    name: str
    size: int = 0
    done: int = 0


class Heartbeat:
    """Does long work in the helper thread while the caller's own sends heartbeats.

    The helper thread is free when `during` is called, else the work waits for it.
    """

    def __init__(self, background: BackgroundThread, beat: Callable[[Progress], None]) -> None:
        """`beat` sends a heartbeat: it is called every second, with how far the work is."""
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
    """Sends heartbeats while work in the caller's own thread takes long, which it seldom does.

        caller's thread   watch: count the work, do it, say that it is over
        helper thread     every second: send a heartbeat if it is still the same work

    To hand each piece of work to another thread, as `Heartbeat` does, would take
    longer than most of them. The helper thread is started with the first work
    and stays for the following; it ends after a second without any.
    """

    def __init__(self, background: BackgroundThread, beat: Callable[[], None]) -> None:
        """`beat` sends a heartbeat, from the helper thread."""
        self._background = background
        self._beat = beat
        # Guards all that follows. Held while a heartbeat is sent, too: so there is none
        # under way when `watch` has returned.
        self._changed = threading.Condition()
        self._count = 0  # of works begun
        self._is_working = False
        self._has_helper = False
        self._must_end = False

    def watch(self, work: Callable[[], None]) -> None:
        """Do `work`, and raise what it raises. No heartbeat is sent any more once this returns."""
        with self._changed:
            self._count += 1
            self._is_working, self._must_end = True, False
            if not self._has_helper:
                self._has_helper = True
                self._background.submit(self._send_heartbeats)
        try:
            work()
        finally:
            with self._changed:
                self._is_working = False

    def end(self) -> None:
        """Have the helper thread end at once: it is needed for something else."""
        with self._changed:
            self._must_end = True
            self._changed.notify()

    def _send_heartbeats(self) -> None:
        seen = 0
        with self._changed:
            while not self._must_end and (self._is_working or self._count != seen):
                if self._count == seen:
                    with contextlib.suppress(XferError):  # the caller's thread meets it, too
                        self._beat()
                seen = self._count
                self._changed.wait(HEARTBEAT_SECONDS)
            self._has_helper = False


class StallLimit:
    """Bounds the time in which a peer sends heartbeats, and nothing comes of its work.

    One thread sends to that peer, calling `expect_size` and `renew`; another one
    receives from it, calling `renew` and `check`. Each field is one reference,
    replaced whole; only the sending thread writes `_largest`, and what either
    writes to `_renewed_at` is the time it is. So there is no lock.
    """

    def __init__(self) -> None:
        self._largest = 0  # bytes
        self._renewed_at = time.monotonic()

    def expect_size(self, size: int) -> None:
        """The peer may have to read a file of so many bytes."""
        self._largest = max(self._largest, size)

    def renew(self) -> None:
        """Something other than a heartbeat was sent or answered: the time starts again."""
        self._renewed_at = time.monotonic()

    def check(self) -> None:
        """Raise PeerTimeout when the peer has sent nothing but heartbeats for too long."""
        if time.monotonic() - self._renewed_at > _LONGEST_WORK + self._largest / _SLOWEST_WORK:
            raise PeerTimeout("the other side is at work all the time, and nothing comes of it")
