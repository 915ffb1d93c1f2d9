"""What is in a local store, for those who may read (`reading.StoreReader`)."""

import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from xfer.errors import Code, LocalError, Refused
from xfer.names import STATE_DIRECTORY, from_bytes, is_safe, to_bytes
from xfer.storage.local.contents import StoredContents
from xfer.storage.local.past import LocalPastReader, damaged, describe
from xfer.storage.os_errors import reading_refusal
from xfer.storage.posix.access import open_for_reading, with_access
from xfer.storage.posix.directories import OPEN_DIRECTORY, Directories
from xfer.storage.posix.files import OpenFile
from xfer.storage.posix.links import NameAt
from xfer.storage.posix.tree import Tree
from xfer.storage.reading import Beat, Held, HeldKind, SnapshotInfo, Version
from xfer.storage.snapshots.catalog import Catalog

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STAMP: Final = re.compile(rb"\d{8}T\d{6}\.\d{6}Z")
_NEVER: Final = "99991231T235959.999999Z"
"""Later than any stamp."""
_KINDS: Final = {
    stat.S_IFREG: HeldKind.FILE,
    stat.S_IFDIR: HeldKind.DIRECTORY,
    stat.S_IFLNK: HeldKind.SYMLINK,
}
_IS_UTF8: Final = sys.getfilesystemencoding() == "utf-8"
"""Whether Python has names on disk as they are on the wire, as it has on nearly all systems."""
_GONE: Final = (FileNotFoundError, NotADirectoryError)


class StoreParts(Struct, frozen=True):
    """The trees of a store, and its state directory, open. None where no receiver has been yet."""

    files: Tree
    versions: Tree | None
    state: int | None


@contextlib.contextmanager
def reading(directory: str) -> Iterator["LocalStoreReader"]:
    """All that is in the local store in `directory`, whether a receiver uses it or not.

    LocalError when the directory cannot be opened.
    """
    with contextlib.ExitStack() as opened:
        try:
            root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, root)
        except OSError as error:
            raise LocalError(f"cannot read {directory}: {error.strerror}") from error
        state = _open_below(opened, root, STATE_DIRECTORY)
        older = None if state is None else _open_below(opened, state, "versions")
        status = None if state is None else os.fstat(state)
        files = Tree(root, forbidden=(status.st_dev, status.st_ino) if status else None)
        versions = None if older is None else Tree(older)
        reader = LocalStoreReader(StoreParts(files, versions, state))
        opened.callback(reader.close)
        yield reader


def _open_below(opened: contextlib.ExitStack, parent: int, name: str) -> int | None:
    """A directory of the store's own; None where no receiver has been, or this user may not look.

    Who may not still sees the files: only their older contents are missing.
    """
    try:
        descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except OSError:
        return None
    opened.callback(os.close, descriptor)
    return descriptor


class LocalStoreReader:
    """Reads what is below `directory`.

    Every directory is opened from the root, component by component and never through
    a link; the one that was used last stays open, since neighbours are asked for
    one after the other.
    """

    def __init__(self, parts: StoreParts, directory: str = "") -> None:
        self._parts = parts
        self._directory = directory
        self._below = to_bytes(directory)
        self._opened = contextlib.ExitStack()
        self._files = _LastDirectory(
            self._opened.enter_context(Directories(parts.files, create=False))
        )
        self._versions: _LastDirectory | None = None
        if parts.versions:
            older = Directories(parts.versions, create=False)
            self._versions = _LastDirectory(self._opened.enter_context(older))

    def close(self) -> None:
        self._opened.close()

    def look(self, name: str) -> Held | None:
        if not name:
            return Held("", HeldKind.DIRECTORY)
        if not is_safe(name):
            return None
        with _found():
            return _held(name, self._files.at(self._path(name)))
        return None

    def children(self, directory: str) -> Iterator[Held]:
        path = self._path(directory)
        with _found():
            for child, name in self._safe(directory, _names_in(self._files.open(path))):
                if held := self._child(name, path, child):
                    yield held

    def _child(self, name: str, path: bytes, child: bytes) -> Held | None:
        with _found():
            return _held(name, NameAt(self._files.open(path), child))
        return None

    def names(self, directory: str) -> Iterator[str]:
        above = f"{directory}/" if directory else ""
        with _found():
            opened = self._files.open(self._path(directory))
            with with_access(opened, lambda: os.scandir(opened)) as entries:
                for entry in entries:
                    yield above + (entry.name if _IS_UTF8 else from_bytes(os.fsencode(entry.name)))

    @staticmethod
    def _safe(directory: str, children: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
        """Each that is a name here, and the name: the store's own directory has no safe one."""
        for child in children:
            own = from_bytes(child)
            name = f"{directory}/{own}" if directory else own
            if is_safe(name):
                yield child, name

    def open(self, name: str) -> OpenFile | None:
        with _found():
            return _opened(self._files.at(self._path(name)))
        return None

    def versions(self, name: str) -> Iterator[Version]:
        kept: list[bytes] = []
        if self._versions and is_safe(name):
            with _found():
                kept += filter(_STAMP.fullmatch, _names_in(self._versions.open(self._path(name))))
        for stamp in sorted(kept):
            if held := self._version(name, stamp):
                yield Version(stamp.decode(), held)

    def _version(self, name: str, stamp: bytes) -> Held | None:
        with _found():
            return _held(name, self._version_at(name, stamp))
        return None

    def open_version(self, name: str, replaced: str) -> OpenFile | None:
        with _found():
            return _opened(self._version_at(name, replaced.encode()))
        return None

    def snapshots(self) -> Iterator[SnapshotInfo]:
        if catalog := self._catalog():
            with _found():
                for snapshot in catalog.snapshots():
                    yield describe(catalog, snapshot)
                yield from damaged(catalog)

    def last_there(self, name: str, before: str, beat: Beat) -> SnapshotInfo | None:
        found = None
        with _found():
            if catalog := self._catalog():
                found = catalog.last_there(name, before or _NEVER, beat)
        return describe(catalog, found) if catalog and found else None

    def past(self, at: str) -> LocalPastReader:
        catalog = self._catalog()
        if catalog is None:
            raise Refused("there is no snapshot", code=Code.NOT_FOUND)
        contents = StoredContents(self._parts.files, self._parts.versions)
        return LocalPastReader(catalog, contents, at, self._directory)

    def _catalog(self) -> Catalog | None:
        state = self._parts.state
        return None if state is None else Catalog(state, self._directory)

    def older_names(self, directory: str) -> Iterator[str]:
        """Those of older contents themselves are no names, so a file whose name is a stamp, of
        its sender's making, is shown as older content of its directory."""
        if self._versions is None:
            return
        with _found():
            names = _names_in(self._versions.open(self._path(directory)))
            others = (name for name in names if not _STAMP.fullmatch(name))
            for _, name in self._safe(directory, others):
                yield name

    def older_directory(self, name: str, replaced: str) -> "LocalStoreReader":
        older = self._parts.versions
        if older is None:
            raise Refused(f"there is no {name} of {replaced}", code=Code.NOT_FOUND)
        return _OlderDirectory(older, self._path(name) + b"/" + replaced.encode(), name)

    def _version_at(self, name: str, stamp: bytes) -> NameAt:
        """FileNotFoundError where nothing was ever kept."""
        if self._versions is None:
            raise FileNotFoundError
        return NameAt(self._versions.open(self._path(name)), stamp)

    def _path(self, name: str) -> bytes:
        return b"/".join(filter(None, (self._below, to_bytes(name))))


class _OlderDirectory(LocalStoreReader):
    """Reads what was called `name` from where it is kept."""

    def __init__(self, versions: Tree, kept_in: bytes, name: str) -> None:
        super().__init__(StoreParts(versions, None, None), from_bytes(kept_in))
        self._name = name

    def _path(self, name: str) -> bytes:
        return super()._path(name[len(self._name) + 1 :])


class _LastDirectory:
    """Opens directories, and keeps open the last one only: a tree can be thousands deep."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._path: bytes | None = None

    def open(self, path: bytes) -> int:
        if path != self._path:
            self._directories.close_beyond(0)
            self._path = path
        return self._directories.open(path)

    def at(self, path: bytes) -> NameAt:
        parent, _, name = path.rpartition(b"/")
        return NameAt(self.open(parent), name)


@contextlib.contextmanager
def _found() -> Iterator[None]:
    """Pass over what is not there, or no more. Refused for what cannot be read."""
    try:
        yield
    except _GONE:
        pass
    except OSError as error:
        raise reading_refusal(error) from error


def _names_in(directory: int) -> Iterator[bytes]:
    """The names in an open directory, one after the other: there may be a million."""
    with with_access(directory, lambda: os.scandir(directory)) as entries:
        for entry in entries:
            yield os.fsencode(entry.name)


def _held(name: str, at: NameAt) -> Held:
    """What has a name now. FileNotFoundError if nothing has."""
    status = at.status()
    if status is None:
        raise FileNotFoundError
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), HeldKind.OTHER)
    target = from_bytes(at.link_target()) if kind is HeldKind.SYMLINK else ""
    size = status.st_size if kind is HeldKind.FILE else 0
    mode = stat.S_IMODE(status.st_mode)
    return Held(name, kind, size, mode, status.st_mtime_ns, status.st_ino, target)


def _opened(at: NameAt) -> OpenFile:
    """A plain file, open. FileNotFoundError if it is none any more."""
    descriptor = open_for_reading(at.name, _READ, at.directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError
    return OpenFile(descriptor)
