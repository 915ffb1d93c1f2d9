"""What snapshots need of the store that has the files: to look, to read, to move out of the way.

Names are whole ones below DIR. Nothing here follows a link, and only plain files have
content: what is something else is not there.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from xfer.storage.reading import StoredFileReader
from xfer.storage.snapshots.lines import FileLine, NameLine


class FileStatus(Struct, frozen=True):
    """A file as it is now. Its inode is the same under every name, and after it was moved."""

    size: int
    mtime_ns: int
    inode: int
    mode: int

    def is_of(self, line: FileLine) -> bool:
        """Whether this is the very file of a line, unchanged since, as far as a look can tell."""
        return (self.size, self.mtime_ns, self.inode) == (line.size, line.mtime_ns, line.inode)


class Reader(StoredFileReader, Protocol):
    """A file, open for reading."""

    def status(self) -> FileStatus:
        """As it is now. Refused if that can't be told."""


class Version(Struct, frozen=True):
    """An older content of a name: since when it is one, what it is, where the store has it."""

    stamp: str
    status: FileStatus
    path: bytes


class Contents(Protocol):
    """A store's files, to be read. Used by one thread at a time."""

    def look(self, name: str) -> FileStatus | None:
        """The plain file under this name; None where none is."""

    def open(self, name: str) -> Reader | None:
        """It, open; None where none is, or it can't be read."""

    def versions(self, name: str) -> Sequence[Version]:
        """All plain files that had this name, as far as they are kept, the oldest first.

        What had the name of a directory above it has its own with it.
        """

    def open_version(self, version: Version) -> Reader | None:
        """One of them, open; None where it is gone, or can't be read."""


class OwnContents(Contents, Protocol):
    """Those of the receiver's own store, which can move names, too."""

    def move_to_versions(self, lines: Sequence[NameLine]) -> int:
        """Take these names away, and keep what they were among their versions; how many.

        What is in a directory comes before the directory, which goes if it is empty then. A
        name that is no longer what its line says is left alone: it is somebody else's. All of
        it is on stable storage afterwards. OSError or Refused when that fails.
        """
