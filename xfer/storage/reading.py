"""The other half of a store's contract: what is in it, for those who may read.

    StoreReader       one for a session or a command, from `Store.open_reader`
    Held              what has a name: found by `look` and `children`
    StoredFileReader  a file of the store, open

A reader needs no lock of the store and makes nothing, so it works beside a receiver,
and without one. It sees what is below one directory, and names are relative to that.
Whatever a store keeps for itself has no name here. Errors as of the contract: Refused.
"""

from collections.abc import Iterator
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
    """What has a name: `size` in bytes (of files), `mtime_ns` since 1970, a link's `target`."""

    name: str
    kind: HeldKind
    size: int = 0
    mode: int = 0
    mtime_ns: int = 0
    inode: int = 0
    target: str = ""


class Version(Struct, frozen=True):
    """An older content of a name, and when it was replaced (UTC, 20261123T030002.123456Z)."""

    replaced: str
    held: Held


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
        """Of what is in a directory, in no order, each as `look` takes it; quick: nothing is
        looked at."""

    def open(self, name: str) -> StoredFileReader | None:
        """The file under this name; None where none is any more. Refused if it can't be read."""

    def versions(self, name: str) -> Iterator[Version]:
        """The older contents of this name, oldest first."""

    def open_version(self, name: str, replaced: str) -> StoredFileReader | None:
        """One of `versions`, as `open`."""

    def older_names(self, directory: str) -> Iterator[str]:
        """Names in a directory which have older contents, or names below them do; in no order.

        Most of them are there, others gone.
        """

    def older_directory(self, name: str, replaced: str) -> "StoreReader":
        """What one of `versions` that is a directory holds, under the names that it had then."""

    def close(self) -> None: ...
