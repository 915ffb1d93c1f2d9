"""Directories below the root, opened component by component and never through a link."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import Final, Self

from xfer.errors import Code, Refused
from xfer.storage.posix.lock import Lock
from xfer.storage.posix.unflushed import Unflushed

_WRITABLE: Final = 0o300
changing_modes = Lock("modes")
"""Held by whoever changes the mode of a directory for a moment, and has to give it back."""
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def in_spite_of_mode(directory: int, action: Callable[[], None]) -> None:
    """Do `action` in a directory whose mode, which a sender gave it, forbids even its owner to.

    PermissionError where that is not the reason.
    """
    try:
        action()
    except PermissionError:
        with changing_modes:  # another session may be at it in the same directory
            mode = stat.S_IMODE(os.fstat(directory).st_mode)
            if mode & _WRITABLE == _WRITABLE:
                raise
            os.fchmod(directory, mode | _WRITABLE)
            try:
                action()
            finally:
                os.fchmod(directory, mode)


class Tree:
    """A root below which directories are opened and made.

    `forbidden` is the (device, inode) of a directory that must not be entered:
    file systems that fold case or ignore characters have more names for one
    directory than can be listed.
    """

    def __init__(self, root: int, forbidden: tuple[int, int] | None = None) -> None:
        self.root = root
        self.forbidden = forbidden
        self.unflushed = Unflushed()

    def is_unflushed(self, path: bytes) -> bool:
        """Whether some batch has made `path` and not flushed it, yet or ever.

        Whoever relies on it flushes it.
        """
        return path in self.unflushed


class Directories:
    """Descriptors of the directories that one batch touches; closed with it.

    `changed` collects the descriptors in which a name was made, moved or
    replaced, so that they can be flushed; call `flushed` after that.
    """

    def __init__(self, tree: Tree, *, create: bool = True) -> None:
        self._tree = tree
        self._create = create
        self._opened: dict[bytes, int] = {b"": tree.root}
        self._missing: set[bytes] = set()
        self._made: set[bytes] = set()
        self.changed: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go(0)

    def let_go(self, most: int) -> None:
        """If more than so many are open, close them: nobody uses what `open` gave any more."""
        if len(self._opened) <= most:
            return
        for path, descriptor in self._opened.items():
            if path:
                os.close(descriptor)
        self._opened = {b"": self._tree.root}

    def open(self, path: bytes) -> int:
        """The descriptor of the directory `path` below the root, made if missing.

        FileNotFoundError if it is missing and was not to be made.
        """
        if path in self._opened:
            return self._opened[path]
        walked = b""
        for component in path.split(b"/"):
            parent = self._opened[walked]
            walked = walked + b"/" + component if walked else component
            if walked not in self._opened:
                self._opened[walked] = self._open_or_make(walked, component, parent)
        return self._opened[path]

    def will_make(self, paths: Iterable[bytes]) -> None:
        """Nobody may rely on any of `paths` from now on until it is `flushed`."""
        new = set(paths) - self._made
        self._made |= new
        self._tree.unflushed.add(new)

    def flushed(self) -> None:
        """What this batch has made is on stable storage."""
        self._tree.unflushed.remove(self._made)
        self._made.clear()

    def _open_or_make(self, path: bytes, component: bytes, parent: int) -> int:
        if path in self._missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            descriptor = os.open(component, OPEN_DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not self._create:
                self._missing.add(path)
                raise
            self.will_make([path])
            with contextlib.suppress(FileExistsError):  # another thread made it meanwhile
                in_spite_of_mode(parent, lambda: os.mkdir(component, dir_fd=parent))
            descriptor = os.open(component, OPEN_DIRECTORY, dir_fd=parent)
        if self._tree.is_unflushed(path):
            self.changed.add(parent)
        if parent == self._tree.root and self._is_forbidden(descriptor):
            os.close(descriptor)
            raise Refused("unsafe name: it is the receiver's own", code=Code.BAD_NAME)
        return descriptor

    def _is_forbidden(self, descriptor: int) -> bool:
        if self._tree.forbidden is None:
            return False
        status = os.fstat(descriptor)
        return (status.st_dev, status.st_ino) == self._tree.forbidden
