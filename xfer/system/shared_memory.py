"""Memory shared by processes that are forked after it is made, and a lock on it.

The lock is a record lock, see fcntl(2). A process that was forked does not
inherit it, although it inherits the file, and the system releases it when its
process is killed.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterator


class SharedMemory:
    """`size` bytes, all 0 at first. Make it before the processes are forked.

    `view` is them; hold `locked` while reading or writing it.
    """

    def __init__(self, size: int) -> None:
        self._file = _anonymous_file()
        os.ftruncate(self._file, size)
        self.view = memoryview(mmap.mmap(self._file, size))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock: no other process does meanwhile.

        It belongs to the whole process, and does not keep its other threads out:
        one thread at a time may call this.
        """
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _anonymous_file() -> int:
    """The descriptor of an empty file that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("xfer")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
