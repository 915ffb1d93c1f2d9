"""How many bytes are below a directory of a local store: a walk that follows no link.

A sender may give directories modes that forbid even their owner to look in.
What is below counts all the same, else a quota could be hidden from.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Container
from typing import Final

from msgspec import Struct

from xfer import logs
from xfer.names import from_bytes, printable
from xfer.storage.local.layout import Layout
from xfer.storage.local.partials import keyed_prefix
from xfer.storage.os_errors import refusal
from xfer.storage.posix.directories import OPEN_DIRECTORY

log = logging.getLogger("xfer.receiver")

_READABLE: Final = 0o500
_NO_ACCESS: Final = getattr(os, "O_PATH", 0)
"""Opens a directory that may not be read; a system without it does not count what is below."""
_LONGEST_PATH: Final = 4000
"""Bytes that go into one call; a name and the directory above it can have more."""


class LocalDisk:
    """The disk that a local store is on."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def stored(self, directory: bytes, stopping: Callable[[], bool]) -> int:
        walk = _Walk(stopping, self._layout.files.forbidden)
        walk.add(self._layout.files.root, directory)
        walk.add(self._layout.versions.root, directory)
        return walk.total

    def kept(self, directory: bytes, but: Container[bytes]) -> int:
        prefix = keyed_prefix(directory)
        total = 0
        for name in map(os.fsencode, os.listdir(self._layout.partials)):
            if name.startswith(prefix) and name not in but:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(name, dir_fd=self._layout.partials).st_size
        return total

    def free(self) -> int:
        try:
            status = os.fstatvfs(self._layout.partials)
        except OSError as error:
            raise refusal(error) from error
        return status.f_bavail * status.f_frsize


class _Restore(Struct, frozen=True):
    """A mode to be given back once everything below has been counted."""

    descriptor: int
    mode: int

    def __call__(self) -> None:
        with contextlib.suppress(OSError):
            _change_mode(self.descriptor, self.mode)
        os.close(self.descriptor)


class _Walk:
    """Adds up sizes. What vanishes meanwhile counts nothing, a file of several names once."""

    def __init__(self, stopping: Callable[[], bool], forbidden: tuple[int, int] | None) -> None:
        self.total = 0
        self._stopping = stopping
        self._forbidden = forbidden
        self._linked: set[tuple[int, int]] = set()

    def add(self, root: int, directory: bytes) -> None:
        pending: list[bytes | _Restore] = [directory]
        try:
            while pending and not self._stopping():
                step = pending.pop()
                if isinstance(step, _Restore):
                    step()
                else:
                    self._count(root, step, pending)
        finally:
            for step in reversed(pending):
                if isinstance(step, _Restore):
                    step()

    def _count(self, root: int, path: bytes, pending: list[bytes | _Restore]) -> None:
        """Add the files of one directory; the directories in it are `pending` then."""
        try:
            descriptor = _open(root, path, pending)
            try:
                self._add_all(descriptor, path, pending)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            name = from_bytes(path)
            log.warning(
                "not counted: %s in %s", error.strerror, printable(name),
                extra=logs.about("not_counted", file_name=name),
            )  # fmt: skip

    def _add_all(self, descriptor: int, path: bytes, pending: list[bytes | _Restore]) -> None:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == self._forbidden:
            return
        with os.scandir(descriptor) as entries:
            for entry in entries:
                self._add(entry, path, pending)

    def _add(self, entry: os.DirEntry[str], path: bytes, pending: list[bytes | _Restore]) -> None:
        if entry.is_dir(follow_symlinks=False):
            name = os.fsencode(entry.name)
            pending.append(path + b"/" + name if path else name)
        elif entry.is_file(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError):
                self._add_file(entry.stat(follow_symlinks=False))

    def _add_file(self, status: os.stat_result) -> None:
        if status.st_nlink > 1:
            identity = status.st_dev, status.st_ino
            if identity in self._linked:
                return
            self._linked.add(identity)
        self.total += status.st_size


def _open(root: int, path: bytes, pending: list[bytes | _Restore]) -> int:
    try:
        return _open_below(root, path, OPEN_DIRECTORY)
    except PermissionError:
        locked = _open_below(root, path, OPEN_DIRECTORY | _NO_ACCESS)
        mode = stat.S_IMODE(os.fstat(locked).st_mode)
        pending.append(_Restore(locked, mode))
        _change_mode(locked, mode | _READABLE)
        return _open_below(root, path, OPEN_DIRECTORY)


def _open_below(root: int, path: bytes, flags: int) -> int:
    """Open a path that may be longer than the system takes at once."""
    if len(path) <= _LONGEST_PATH:
        return os.open(path or b".", flags, dir_fd=root)
    cut = path.rindex(b"/", 0, _LONGEST_PATH)
    above = os.open(path[:cut], OPEN_DIRECTORY | _NO_ACCESS, dir_fd=root)
    try:
        return _open_below(above, path[cut + 1 :], flags)
    finally:
        os.close(above)


def _change_mode(descriptor: int, mode: int) -> None:
    """Of what was opened without access to it, which `fchmod` does not do."""
    os.chmod(f"/proc/self/fd/{descriptor}", mode)
