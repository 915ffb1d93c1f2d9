"""The files of a local store, as snapshots look at them (`snapshots.contents.Contents`)."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from xfer.errors import Refused
from xfer.names import to_bytes
from xfer.storage.local.layout import Layout
from xfer.storage.local.stored import open_plain, status_at
from xfer.storage.os_errors import refusal
from xfer.storage.posix.access import with_access
from xfer.storage.posix.directories import Directories, Tree
from xfer.storage.posix.files import OpenFile
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import NameAt
from xfer.storage.posix.versions import link_version
from xfer.storage.snapshots.contents import FileStatus, Version
from xfer.storage.snapshots.lines import DirectoryLine, FileLine, NameLine, SymlinkLine
from xfer.storage.snapshots.stamps import is_stamp

_MOST_OPEN: Final = 64
"""Directories that are open at once while names are moved, in either tree."""
_GONE: Final = (OSError, Refused)
"""What cannot be looked at is not there: a link or a mount is on the way, for example."""


class ContentReader(OpenFile):
    """A stored file, open (`snapshots.contents.Reader`)."""

    def status(self) -> FileStatus:
        try:
            return _of(os.fstat(self._descriptor))
        except OSError as error:
            raise refusal(error) from error


class StoredContents:
    """The files of a store, to be read. For one thread at a time. It holds nothing open."""

    def __init__(self, files: Tree, versions: Tree | None) -> None:
        """`versions` is None where no receiver has been yet."""
        self._files = files
        self._versions = versions

    def look(self, name: str) -> FileStatus | None:
        return _look(self._files, to_bytes(name))

    def open(self, name: str) -> ContentReader | None:
        return _open(self._files, to_bytes(name))

    def versions(self, name: str) -> list[Version]:
        path = to_bytes(name)
        found = [
            Version(os.fsdecode(stamp), status, kept)
            for stamp, kept in self._kept(path)
            if self._versions and (status := _look(self._versions, kept))
        ]
        return sorted(found, key=lambda version: version.stamp)

    def _kept(self, path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The stamps of all versions of the name and of those above it, and where it is in each."""
        components = path.split(b"/")
        for number in range(1, len(components) + 1):
            above = b"/".join(components[:number])
            below = b"".join(b"/" + component for component in components[number:])
            for stamp in _stamps_in(self._versions, above) if self._versions else ():
                yield stamp, above + b"/" + stamp + below

    def open_version(self, version: Version) -> ContentReader | None:
        return _open(self._versions, version.path) if self._versions else None


class LocalContents(StoredContents):
    """Those of a receiver's own store, which can move names, too. `flusher` is its thread's."""

    def __init__(self, layout: Layout, flusher: Flusher) -> None:
        super().__init__(layout.files, layout.versions)
        self._layout = layout
        self._flusher = flusher

    def move_to_versions(self, lines: Sequence[NameLine]) -> int:
        return sum(map(self._move, _few_directories(lines)))

    def _move(self, lines: Sequence[NameLine]) -> int:
        """Link them all, flush, remove them all, flush: nothing is lost in between.

        The lock is that of sessions which replace what has a name: none does meanwhile.
        """
        self._layout.restore_versions()
        with (
            self._layout.installing,
            Directories(self._layout.files, create=False) as files,
            Directories(self._layout.versions) as versions,
        ):
            there = [(line, at) for line in lines if (at := _unchanged(files, line))]
            for line, at in there:
                if not isinstance(line, DirectoryLine):
                    kept_in = versions.open(to_bytes(line.name))
                    link_version(at, kept_in)
                    versions.changed.add(kept_in)
            self._flusher.flush_names(versions.changed, (), has_others=True)
            versions.mark_flushed()
            removed = [at for line, at in there if _remove(line, at)]
            changed = {at.directory for at in removed}
            self._flusher.flush_names(changed, (), has_others=True)
        return len(removed)


def _few_directories(lines: Sequence[NameLine]) -> Iterator[Sequence[NameLine]]:
    """The lines in the same order, in groups that need few open directories each."""
    group: list[NameLine] = []
    needed: set[bytes] = set()
    for line in lines:
        path = to_bytes(line.name)
        on_the_way = {path[:at] for at, byte in enumerate(path) if byte == ord("/")} | {path}
        if group and len(needed | on_the_way) > _MOST_OPEN:
            yield group
            group, needed = [], set()
        group.append(line)
        needed |= on_the_way
    if group:
        yield group


def _unchanged(files: Directories, line: NameLine) -> NameAt | None:
    """Where the name of a line is, if that is still what the line says."""
    parent, _, name = to_bytes(line.name).rpartition(b"/")
    try:
        at = NameAt(files.open(parent), name)
        status = at.status()
        return at if status and _is_of(line, at, status) else None
    except _GONE:
        return None


def _is_of(line: NameLine, at: NameAt, status: os.stat_result) -> bool:
    match line:
        case FileLine():
            return stat.S_ISREG(status.st_mode) and _of(status).is_of(line)
        case SymlinkLine():
            return stat.S_ISLNK(status.st_mode) and at.link_target() == to_bytes(line.target)
        case DirectoryLine():
            return stat.S_ISDIR(status.st_mode)


def _remove(line: NameLine, at: NameAt) -> bool:
    """A directory in which something is left stays: it is not this job's alone."""
    remove = os.rmdir if isinstance(line, DirectoryLine) else os.unlink
    try:
        with_access(at.directory, lambda: remove(at.name, dir_fd=at.directory))
    except FileNotFoundError:
        return False
    except OSError:
        if isinstance(line, DirectoryLine):
            return False
        raise
    return True


def _look(tree: Tree, path: bytes) -> FileStatus | None:
    with contextlib.suppress(*_GONE), Directories(tree, create=False) as directories:
        status = status_at(directories, path)
        if stat.S_ISREG(status.st_mode):
            return _of(status)
    return None


def _open(tree: Tree, path: bytes) -> ContentReader | None:
    parent, _, name = path.rpartition(b"/")
    with contextlib.suppress(*_GONE), Directories(tree, create=False) as directories:
        return ContentReader(open_plain(NameAt(directories.open(parent), name)))
    return None


def _stamps_in(tree: Tree, path: bytes) -> list[bytes]:
    with contextlib.suppress(*_GONE), Directories(tree, create=False) as directories:
        names = os.listdir(directories.open(path))
        return [os.fsencode(name) for name in names if is_stamp(name)]
    return []


def _of(status: os.stat_result) -> FileStatus:
    mode = stat.S_IMODE(status.st_mode)
    return FileStatus(status.st_size, status.st_mtime_ns, status.st_ino, mode)
