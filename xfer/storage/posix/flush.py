"""Getting bytes and names onto stable storage, one flush for many where that is cheaper."""

import ctypes
import os
from collections.abc import Iterable
from typing import Final

from xfer.errors import LocalError

_FEW: Final = 4
"""Up to so many files are flushed one by one: a large neighbour is not waited for."""


class Flusher:
    """Flushes for one writer.

    It keeps a descriptor of its own on the file system, because the kernel
    reports a failed write-back once per open file: on a shared one, somebody
    else's flush could take the report away.
    """

    def __init__(self, directory: int, *, durable: bool = True) -> None:
        """`durable=False` makes every flush a promise that is not kept."""
        self.durable = durable
        self._file_system = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)

    def flush(self, descriptors: Iterable[int]) -> None:
        """Return once everything behind `descriptors` is on stable storage.

        All are on the file system that this flusher was made for. OSError if
        any of it may be lost; trying again could not repair that.
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
    """Let the disk start on bytes that a flush will ask for later.

    Without it the kernel hoards gigabytes of them, and the flush before the
    receipt takes longer than a sender waits for a heartbeat. A hint: what
    fails here fails in the flush.
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
