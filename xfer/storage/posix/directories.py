"""Directories below a root, opened component by component and never through a link.

A name is reached from the descriptor of its directory. A path of several
components would be resolved by the kernel, which follows the links on it; and
between two calls with the same path, another program can put a link there.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import Final, Self

from xfer.errors import Code, Refused
from xfer.storage.posix.access import open_for_reading, with_access
from xfer.storage.posix.files import DEFAULT_DIRECTORY_MODE
from xfer.storage.posix.unflushed import SharedUnflushed, Unflushed

_UNTIL_KNOWN: Final = 0o1700
"""The mode of a directory below DIR that was made on the way to a name, until its own is known:
private to the receiver. The sticky bit, which no sender can set, tells it from one that is meant
to be private, after a restart too."""
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def awaits_mode(status: os.stat_result) -> bool:
    """Whether this directory was made on the way to a name, and its own mode is not known yet."""
    return stat.S_IMODE(status.st_mode) & ~stat.S_ISGID == _UNTIL_KNOWN


def give_default_mode(directory: int) -> None:
    """Give an open directory that awaits its mode the one that any program would have given it.

    What it has inherited from the directory above, its set-group-id bit, stays.
    """
    status = os.fstat(directory)
    if awaits_mode(status):
        os.fchmod(directory, DEFAULT_DIRECTORY_MODE | status.st_mode & stat.S_ISGID)


class Tree:
    """A root, open, below which directories are opened and made. Any thread may use it.

    `forbidden` is the (device, inode) of a directory that must not be entered:
    its name is not enough, for a file system that folds case or ignores
    characters has more names for it than can be listed.
    """

    def __init__(
        self, root: int, forbidden: tuple[int, int] | None = None, *, new_mode: int = _UNTIL_KNOWN
    ) -> None:
        """`new_mode` is that of directories that are made on the way to a name."""
        self.root = root
        self.new_mode = new_mode
        self.forbidden = forbidden
        self._device = os.fstat(root).st_dev
        self._unflushed = Unflushed()  # replaced by `share` only; has a lock of its own

    def require_own(self, status: os.stat_result) -> None:
        """Raise for a directory that was opened below the root, and is none of this tree's.

        Refused (bad_name) for the forbidden one, and OSError (EXDEV) for one on another
        file system: no flush of ours reaches what is stored there.
        """
        if (status.st_dev, status.st_ino) == self.forbidden:
            raise Refused("unsafe name: it is the receiver's own", code=Code.BAD_NAME)
        if status.st_dev != self._device:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def share(self, unflushed: SharedUnflushed) -> None:
        """Count unflushed names together with other workers. Call it before any thread starts."""
        self._unflushed = unflushed

    def is_unflushed(self, path: bytes) -> bool:
        """Whether a batch has made the name `path`, and a power cut may still take it.

        A batch that puts something into such a directory flushes the directory
        above it, too. See `unflushed` for when a name stays unflushed for good.
        """
        return path in self._unflushed

    def add_unflushed(self, paths: Iterable[bytes]) -> None:
        """Call it before a name is made."""
        self._unflushed.add(paths)

    def remove_unflushed(self, paths: Iterable[bytes]) -> None:
        """Call it once for each time that a path was added, after a flush has succeeded."""
        self._unflushed.remove(paths)


class Directories:
    """The directories of a tree that one batch needs, each opened once. Closed as a context.

    `changed` has the descriptors to be flushed: of directories in which a name
    was made, moved or replaced. `open` adds those of the directories it made;
    the caller adds the others, and calls `mark_flushed` after the flush.
    The paths of opened directories whose mode is not known yet are added to `awaiting`.

    Used by one thread at a time.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        create: bool = True,
        base: bytes = b"",
        awaiting: set[bytes] | None = None,
    ) -> None:
        """`create=False` makes nothing: `open` raises FileNotFoundError instead.

        `base` is a directory that the receiver's owner has named: if it is made, then
        with the default mode, and so are those above it.
        """
        self._tree = tree
        self._base = base + b"/"
        self._create = create
        self._opened: dict[bytes, int] = {b"": tree.root}
        self._changed_ns: dict[bytes, int] = {b"": 0}
        self._missing: set[bytes] = set()
        self._unflushed: set[bytes] = set()
        self.changed: set[int] = set()
        self.awaiting: set[bytes] = set() if awaiting is None else awaiting

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_beyond(0)

    def close_beyond(self, most: int) -> None:
        """Close all if more than `most` are open. What `open` returned is invalid then."""
        if len(self._opened) <= most:
            return
        for path, descriptor in self._opened.items():
            if path:
                os.close(descriptor)
        self._opened = {b"": self._tree.root}
        self._changed_ns = {b"": 0}

    def open(self, path: bytes) -> int:
        """The descriptor of the directory `path` below the root, made if missing.

        It stays this object's to close. OSError when the directory can't be
        opened or made: NotADirectoryError or ELOOP where something else is, a
        link among them. Refused (bad_name) for the forbidden directory.
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

    def changed_ns(self, path: bytes) -> int:
        """When `path`, which is open, or a directory above it has changed last (its ctime).

        Of those below the root: the root is not moved.
        """
        return self._changed_ns[path]

    def has_open(self, path: bytes) -> bool:
        """Whether this batch has something below the directory `path`."""
        return path in self._opened

    def obstacle(self, path: bytes) -> bytes | None:
        """The first component on the way to `path` that could not be opened; None if that may
        not be replaced: the receiver's owner has named it as a directory."""
        walked = path
        while (above := walked.rpartition(b"/")[0]) not in self._opened:
            walked = above
        return None if self._is_base(walked) else walked

    def _is_base(self, path: bytes) -> bool:
        return self._base.startswith(path + b"/")

    def mark_unflushed(self, paths: Iterable[bytes]) -> None:
        """This batch is about to make names at `paths`, which no session may rely on yet."""
        new = set(paths) - self._unflushed
        self._unflushed |= new
        self._tree.add_unflushed(new)

    def mark_flushed(self) -> None:
        """The directories in `changed` are on stable storage, with the names in them."""
        self._tree.remove_unflushed(self._unflushed)
        self._unflushed.clear()

    def _open_or_make(self, path: bytes, component: bytes, parent: int) -> int:
        if path in self._missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            descriptor = open_for_reading(component, OPEN_DIRECTORY, parent)
        except FileNotFoundError:
            if not self._create:
                self._missing.add(path)
                raise
            self.mark_unflushed([path])
            with contextlib.suppress(FileExistsError):  # another session made it meanwhile
                mode = 0o777 if self._is_base(path) else self._tree.new_mode
                with_access(parent, lambda: os.mkdir(component, mode, dir_fd=parent))
            descriptor = open_for_reading(component, OPEN_DIRECTORY, parent)
        if self._tree.is_unflushed(path):  # made above, or by a batch that has not flushed it
            self.changed.add(parent)
        try:
            status = os.fstat(descriptor)
            self._tree.require_own(status)
        except BaseException:
            os.close(descriptor)
            raise
        if awaits_mode(status):
            self.awaiting.add(path)
        above = self._changed_ns[path.rpartition(b"/")[0]]
        self._changed_ns[path] = max(above, status.st_ctime_ns)
        return descriptor
