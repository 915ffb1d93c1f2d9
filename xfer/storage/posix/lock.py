"""A lock for one thread, of one process, at a time."""

import contextlib
import fcntl
import os
import threading


class Lock:
    """A lock between the threads of this process, and, once it is `shared`, with others."""

    def __init__(self, file: str) -> None:
        self._name = file
        self._threads = threading.Lock()
        self._file: int | None = None

    def share(self, state: int, opened: contextlib.ExitStack) -> None:
        """Exclude every process that did the same in this state directory.

        Each has to do it for itself, after it was forked: processes that have
        inherited one open file hold its lock together.
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
