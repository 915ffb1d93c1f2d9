"""Who may fill how much: quotas, the size of one file, and what of the disk stays free.

Room is reserved before a body is received, so that no number of senders at once
exceeds a limit. Before a sender is refused, what its directory holds is counted
again, for the owner may have deleted files by hand. All sizes are in bytes.

One file that arrives, and what is counted as what:

    Account.reservation   a partial of 0 bytes, or what an earlier session left   arriving
    Reservation.reserve   its whole size, before its bytes come                    arriving
    Reservation.release   it is given up: nothing is left, or a partial            stored
    Account.note_stored   it was committed: its bytes replace its reservation      stored
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from xfer.errors import Code, Refused
from xfer.storage.contract import Limits
from xfer.storage.directory_usage import DirectoryUsage, Disk, Walks

_OLD_SECONDS: Final = 3600.0
"""After so long a directory is counted again when a sender comes for it."""


class Ledger:
    """What each directory with a quota holds, and what is arriving; one for a store.

    Any thread may call it. Public methods take the lock, `_changed`, but for `counts`;
    private ones are called with it held.
    `min_free` is what stays free on the disk, None for nothing.
    """

    def __init__(self, disk: Disk, min_free: int | None) -> None:
        self._disk = disk
        self._min_free = min_free
        # Guards all that follows, and what is in each usage and reservation. Notified when a walk
        # ends. Reentrant: `reserve` has it when it calls `require`.
        self._changed = threading.Condition()
        self._usages: dict[bytes, DirectoryUsage] = {}
        self._arriving: set[bytes] = set()
        self._promised = 0
        """Bytes that are reserved and not written yet."""
        self._walks = Walks(disk, self._changed, self._arriving)

    def open(self, directory: bytes, limits: Limits) -> "Account":
        """The account of a sender whose files go below `directory`; returns at once.

        If it has a quota, what the directory holds begins to be counted.
        """
        if limits.quota is not None:
            with self._changed:
                usage = self._usages.setdefault(directory, DirectoryUsage(directory))
                if usage.age > _OLD_SECONDS:
                    self._walks.begin(usage)
        return Account(self, directory, limits)

    @property
    def counts(self) -> bool:
        """Whether there is any limit for which bytes have to be counted.

        Without the lock: there are only ever more usages. A file that began to
        arrive when there was none has no reservation, and counts once it is stored.
        """
        return self._min_free is not None or bool(self._usages)

    def close(self) -> None:
        """Return once no walk is under way any more."""
        self._walks.close(self._usages.values())

    # What reservations and accounts do

    def enter(self, reservation: "Reservation") -> None:
        """A partial is arriving, and what it holds counts as that from now on."""
        with self._changed:
            directory = reservation.account.directory
            self._arriving.add(reservation.partial)
            reservation.charge(self._over(directory))
            if own := self._usages.get(directory):
                own.add_kept(-reservation.size)

    def reserve(self, reservation: "Reservation", size: int) -> None:
        with self._changed:
            if size > reservation.size:
                self.require(reservation.account, size - reservation.size)
                reservation.resize(size)
                self._promised += reservation.update_promised()

    def note_written(self, reservation: "Reservation") -> None:
        if self._min_free is not None:
            with self._changed:
                self._promised += reservation.update_promised()

    def leave(self, reservation: "Reservation", kept: int) -> None:
        """It arrives no more; `kept` bytes of it stay as a partial."""
        with self._changed:
            self._leave(reservation)
            if kept and (own := self._usages.get(reservation.account.directory)):
                own.add_kept(kept)

    def note_stored(self, reservation: "Reservation | None", path: bytes, size: int) -> None:
        """What arrived is stored at `path`, where there are `size` bytes more than before."""
        with self._changed:
            if reservation:
                self._leave(reservation)
            for usage in self._over(path):
                usage.add_stored(size)

    def require(self, account: "Account", more: int) -> None:
        """Refused when there is no room for so many bytes more.

        Waits for up to 10 seconds where what is stored has to be counted first,
        and is Refused (busy) when that takes longer.
        """
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

    def _is_within(self, quota: int, directory: bytes, more: int) -> bool:
        usage = self._usages[directory]
        if usage.walked_at is None:
            self._walks.renew(usage)
            if usage.walked_at is None:
                raise Refused("the receiver still counts what it has", code=Code.BUSY)
        if usage.has_room(quota, more):
            return True
        if more <= quota and not usage.is_fresh:
            self._walks.renew(usage)
        return usage.has_room(quota, more)

    def _leave(self, reservation: "Reservation") -> None:
        self._arriving.discard(reservation.partial)
        reservation.clear()
        self._promised += reservation.update_promised()

    def _over(self, path: bytes) -> Iterator[DirectoryUsage]:
        """The usages of the directories that `path` is in, itself included."""
        while self._usages:
            if path in self._usages:
                yield self._usages[path]
            if not path:
                return
            path = path.rpartition(b"/")[0]


class Account(Struct, frozen=True):
    """What one sender may store below `directory`, whose path below the store it is."""

    ledger: Ledger
    directory: bytes
    limits: Limits

    @property
    def has_limits(self) -> bool:
        return self.limits.max_file_size is not None or self.ledger.counts

    def require(self, size: int, have: int = 0) -> None:
        """Refused when a file of `size` bytes, `have` of which are here, has no room."""
        self.require_size(size)
        self.ledger.require(self, size - have)

    def require_size(self, size: int) -> None:
        """Refused when no file may be as large."""
        most = self.limits.max_file_size
        if most is not None and size > most:
            raise Refused(f"the receiver takes files of up to {most} bytes", code=Code.TOO_LARGE)

    def reservation(self, partial: bytes, size: int) -> "Reservation | None":
        """For a file that arrives in a partial of this name, which has `size` bytes.

        None when there is no limit, and nothing to count.
        """
        if not self.has_limits:
            return None
        reservation = Reservation(self, partial, size, size)
        self.ledger.enter(reservation)
        return reservation

    def note_stored(self, reservation: "Reservation | None", path: bytes, size: int) -> None:
        """What had the reservation is committed at `path`, now `size` bytes more than before."""
        self.ledger.note_stored(reservation, path, size)


class Reservation(Struct, eq=False):
    """What one arriving file has reserved: `size` bytes, `written` of which are there.

    `written` belongs to the thread that has the partial. All else is guarded by
    the ledger's lock, which is held by who calls the last four methods.
    """

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
        """No more bytes will come; `kept` of them stay as a partial."""
        self.account.ledger.leave(self, kept)

    # For the ledger

    def charge(self, usages: Iterable[DirectoryUsage]) -> None:
        """Count what it reserves as arriving in each of `usages`."""
        self.charged.extend(usages)
        for usage in self.charged:
            usage.add_arriving(self.size)

    def resize(self, size: int) -> None:
        for usage in self.charged:
            usage.add_arriving(size - self.size)
        self.size = size

    def clear(self) -> None:
        """Reserve nothing, and count nowhere any more."""
        self.resize(0)
        self.charged.clear()

    def update_promised(self) -> int:
        """Bring `promised` up to date; by how many bytes it grew, negative where it shrank."""
        before = self.promised
        self.promised = max(self.size - self.written, 0)
        return self.promised - before
