"""The directories that a walk is in, from a given path downwards: open, but never all of them.

A tree can be deeper than the descriptors that a process may have. So only the first
directory and the last few are held open. The others are closed, and opened again when
the walk comes back to them: one by one from the first, and never through a link. Each
must still be the directory that it was.
"""

import errno
import os
from typing import Final

from msgspec import Struct

_MOST_OPEN: Final = 32
"""Directories held open, beside the first. Opening them again takes a system call for each
directory above them, for so many at once: no time that matters."""


class OpenDirectory:
    """A descriptor that is closed when the last entry that refers to it is dropped.

    Entries are queued and handed to other threads, so no block of code could say
    when all of a directory have been sent.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def open_directory(name: str, parent: OpenDirectory | None) -> OpenDirectory:
    """Open a directory: a name in `parent`, or a path. OSError when that fails, or it is a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return OpenDirectory(os.open(name, flags, dir_fd=parent.descriptor if parent else None))


class _Level(Struct):
    """One directory: its name in the one above, and its device and inode once it was closed."""

    name: str
    directory: OpenDirectory | None
    identity: tuple[int, int] | None = None


class Descent:
    """The directories from the first one to the one that a walk is in now."""

    def __init__(self, first: OpenDirectory) -> None:
        self._first = first
        self._levels: list[_Level] = []

    def enter(self, name: str, directory: OpenDirectory) -> None:
        """The walk goes on in `directory`, which is `name` in the current one."""
        self._levels.append(_Level(name, directory))
        if len(self._levels) > _MOST_OPEN:
            _close(self._levels[-1 - _MOST_OPEN])

    def leave(self) -> None:
        """The walk goes back to the directory above, if there is one."""
        if self._levels:
            self._levels.pop()

    def current(self) -> OpenDirectory:
        """The directory that the walk is in. OSError when it can't be opened again.

        FileNotFoundError, too, when another directory is in its place.
        """
        if not self._levels:
            return self._first
        return self._levels[-1].directory or self._open_again()

    def _open_again(self) -> OpenDirectory:
        """Open the last few, and on the way to them each of the others for a moment."""
        directory = self._first
        for number, level in enumerate(self._levels, start=1 - len(self._levels)):
            directory = _same(level, directory)
            if number > -_MOST_OPEN:
                level.directory = directory
        return directory


def _close(level: _Level) -> None:
    """Remember which directory it is, and close it, unless an entry needs it still."""
    if level.directory:
        level.identity = _identity(level.directory)
        level.directory = None


def _same(level: _Level, above: OpenDirectory) -> OpenDirectory:
    """The directory of a level, opened again if it was closed."""
    if level.directory:
        return level.directory
    directory = open_directory(level.name, above)
    if _identity(directory) != level.identity:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return directory


def _identity(directory: OpenDirectory) -> tuple[int, int]:
    status = os.fstat(directory.descriptor)
    return status.st_dev, status.st_ino
