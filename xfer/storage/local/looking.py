"""Looking at names in a local store: what is not there is no error, and nothing is followed."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from xfer.names import from_bytes
from xfer.storage.local.stored import MOST_DIRECTORIES
from xfer.storage.os_errors import reading_refusal
from xfer.storage.posix.access import open_for_reading, with_access
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import OpenFile
from xfer.storage.posix.links import NameAt
from xfer.storage.reading import Held, HeldKind

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Final = {
    stat.S_IFREG: HeldKind.FILE,
    stat.S_IFDIR: HeldKind.DIRECTORY,
    stat.S_IFLNK: HeldKind.SYMLINK,
}
_GONE: Final = (FileNotFoundError, NotADirectoryError)


class NearDirectories:
    """Opens directories, and keeps some open: neighbours are asked for one after the other."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._path: bytes | None = None

    def open(self, path: bytes) -> int:
        """Valid until another one is opened."""
        if path != self._path:
            self._directories.close_beyond(MOST_DIRECTORIES)
            self._path = path
        return self._directories.open(path)

    def at(self, path: bytes) -> NameAt:
        parent, _, name = path.rpartition(b"/")
        return NameAt(self.open(parent), name)


@contextlib.contextmanager
def found() -> Iterator[None]:
    """Pass over what is not there, or no more. Refused for what cannot be read."""
    try:
        yield
    except _GONE:
        pass
    except OSError as error:
        raise reading_refusal(error) from error


def names_in(directory: int) -> Iterator[bytes]:
    """The names in an open directory, one after the other: there may be a million."""
    with with_access(directory, lambda: os.scandir(directory)) as entries:
        for entry in entries:
            yield os.fsencode(entry.name)


def held_at(name: str, at: NameAt) -> Held:
    """What has a name now. FileNotFoundError if nothing has."""
    status = at.status()
    if status is None:
        raise FileNotFoundError
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), HeldKind.OTHER)
    target = from_bytes(at.link_target()) if kind is HeldKind.SYMLINK else ""
    size = status.st_size if kind is HeldKind.FILE else 0
    mode = stat.S_IMODE(status.st_mode)
    return Held(name, kind, size, mode, status.st_mtime_ns, status.st_ino, target)


def opened_at(at: NameAt) -> OpenFile:
    """A plain file, open. FileNotFoundError if it is none any more."""
    descriptor = open_for_reading(at.name, _READ, at.directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError
    return OpenFile(descriptor)
