"""The other half of a store's contract: what is in it, for those who may read.

    StoreReader       one for a session or a command, from `Store.open_reader`
    PastReader        what there was at a moment, by the store's snapshots
    Held              what has a name: found by `look` and `children`
    StoredFileReader  a file of the store, open

A reader needs no lock of the store and makes nothing, so it works beside a receiver,
and without one. It sees what is below one directory, and names are relative to that.
Whatever a store keeps for itself has no name here. Errors as of the contract: Refused.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class HeldKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"
    """A FIFO, a socket or a device that another program has put there."""


class Held(Struct, frozen=True):
    """What has a name: `size` in bytes (of files), `mtime_ns` since 1970, a link's `target`.

    Mode, time and digest (algorithm and hex) are None where they are not known.
    """

    name: str
    kind: HeldKind
    size: int = 0
    mode: int | None = None
    mtime_ns: int | None = None
    inode: int = 0
    target: str = ""
    digest: tuple[str, str] | None = None


class Version(Struct, frozen=True):
    """An older content of a name, and when it was replaced (UTC, 20261123T030002.123456Z)."""

    replaced: str
    held: Held


class SnapshotCounts(Struct, frozen=True):
    """Names, files and bytes of a snapshot, and what it has new, changed or no more."""

    names: int = 0
    files: int = 0
    size: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0


class SnapshotInfo(Struct, frozen=True):
    """A snapshot: whose, of which job and when (UTC, by the receiver's clock).

    `counts` are None for who sees only a part of it. Of one whose manifest `is_damaged`
    nothing else is known.
    """

    key_id: str
    job: str
    stamp: str
    is_complete: bool
    is_held: bool
    is_damaged: bool = False
    counts: SnapshotCounts | None = None


Beat = Callable[[int, int], None]
"""Called with done and size (bytes) now and then, while something is read."""


class Readable(Protocol):
    """Bytes in the store that can be read."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, view: memoryview) -> int:
        """Fill the front of `view` from `offset` on; how many bytes. Refused if that fails."""


class StoredFileReader(Readable, Protocol):
    """A stored file, open for reading. It reads the same file even if that is replaced."""

    @property
    def mode(self) -> int: ...

    @property
    def mtime_ns(self) -> int: ...

    def close(self) -> None: ...


class StoreReader(Protocol):
    """What one session sees of a store. Used by one thread at a time."""

    def look(self, name: str) -> Held | None:
        """What has this name, never through a link; None if nothing has. The empty name is all."""

    def children(self, directory: str) -> Iterator[Held]:
        """What is in a directory, in no order, however much that is; nothing if it is gone."""

    def names(self, directory: str) -> Iterator[str]:
        """Of what is in a directory, in no order, and quickly: nothing is looked at.

        Among them may be some that are no names here: `look` finds nothing there.
        """

    def open(self, name: str) -> StoredFileReader | None:
        """The file under this name; None where none is any more. Refused if it can't be read."""

    def versions(self, name: str) -> Iterator[Version]:
        """The older contents of this name, oldest first."""

    def open_version(self, name: str, replaced: str) -> StoredFileReader | None:
        """One of `versions`, as `open`."""

    def snapshots(self) -> Iterator[SnapshotInfo]:
        """All of which something is below this reader's directory, the oldest first."""

    def last_there(self, name: str, before: str, beat: Beat) -> SnapshotInfo | None:
        """The newest complete snapshot before this stamp that has the name, or names below it.

        With the empty stamp, the newest of all.
        """

    def past(self, at: str) -> "PastReader":
        """What there was at this stamp. Refused (not_found) where no snapshot is so old."""

    def older_names(self, directory: str) -> Iterator[str]:
        """Names in a directory which have older contents, or names below them do; in no order.

        Most of them are there, others gone.
        """

    def older_directory(self, name: str, replaced: str) -> "StoreReader":
        """What one of `versions` that is a directory holds, under the names that it had then."""

    def close(self) -> None: ...


class PastReader(Protocol):
    """The newest complete snapshots at or before a moment, of each key and job."""

    @property
    def chosen(self) -> Sequence[SnapshotInfo]:
        """Those snapshots, and what was passed over because it is damaged."""

    def walk(self, names: Sequence[str]) -> Iterator[Held]:
        """What had these names and was below them, each directory before all that it held.

        Of no names, all there was.
        """

    def open(self, held: Held, beat: Beat) -> StoredFileReader | None:
        """The content of a file, all of which was just checked; None if it is not kept any more."""
