"""How many bytes a directory holds: counted once by a walk, then kept up to date.

A walk takes long, and the directory changes meanwhile. What is stored during it
counts twice until the next walk, once as stored and perhaps once as found: so
too much is counted, never too little, and no limit is exceeded.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable
from typing import Final, Protocol

from msgspec import Struct

from xfer import logs

log = logging.getLogger("xfer.receiver")

WALK_PATIENCE: Final = 10.0
"""Seconds after the start of a walk for which senders are kept waiting for its end."""
_WALKS_AT_ONCE: Final = 2
"""However many directories there are to count: the disk serves senders, too."""
_FRESH_SECONDS: Final = 3.0
_FRESH_WALKS: Final = 20
"""A directory is not walked again within so many times the time that its walk took: walking takes
at most one part in 20 of the time, however many files are refused."""


class Disk(Protocol):
    """What is really there, in bytes. Any thread may ask. Raises OSError, but `free` Refused."""

    def stored(self, directory: bytes, stopping: Callable[[], bool]) -> int:
        """Files below a directory, and their older versions. A walk: it may take minutes.

        `stopping()` is asked now and then; once it is true, any number is returned soon.
        """

    def kept(self, directory: bytes, but: Container[bytes]) -> int:
        """Partials of files below a directory, except those with these names. Quick."""

    def free(self) -> int:
        """What may still be written to the disk."""


class DirectoryUsage(Struct):
    """What is known of one directory, in bytes. All of it is guarded by the ledger's lock.

    `stored` are files, their older versions and partials that were left to a
    later session; `arriving` is reserved by sessions, written already or not.
    """

    directory: bytes
    stored: int = 0
    arriving: int = 0
    stored_during_walk: int = 0
    walk: threading.Thread | None = None
    walk_began_at: float = 0.0
    walked_at: float | None = None
    walk_seconds: float = 0.0

    @property
    def age(self) -> float:
        """Seconds since it was last counted; infinite before."""
        return float("inf") if self.walked_at is None else time.monotonic() - self.walked_at

    @property
    def is_fresh(self) -> bool:
        """Whether it was counted so recently that another walk is not worth its time."""
        return self.age <= max(_FRESH_SECONDS, _FRESH_WALKS * self.walk_seconds)

    def has_room(self, quota: int, more: int) -> bool:
        return self.stored + self.arriving + more <= quota

    def add_stored(self, size: int) -> None:
        """Files are `size` bytes more than before, or less."""
        self.stored += size
        self.stored_during_walk += max(size, 0)

    def add_kept(self, size: int) -> None:
        """Partials are `size` bytes more, or less. A walk counts them at its end, and exactly."""
        self.stored += size

    def add_arriving(self, size: int) -> None:
        self.arriving += size

    def set_counted(self, stored: int, seconds: float) -> None:
        """A walk of so many seconds has found so many bytes."""
        self.stored = stored + self.stored_during_walk
        self.walked_at = time.monotonic()
        self.walk_seconds = seconds


class Walks:
    """The walks of one ledger, each in a thread of its own.

    `changed` is the ledger's lock. The caller of `begin` and `renew` holds it, the
    caller of `close` does not. It guards `arriving` too, the names of the partials
    that sessions have open.
    """

    def __init__(
        self, disk: Disk, changed: threading.Condition, arriving: Container[bytes]
    ) -> None:
        self._disk = disk
        self._changed = changed
        self._arriving = arriving
        # Written once, with `changed` held. A walk reads it without: if it sees it late, it only
        # ends a moment later.
        self._is_closing = False
        self._at_once = threading.Semaphore(_WALKS_AT_ONCE)

    def begin(self, usage: DirectoryUsage) -> None:
        """Begin to count a directory, unless a walk of it is under way; return at once."""
        if usage.walk is None and not self._is_closing:
            usage.stored_during_walk = 0
            usage.walk_began_at = time.monotonic()
            usage.walk = threading.Thread(target=self._walk, args=[usage], daemon=True)
            usage.walk.start()

    def renew(self, usage: DirectoryUsage) -> None:
        """Count a directory and wait for that, up to WALK_PATIENCE after the walk began.

        So a long walk is waited for once, not for each file that a sender asks about.
        """
        self.begin(usage)
        left = max(usage.walk_began_at + WALK_PATIENCE - time.monotonic(), 0.0)
        self._changed.wait_for(lambda: usage.walk is None, left)

    def close(self, usages: Iterable[DirectoryUsage]) -> None:
        """Return once no walk is under way any more, and none will be."""
        with self._changed:
            self._is_closing = True
            walks = [usage.walk for usage in usages if usage.walk]
        for walk in walks:
            walk.join()

    def _walk(self, usage: DirectoryUsage) -> None:
        try:
            with self._at_once:
                began = time.monotonic()
                stored = self._disk.stored(usage.directory, lambda: self._is_closing)
            with self._changed:
                stored += self._disk.kept(usage.directory, self._arriving)
                usage.set_counted(stored, time.monotonic() - began)
        except OSError as error:
            not_counted = logs.about("not_counted")
            log.warning("could not count what is stored: %s", error, extra=not_counted)
        finally:
            with self._changed:
                usage.walk = None
                self._changed.notify_all()
