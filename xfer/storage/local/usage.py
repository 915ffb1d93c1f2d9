"""How many bytes a directory of a local store holds: a walk that follows no link.

A sender can give a directory a mode that forbids even its owner, this process,
to look into it. It is made readable while it is walked: otherwise a sender could
hide files from its quota.
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
"""Opens a directory that may not be read. A system without it does not count what is below."""
_LONGEST_PATH: Final = 4000
"""Bytes that a system call takes; a name below the directory of a sender can have more."""


class LocalDisk:
    """The disk that a local store is on (`directory_usage.Disk`). Any thread may use it."""

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


class _RestoreMode(Struct, frozen=True):
    """The mode that an open directory had before: set again once all below it is counted.

    Not under `changing_modes`, which sessions would wait for as long as that takes.
    So a mode that a session gives the directory meanwhile may be lost.
    """

    descriptor: int
    mode: int

    def __call__(self) -> None:
        with contextlib.suppress(OSError):
            _change_mode(self.descriptor, self.mode)
        os.close(self.descriptor)


class _Walk:
    """Adds up the sizes of files, for as long as `stopping()` is false.

    What vanishes meanwhile counts nothing, and a file with several names once.
    """

    def __init__(self, stopping: Callable[[], bool], forbidden: tuple[int, int] | None) -> None:
        self.total = 0
        self._stopping = stopping
        self._forbidden = forbidden
        self._linked: set[tuple[int, int]] = set()

    def add(self, root: int, directory: bytes) -> None:
        """Add what is below `directory`, depth first.

        `pending` is a stack: a mode to restore lies below the directories in it.
        """
        pending: list[bytes | _RestoreMode] = [directory]
        try:
            while pending and not self._stopping():
                step = pending.pop()
                if isinstance(step, _RestoreMode):
                    step()
                else:
                    self._count(root, step, pending)
        finally:
            for step in reversed(pending):
                if isinstance(step, _RestoreMode):
                    step()

    def _count(self, root: int, path: bytes, pending: list[bytes | _RestoreMode]) -> None:
        """Add the files of one directory, and put the directories in it on `pending`.

        What can't be read is logged, and counts nothing.
        """
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

    def _add_all(self, descriptor: int, path: bytes, pending: list[bytes | _RestoreMode]) -> None:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == self._forbidden:
            return
        with os.scandir(descriptor) as entries:
            for entry in entries:
                self._add(entry, path, pending)

    def _add(
        self, entry: os.DirEntry[str], path: bytes, pending: list[bytes | _RestoreMode]
    ) -> None:
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


def _open(root: int, path: bytes, pending: list[bytes | _RestoreMode]) -> int:
    """Open a directory for reading, made readable if need be until `pending` restores its mode."""
    try:
        return _open_below(root, path, OPEN_DIRECTORY)
    except PermissionError:
        locked = _open_below(root, path, OPEN_DIRECTORY | _NO_ACCESS)
        mode = stat.S_IMODE(os.fstat(locked).st_mode)
        pending.append(_RestoreMode(locked, mode))
        _change_mode(locked, mode | _READABLE)
        return _open_below(root, path, OPEN_DIRECTORY)


def _open_below(root: int, path: bytes, flags: int) -> int:
    """Open a path that may be longer than a system call takes: its beginning, then the rest."""
    if len(path) <= _LONGEST_PATH:
        return os.open(path or b".", flags, dir_fd=root)
    cut = path.rindex(b"/", 0, _LONGEST_PATH)
    above = os.open(path[:cut], OPEN_DIRECTORY | _NO_ACCESS, dir_fd=root)
    try:
        return _open_below(above, path[cut + 1 :], flags)
    finally:
        os.close(above)


def _change_mode(descriptor: int, mode: int) -> None:
    """`fchmod` does not take a descriptor that was opened with O_PATH."""
    os.chmod(f"/proc/self/fd/{descriptor}", mode)
