"""What a local store held at a moment, by its snapshots (`reading.PastReader`)."""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from xfer.errors import Code, Refused
from xfer.storage.local.contents import StoredContents
from xfer.storage.os_errors import refusal
from xfer.storage.reading import (
    Beat,
    Held,
    HeldKind,
    SnapshotCounts,
    SnapshotInfo,
    StoredFileReader,
)
from xfer.storage.snapshots.catalog import Catalog, Snapshot
from xfer.storage.snapshots.errors import DamagedManifest
from xfer.storage.snapshots.lines import (
    DirectoryLine,
    FailedLine,
    FileLine,
    Line,
    NameLine,
    sort_key,
)
from xfer.storage.snapshots.locate import Locator


class PastHeld(Held, frozen=True, kw_only=True):
    """A file of a snapshot, and its line, from which its content is found."""

    line: FileLine


class LocalPastReader:
    """The newest complete snapshot of each key and job at or before a stamp. One thread uses it.

    A name that several of them have is as the newest has it. What is no directory there
    has nothing below it, whatever older ones have.
    """

    def __init__(self, catalog: Catalog, contents: StoredContents, at: str, below: str) -> None:
        """`below` is in front of the names of lines, for those who see only that directory.

        Refused (not_found) where there is no snapshot so old.
        """
        self._catalog = catalog
        self._contents = contents
        self._at = at
        self._below = below
        try:
            self._chosen = _newest_whole(catalog, at)
            if not self._chosen:
                raise self._too_early()
        except OSError as error:
            raise refusal(error) from error

    @property
    def chosen(self) -> list[SnapshotInfo]:
        """The newest first, and then what is damaged."""
        chosen = [describe(self._catalog, one) for one in self._chosen]
        return chosen + [one for one in damaged(self._catalog) if one.stamp <= self._at]

    def walk(self, names: Sequence[str]) -> Iterator[Held]:
        each = (self._keyed(number, names) for number in range(len(self._chosen)))
        last = b""
        hiding, hidden_from = b"", 0
        for key, number, line in heapq.merge(*each, key=lambda one: one[:2]):
            is_hidden = bool(hiding) and number > hidden_from and key.startswith(hiding)
            if key != last and not isinstance(line, FailedLine) and not is_hidden:
                if not isinstance(line, DirectoryLine):
                    hiding, hidden_from = key + b"\0", number
                yield _held(line)
            last = key

    def _keyed(self, number: int, names: Sequence[str]) -> Iterator[tuple[bytes, int, Line]]:
        for line in self._catalog.lines(self._chosen[number], names):
            yield sort_key(line.name), number, line

    def open(self, held: Held, beat: Beat) -> StoredFileReader | None:
        if not isinstance(held, PastHeld):
            return None
        line = held.line
        if self._below:
            line = replace(line, name=f"{self._below}/{line.name}")
        located = Locator(self._contents, beat).locate(line)
        return located.reader if located else None

    def _too_early(self) -> Refused:
        first = next((one for one in self._catalog.snapshots() if one.is_complete), None)
        if first is None:
            return Refused("there is no complete snapshot yet", code=Code.NOT_FOUND)
        return Refused(
            f"there is no complete snapshot at or before {self._at}: the first is of {first.stamp}",
            code=Code.NOT_FOUND,
        )


def _newest_whole(catalog: Catalog, at: str) -> list[Snapshot]:
    """The newest complete snapshots, the newest first, each of which was read to its end.

    One that is damaged anywhere is passed over for the one before it, rather than found to
    be so when half of it has been given.
    """
    while True:
        chosen = sorted(catalog.newest_at(at), key=lambda one: one.stamp, reverse=True)
        try:
            for one in chosen:
                deque(catalog.lines(one), maxlen=0)
        except DamagedManifest:
            continue
        return chosen


def _held(line: NameLine) -> Held:
    if isinstance(line, FileLine):
        return PastHeld(
            line.name,
            HeldKind.FILE,
            line.size,
            line.mode,
            line.mtime_ns,
            digest=line.digest,
            line=line,
        )
    if isinstance(line, DirectoryLine):
        return Held(line.name, HeldKind.DIRECTORY, 0, line.mode, line.mtime_ns)
    return Held(line.name, HeldKind.SYMLINK, target=line.target)


def describe(catalog: Catalog, snapshot: Snapshot) -> SnapshotInfo:
    """A snapshot for those who ask; its counts only for those who see all of it."""
    header, footer = snapshot.header, snapshot.footer
    has_counts = catalog.shows_all_of(snapshot)
    return SnapshotInfo(
        header.key_id,
        header.job,
        snapshot.stamp,
        snapshot.is_complete,
        footer.held,
        False,
        SnapshotCounts(
            footer.names, footer.files, footer.bytes, footer.new, footer.changed, footer.gone
        )
        if has_counts
        else None,
    )


def damaged(catalog: Catalog) -> list[SnapshotInfo]:
    """What the catalog has found to be damaged so far, as far as its key is the asker's to know."""
    return [
        SnapshotInfo(placed.key_id, placed.job, placed.stamp, False, False, is_damaged=True)
        for placed in catalog.damaged_ones()
    ]
