"""Directories below a root, opened component by component and never through a link.

A name is reached from the descriptor of its directory. A path of several
components would be resolved by the kernel, which follows the links on it; and
between two calls with the same path, another program can put a link there.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

from xfer.storage.posix.access import open_for_reading, with_access
from xfer.storage.posix.tree import Tree, awaits_mode

_MOST_PASSED: Final = 64
"""Directories on the way to one that are held open with it, the last ones: there can be 2,000."""
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directories:
    """The directories of a tree that one batch needs, each opened once. Closed as a context.

    Those on the way to a very deep one are opened only for a moment, but for the last.

    `changed` has the descriptors to be flushed: of directories in which a name
    was made, moved or replaced. `open` adds those of the directories it made;
    the caller adds the others, and calls `mark_flushed` after the flush. Before
    that, `flush_passed` flushes the ones that are not open any more.
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
        self._passed: set[bytes] = set()

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
        walked, components = path, []
        while walked not in self._opened:
            walked, _, component = walked.rpartition(b"/")
            components.append(component)
        components.reverse()
        if passed := components[:-_MOST_PASSED]:
            walked = self._pass(walked, passed)
        for component in components[-_MOST_PASSED:]:
            parent = self._opened[walked]
            walked = _below(walked, component)
            self._opened[walked] = self._open_or_make(walked, component, parent)
        return self._opened[path]

    def _pass(self, walked: bytes, components: Sequence[bytes]) -> bytes:
        """Open one directory after the other, from an open one on; only the last stays open.

        Where one can't be opened, so does the one above it (see `obstacle`).
        """
        for number, component in enumerate(components):
            above, parent = walked, self._opened[walked]
            walked = _below(above, component)
            self._opened[walked] = self._open_or_make(walked, component, parent)
            if number:  # the first one was open before
                del self._opened[above]
                if parent in self.changed:
                    self.changed.remove(parent)
                    self._passed.add(above)
                os.close(parent)
        return walked

    def changed_ns(self, path: bytes) -> int:
        """When `path`, which is open, or a directory above it has changed last (its ctime).

        Of those below the root: the root is not moved.
        """
        return self._changed_ns[path]

    def has_open(self, path: bytes) -> bool:
        """Whether this batch has something below the directory `path`."""
        return path in self._opened or any(
            opened.startswith(path + b"/") for opened in self._opened
        )

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

    def flush_passed(self, flush: Callable[[Iterable[int]], None]) -> None:
        """Open again and flush what was changed and is not open any more, a few at a time.

        OSError when a flush fails, or a directory has gone.
        """
        if not self._passed:
            return
        with Directories(self._tree, create=False) as again:
            opened: set[int] = set()
            for path in sorted(self._passed):  # each below the one before it, mostly
                if len(opened) == _MOST_PASSED:
                    flush(opened)
                    opened.clear()
                    again.close_beyond(_MOST_PASSED)
                opened.add(again.open(path))
            flush(opened)
        self._passed.clear()

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


def _below(path: bytes, component: bytes) -> bytes:
    return path + b"/" + component if path else component
