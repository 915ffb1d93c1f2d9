"""A lock between threads, and between the processes of one receiver.

flock(2) alone would not do: all threads of a process use one open file, which
holds the lock once for all of them. So a thread takes the process's lock first.
"""

import contextlib
import fcntl
import os
import threading


class Lock:
    """A context that one thread of this process is in at a time; after `share`, of any process."""

    def __init__(self, file: str) -> None:
        """`file` is the name that the lock has, once shared, in the state directory."""
        self._name = file
        self._threads = threading.Lock()  # held while `_file` is locked, and for its own sake
        # Written by `share` before the process has other threads, and when the store is closed.
        self._file: int | None = None

    def share(self, state: int, opened: contextlib.ExitStack) -> None:
        """Exclude every process that does the same in this open state directory, too.

        Each does it for itself, after it was forked: processes that inherit an
        open file from one another hold its lock together. The file is closed with `opened`.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o600, dir_fd=state)
        opened.callback(self._unshare, self._file)

    def _unshare(self, file: int) -> None:
        self._file = None
        os.close(file)

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()
