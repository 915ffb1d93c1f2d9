"""Who may fill how much: quotas, the size of one file, and what of the disk stays free.

Room is reserved before a body is taken, so that no number of senders at once
gets past a limit. What is stored below a directory is counted once by a walk
and then kept up to date; before anybody is refused it is counted again, for
the owner may have made room by hand. Whatever changes during a walk counts
twice until the next one: a limit is never exceeded for it. Knows no disk: a
`Disk` is asked.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Iterator
from typing import Final, Protocol

from msgspec import Struct, field

from xfer import logs
from xfer.errors import Code, Refused
from xfer.storage.contract import Limits

log = logging.getLogger("xfer.receiver")

WALK_PATIENCE: Final = 10.0
"""Seconds that a sender is kept waiting while what is stored is counted."""
_FRESH_SECONDS: Final = 3.0
_FRESH_SHARE: Final = 20
"""A walk may take this fraction of the time, however many are refused meanwhile."""
_OLD_SECONDS: Final = 3600.0
_WALKS_AT_ONCE: Final = 2
"""However many keys there are: a disk serves senders, too."""


class Disk(Protocol):
    """What is really there; all in bytes. Raises OSError, but `free` what a sender is told."""

    def stored(self, directory: bytes, stopping: Callable[[], bool]) -> int:
        """Files below a directory, and their versions. May take long; 0 once `stopping()`."""

    def kept(self, directory: bytes, but: Container[bytes]) -> int:
        """What interrupted sessions left of files for a directory, but for these partials."""

    def free(self) -> int: ...


class DirectoryUsage(Struct):
    """What is known of one directory, in bytes. `arriving` is reserved, or there in part."""

    directory: bytes
    stored: int = 0
    arriving: int = 0
    stored_during_walk: int = 0
    walk: threading.Thread | None = None
    waited_for_until: float = 0.0
    walked_at: float | None = None
    walk_seconds: float = 0.0

    def add(self, size: int) -> None:
        self.stored += size
        self.stored_during_walk += max(size, 0)


class Ledger:
    """What each directory with a quota holds, and what is arriving; one for a store.

    Used by many threads at once. `min_free` in bytes, as everything here.
    """

    def __init__(self, disk: Disk, min_free: int | None) -> None:
        self._disk = disk
        self._min_free = min_free
        self._changed = threading.Condition()
        self._usages: dict[bytes, DirectoryUsage] = {}
        self._arriving: set[bytes] = set()
        self._promised = 0
        """Bytes that are reserved and not written yet."""
        self._closing = False
        self._walking = threading.Semaphore(_WALKS_AT_ONCE)

    def open(self, directory: bytes, limits: Limits) -> "Account":
        """For a sender whose files go below `directory`. The counting begins beside it."""
        if limits.quota is not None:
            with self._changed:
                usage = self._usages.setdefault(directory, DirectoryUsage(directory))
                if usage.walked_at is None or _age(usage) > _OLD_SECONDS:
                    self._begin_walk(usage)
        return Account(self, directory, limits)

    @property
    def counts(self) -> bool:
        """Whether anything is limited that has to be counted."""
        return self._min_free is not None or bool(self._usages)

    def close(self) -> None:
        """Return once no walk is under way any more."""
        with self._changed:
            self._closing = True
            walks = [usage.walk for usage in self._usages.values() if usage.walk]
        for walk in walks:
            walk.join()

    # What reservations do

    def enter(self, reservation: "Reservation") -> None:
        """What a kept partial holds is arriving again."""
        with self._changed:
            self._arriving.add(reservation.partial)
            reservation.charged.extend(self._over(reservation.account.directory))
            _charge(reservation, reservation.size)
            if own := self._usages.get(reservation.account.directory):
                own.stored -= reservation.size

    def reserve(self, reservation: "Reservation", size: int) -> None:
        with self._changed:
            if size > reservation.size:
                self.require(reservation.account, size - reservation.size)
                _charge(reservation, size - reservation.size)
                reservation.size = size
                self._promise(reservation)

    def note_written(self, reservation: "Reservation") -> None:
        if self._min_free is not None:
            with self._changed:
                self._promise(reservation)

    def leave(self, reservation: "Reservation", kept: int) -> None:
        """Its file arrives no more; `kept` bytes of it stay as a partial."""
        with self._changed:
            self._leave(reservation)
            if kept and (own := self._usages.get(reservation.account.directory)):
                own.stored += kept

    def note_stored(self, reservation: "Reservation | None", path: bytes, size: int) -> None:
        """What arrived is stored at `path`, where there are `size` bytes more than before."""
        with self._changed:
            if reservation:
                self._leave(reservation)
            for usage in self._over(path):
                usage.add(size)

    def require(self, account: "Account", more: int) -> None:
        """Refused when there is no room for so many bytes more."""
        if more <= 0:
            return
        with self._changed:
            quota = account.limits.quota
            if quota is not None and not self._is_within(quota, account.directory, more):
                raise Refused("its quota on the receiver is used up", code=Code.QUOTA)
            if self._min_free is None:
                return
            if self._disk.free() - self._promised - more < self._min_free:
                reason = "the receiver's owner keeps the rest of the disk free"
                raise Refused(reason, code=Code.NO_SPACE)

    def _leave(self, reservation: "Reservation") -> None:
        self._arriving.discard(reservation.partial)
        _charge(reservation, -reservation.size)
        reservation.charged.clear()
        self._promised -= reservation.promised
        reservation.promised = reservation.size = 0

    def _promise(self, reservation: "Reservation") -> None:
        promised = max(reservation.size - reservation.written, 0)
        self._promised += promised - reservation.promised
        reservation.promised = promised

    def _over(self, path: bytes) -> Iterator[DirectoryUsage]:
        """The usage of the directories that `path` is in, itself included."""
        while self._usages:
            if path in self._usages:
                yield self._usages[path]
            if not path:
                return
            path = path.rpartition(b"/")[0]

    # Counting

    def _is_within(self, quota: int, directory: bytes, more: int) -> bool:
        usage = self._usages[directory]
        if usage.walked_at is None:
            self._begin_walk(usage)
            self._wait_for_walk(usage)
            if usage.walked_at is None:
                raise Refused("the receiver still counts what it has", code=Code.BUSY)
        if usage.stored + usage.arriving + more <= quota:
            return True
        fresh = max(_FRESH_SECONDS, _FRESH_SHARE * usage.walk_seconds)
        if more <= quota and _age(usage) > fresh:
            self._begin_walk(usage)
            self._wait_for_walk(usage)
        return usage.stored + usage.arriving + more <= quota

    def _wait_for_walk(self, usage: DirectoryUsage) -> None:
        """Not longer than the walk is worth, however many files are asked about meanwhile."""
        left = max(usage.waited_for_until - time.monotonic(), 0.0)
        self._changed.wait_for(lambda: usage.walk is None, left)

    def _begin_walk(self, usage: DirectoryUsage) -> None:
        if usage.walk is None and not self._closing:
            usage.stored_during_walk = 0
            usage.waited_for_until = time.monotonic() + WALK_PATIENCE
            usage.walk = threading.Thread(target=self._walk, args=[usage], daemon=True)
            usage.walk.start()

    def _walk(self, usage: DirectoryUsage) -> None:
        try:
            with self._walking:
                began = time.monotonic()
                stored = self._disk.stored(usage.directory, lambda: self._closing)
            with self._changed:
                kept = self._disk.kept(usage.directory, self._arriving)
                usage.stored = stored + usage.stored_during_walk + kept
                usage.walked_at = time.monotonic()
                usage.walk_seconds = usage.walked_at - began
        except OSError as error:
            not_counted = logs.about("not_counted")
            log.warning("could not count what is stored: %s", error, extra=not_counted)
        finally:
            with self._changed:
                usage.walk = None
                self._changed.notify_all()


def _charge(reservation: "Reservation", more: int) -> None:
    for usage in reservation.charged:
        usage.arriving += more


def _age(usage: DirectoryUsage) -> float:
    return time.monotonic() - (usage.walked_at or 0.0)


class Account(Struct, frozen=True):
    """One sender's, whose files go below `directory`."""

    ledger: Ledger
    directory: bytes
    limits: Limits

    @property
    def has_limits(self) -> bool:
        return self.limits.max_file_size is not None or self.ledger.counts

    def require(self, size: int, have: int = 0) -> None:
        """Refused when a file of `size` bytes, `have` of them here, would not be taken."""
        self.require_size(size)
        self.ledger.require(self, size - have)

    def require_size(self, size: int) -> None:
        most = self.limits.max_file_size
        if most is not None and size > most:
            raise Refused(f"the receiver takes files of up to {most} bytes", code=Code.TOO_LARGE)

    def reservation(self, partial: bytes, size: int) -> "Reservation | None":
        """For a file that is arriving in a partial of this name, which has `size` bytes.

        None when nobody has any limit on that.
        """
        if not self.has_limits:
            return None
        reservation = Reservation(self, partial, size, size)
        self.ledger.enter(reservation)
        return reservation

    def note_stored(self, reservation: "Reservation | None", path: bytes, size: int) -> None:
        self.ledger.note_stored(reservation, path, size)


class Reservation(Struct, eq=False):
    """What one file that is arriving has reserved: `size` bytes, of which some are written."""

    account: Account
    partial: bytes
    size: int
    written: int
    promised: int = 0
    charged: list[DirectoryUsage] = field(default_factory=list)

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes in all. Refused when there is none."""
        self.account.require_size(size)
        self.account.ledger.reserve(self, size)

    def note_written(self, size: int) -> None:
        """So many bytes in all are on the disk, or on their way to it."""
        self.written = size
        self.account.ledger.note_written(self)

    def release(self, kept: int = 0) -> None:
        """Nothing more will come; so many bytes stay as a partial."""
        self.account.ledger.leave(self, kept)
