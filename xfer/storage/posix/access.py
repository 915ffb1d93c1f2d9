"""Getting at what its own owner, this process, may not read, enter or write to.

A sender can give files and directories modes like 0000, 0311 or 0555. They are
stored as sent, and the next send must get at them all the same. So where the mode
is in the way, it is another one for a moment. To root no mode is in the way.

Everything is tried as it is first: nearly always that works. A process that is
killed in that moment leaves a mode that gives its owner more, and nobody else;
the next send sets it.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final, TypeVar

from xfer.storage.posix.lock import Lock

Value = TypeVar("Value")

changing_modes = Lock("modes")
"""Held while something has another mode for a moment. Without it, a second thread or process
would take that mode for its own, and restore it last."""
_USABLE: Final = 0o300
"""To look up names in a directory, and to make them."""
_READABLE: Final = 0o400
_NO_ACCESS: Final = getattr(os, "O_PATH", 0)
"""Opens what may not be read, to change its mode. Linux has it."""


def with_access(directory: int, action: Callable[[], Value], *others: int) -> Value:
    """Do `action`, which uses names in an open directory, whatever that directory's mode is.

    So with `others` that it changes: a directory that is moved has to be writable, too.
    PermissionError when no mode is the reason.
    """
    try:
        return action()
    except PermissionError:
        with changing_modes, contextlib.ExitStack() as restored:
            if not _make_usable(restored, directory, *others):
                raise
            return action()


def open_for_reading(name: bytes, flags: int, directory: int) -> int:
    """Open a file or directory for reading, whatever its mode and that of its directory is.

    OSError as of open(2). A file that has other names is left as it is, since its mode
    would change under those, too: PermissionError.
    """
    try:
        return os.open(name, flags, dir_fd=directory)
    except PermissionError:
        if not _NO_ACCESS:
            raise
        with changing_modes, contextlib.ExitStack() as restored:
            _make_usable(restored, directory)
            found = os.open(name, flags | _NO_ACCESS, dir_fd=directory)
            restored.callback(os.close, found)
            path = f"/proc/self/fd/{found}"  # by this, chmod(2) and open(2) take the open file
            status = os.fstat(found)
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISDIR(status.st_mode):
                _require_only_name(status)
            if mode & _READABLE != _READABLE:
                os.chmod(path, mode | _READABLE)
                restored.callback(os.chmod, path, mode)
            return os.open(path, flags & ~os.O_NOFOLLOW)


def _require_only_name(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _make_usable(restored: contextlib.ExitStack, *directories: int) -> bool:
    """Whether the mode of any had to be changed. It is as it was at the end of `restored`."""
    locked: dict[int, int] = {}
    for directory in directories:
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        if mode & _USABLE != _USABLE:
            locked[directory] = mode
    for directory, mode in locked.items():
        os.fchmod(directory, mode | _USABLE)
        restored.callback(os.fchmod, directory, mode)
    return bool(locked)
