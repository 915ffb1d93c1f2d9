"""Getting bytes and names onto stable storage, one flush for many where that is cheaper."""

import ctypes
import os
from collections.abc import Iterable
from typing import Final

_FEW: Final = 4
"""Up to so many files are flushed one by one: a large neighbour is not waited for."""


class Flusher:
    """Flushes for one intake.

    It keeps a descriptor of its own on the file system, because the kernel
    reports a failed write-back once per open file: on a shared one, somebody
    else's flush could take the report away.
    """

    def __init__(self, directory: int) -> None:
        self._file_system = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)

    def flush(self, descriptors: Iterable[int]) -> None:
        """Return once everything behind `descriptors` is on stable storage.

        All are on the file system that this flusher was made for. OSError if
        any of it may be lost; trying again could not repair that.
        """
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


_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
"""syncfs(2), where the C library has it; Python has no binding of its own."""
