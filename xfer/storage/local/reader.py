"""What is in a local store, for those who may read (`reading.StoreReader`)."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from xfer.errors import Code, LocalError, Refused
from xfer.names import STATE_DIRECTORY, from_bytes, is_safe, to_bytes
from xfer.storage.local.contents import StoredContents
from xfer.storage.local.looking import NearDirectories, found, held_at, names_in, opened_at
from xfer.storage.local.past import LocalPastReader, damaged, describe
from xfer.storage.posix.access import with_access
from xfer.storage.posix.directories import OPEN_DIRECTORY, Directories
from xfer.storage.posix.files import OpenFile
from xfer.storage.posix.links import NameAt
from xfer.storage.posix.tree import Tree
from xfer.storage.reading import Beat, Held, HeldKind, SnapshotInfo, Version
from xfer.storage.snapshots.catalog import Catalog

_STAMP: Final = re.compile(rb"\d{8}T\d{6}\.\d{6}Z")
_NEVER: Final = "99991231T235959.999999Z"
"""Later than any stamp."""
_IS_UTF8: Final = sys.getfilesystemencoding() == "utf-8"
"""Whether Python has names on disk as they are on the wire, as it has on nearly all systems."""


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

    Every directory is opened from the root, component by component and never through a link.
    """

    def __init__(self, parts: StoreParts, directory: str = "") -> None:
        self._parts = parts
        self._directory = directory
        self._below = to_bytes(directory)
        self._opened = contextlib.ExitStack()
        self._files = NearDirectories(
            self._opened.enter_context(Directories(parts.files, create=False))
        )
        self._versions: NearDirectories | None = None
        if parts.versions:
            older = Directories(parts.versions, create=False)
            self._versions = NearDirectories(self._opened.enter_context(older))

    def close(self) -> None:
        self._opened.close()

    def look(self, name: str) -> Held | None:
        if not name:
            return Held("", HeldKind.DIRECTORY)
        if not is_safe(name):
            return None
        with found():
            return held_at(name, self._files.at(self._path(name)))
        return None

    def children(self, directory: str) -> Iterator[Held]:
        path = self._path(directory)
        with found():
            for child, name in self._safe(directory, names_in(self._files.open(path))):
                if held := self._child(name, path, child):
                    yield held

    def _child(self, name: str, path: bytes, child: bytes) -> Held | None:
        with found():
            return held_at(name, NameAt(self._files.open(path), child))
        return None

    def names(self, directory: str) -> Iterator[str]:
        above = f"{directory}/" if directory else ""
        with found():
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
        with found():
            return opened_at(self._files.at(self._path(name)))
        return None

    def versions(self, name: str) -> Iterator[Version]:
        kept: list[bytes] = []
        if self._versions and is_safe(name):
            with found():
                kept += filter(_STAMP.fullmatch, names_in(self._versions.open(self._path(name))))
        for stamp in sorted(kept):
            if held := self._version(name, stamp):
                yield Version(stamp.decode(), held)

    def _version(self, name: str, stamp: bytes) -> Held | None:
        with found():
            return held_at(name, self._version_at(name, stamp))
        return None

    def open_version(self, name: str, replaced: str) -> OpenFile | None:
        with found():
            return opened_at(self._version_at(name, replaced.encode()))
        return None

    def snapshots(self) -> Iterator[SnapshotInfo]:
        if catalog := self._catalog():
            with found():
                for snapshot in catalog.snapshots():
                    yield describe(catalog, snapshot)
                yield from damaged(catalog)

    def last_there(self, name: str, before: str, beat: Beat) -> SnapshotInfo | None:
        if catalog := self._catalog():
            with found():
                last = catalog.last_there(name, before or _NEVER, beat)
                return describe(catalog, last) if last else None
        return None

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
        with found():
            names = names_in(self._versions.open(self._path(directory)))
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
