"""Memory that processes share which are forked after it is made.

It is guarded by a record lock (fcntl), which is each process's own although
they have inherited one file, and which goes with a process that is killed.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterator


class SharedMemory:
    """So many bytes, which begin as zeros. Make it before the processes are forked."""

    def __init__(self, size: int) -> None:
        self._file = _anonymous_file()
        os.ftruncate(self._file, size)
        self.view = memoryview(mmap.mmap(self._file, size))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process is here. One thread at a time may be."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("xfer")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
