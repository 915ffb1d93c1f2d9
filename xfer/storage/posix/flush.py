"""Bring bytes and names onto stable storage, with one flush for many where that is cheaper."""

import ctypes
import os
from collections.abc import Iterable
from typing import Final

from xfer.errors import LocalError

_FEW: Final = 4
"""Up to so many are flushed one by one with fsync(2). More are flushed with one syncfs(2), which
waits for everything on the file system, a large file of another session included."""


class Flusher:
    """Flushes for one writer, in one thread at a time.

    It keeps a descriptor of its own on the file system: the kernel reports a
    failed write-back once to each open file description, so on a shared one
    another session's flush would take the report away. (syncfs(2), errors.)
    """

    def __init__(self, directory: int, *, durable: bool = True) -> None:
        """For the file system of an open directory. `durable=False` leaves every flush out.

        OSError when no descriptor is free.
        """
        self.durable = durable
        self._file_system = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)

    def flush(self, descriptors: Iterable[int]) -> None:
        """Return once these files and directories are on stable storage.

        They are all on the file system that this flusher was made for. OSError
        if any may be lost: then a second flush would succeed, though the kernel
        has dropped what it could not write. So nothing is tried again.
        """
        if not self.durable:
            return
        pending = set(descriptors)
        if len(pending) > _FEW and _SYNCFS:
            if _SYNCFS(self._file_system):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            return
        for descriptor in pending:
            os.fsync(descriptor)

    def close(self) -> None:
        os.close(self._file_system)


def flush_all(directory: int) -> None:
    """Flush the whole file system that a directory is on. LocalError when that fails."""
    if _SYNCFS is None:
        os.sync()
    elif _SYNCFS(directory):
        raise LocalError(f"the disk fails: {os.strerror(ctypes.get_errno())}")


def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Let the kernel begin to write these bytes to the disk; return at once.

    Otherwise it collects gigabytes of them in memory, and the flush before the
    receipt takes minutes. A hint: what fails here fails in the flush.
    """
    if _SYNC_FILE_RANGE:
        _SYNC_FILE_RANGE(descriptor, offset, size, _SYNC_FILE_RANGE_WRITE)


_LIBC = ctypes.CDLL(None, use_errno=True)
_SYNCFS = getattr(_LIBC, "syncfs", None)
"""syncfs(2), where the C library has it; Python has no binding of its own."""
_SYNC_FILE_RANGE = getattr(_LIBC, "sync_file_range", None)
if _SYNC_FILE_RANGE:
    _SYNC_FILE_RANGE.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE: Final = 2
