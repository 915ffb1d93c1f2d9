"""What has a name in a local store: looked at, read, or given another mode and time."""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from xfer.errors import Refused
from xfer.names import to_bytes
from xfer.storage.contract import Metadata, StoredFile
from xfer.storage.local.flushed import Flushed
from xfer.storage.posix.access import open_for_reading, with_access
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import OpenFile, apply_metadata, stored_file
from xfer.storage.posix.links import NameAt
from xfer.storage.posix.tree import Tree

_AT_ONCE: Final = 16
"""Files held open while they are flushed."""
MOST_DIRECTORIES: Final = 128
"""Directories held open while many names are looked up; they can be thousands deep."""
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StoredNames:
    """The names that one session sees: those below a directory of the tree.

    Nothing is made, and no link is followed. See `contract.StoreWriter`.
    """

    def __init__(self, tree: Tree, flushed: Flushed, below: str) -> None:
        """`below` comes in front of every name; empty, or with "/" at its end."""
        self._tree = tree
        self._flushed = flushed
        self._below = below

    def statuses(self, files: Sequence[str]) -> list[StoredFile | None]:
        with self._directories() as directories:
            return [self._stored(directories, to_bytes(self._below + name)) for name in files]

    def _stored(self, directories: Directories, path: bytes) -> StoredFile | None:
        """A name that a session has not flushed yet is not stored yet, nor is what may be lost."""
        try:
            status = status_at(directories, path)
        except (OSError, Refused):
            return None
        if not stat.S_ISREG(status.st_mode) or self._tree.is_unflushed(path):
            return None
        if self._flushed.is_doubtful(status.st_ctime_ns):
            return None
        changed_ns = max(status.st_ctime_ns, directories.changed_ns(path.rpartition(b"/")[0]))
        return stored_file(status, flushed=self._flushed.is_flushed(changed_ns))

    def flush(self, files: Sequence[str]) -> set[str]:
        """Flush what has these names; those that may be lost."""
        lost: set[str] = set()
        changed_ns = None
        if not self._flushed.tells_errors:
            changed_ns = 0
            for start in range(0, len(files), _AT_ONCE):
                some = files[start : start + _AT_ONCE]
                changed_ns = max(changed_ns, self._flush_each(some, lost))
        try:
            self._flushed.flush_all(changed_ns)
        except OSError:
            return set(files)
        return lost

    def _flush_each(self, files: Sequence[str], lost: set[str]) -> int:
        """Flush the content of each; adds to `lost`. When one of them, or a directory, changed."""
        opened: dict[int, str] = {}
        changed_ns = 0
        with contextlib.ExitStack() as closed, self._directories() as directories:
            for name in files:
                try:
                    descriptor = open_plain(self._name_at(directories, name))
                except (OSError, Refused):
                    lost.add(name)
                    continue
                closed.callback(os.close, descriptor)
                opened[descriptor] = name
                above = directories.changed_ns(to_bytes(self._below + name).rpartition(b"/")[0])
                changed_ns = max(changed_ns, above, os.fstat(descriptor).st_ctime_ns)
            lost.update(opened[one] for one in self._flushed.flush_each(list(opened)))
        return changed_ns

    def absent(self, directories: Sequence[str]) -> list[str]:
        with self._directories() as opened:
            return [
                name for name in directories if _is_absent(opened, to_bytes(self._below + name))
            ]

    def open(self, name: str) -> OpenFile | None:
        with self._directories() as directories:
            try:
                return OpenFile(open_plain(self._name_at(directories, name)))
            except (OSError, Refused):
                return None  # nothing there that could spare a transfer

    def set_metadata(self, name: str, metadata: Metadata) -> bool:
        """Another program can have put a file of its own there since the status was asked for."""
        with contextlib.ExitStack() as opened:
            try:
                at = self._name_at(opened.enter_context(self._directories()), name)
                descriptor = open_plain(at)
            except (OSError, Refused):
                return True
            opened.callback(os.close, descriptor)
            if not at.is_only_name_of(descriptor):
                return False
            with contextlib.suppress(OSError):  # another user's file, a read-only disk
                apply_metadata(descriptor, metadata)
        return True

    def _directories(self) -> Directories:
        return Directories(self._tree, create=False)

    def _name_at(self, directories: Directories, name: str) -> NameAt:
        parent, _, own = to_bytes(self._below + name).rpartition(b"/")
        return NameAt(directories.open(parent), own)


def open_plain(at: NameAt) -> int:
    """Open the plain file that has this name, for reading. OSError if that can't be done."""
    descriptor = open_for_reading(at.name, _READ, at.directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return descriptor


def status_at(directories: Directories, path: bytes) -> os.stat_result:
    """Of what has the name, not followed if it is a link. OSError or Refused as of `open`."""
    parent, _, name = path.rpartition(b"/")
    directories.close_beyond(MOST_DIRECTORIES)
    directory = directories.open(parent)
    return with_access(directory, lambda: os.stat(name, dir_fd=directory, follow_symlinks=False))


def _is_absent(directories: Directories, path: bytes) -> bool:
    try:
        status_at(directories, path)
    except FileNotFoundError:
        return True
    except (OSError, Refused):
        pass  # something is there, in its place or in that of a directory above it
    return False
