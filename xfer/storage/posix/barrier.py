"""When everything on a file system was last flushed: what changed before is on stable storage.

A receiver flushes what it stores. What other programs have put under a name it
has not, and before it says of such a file that it is there, it has to. The change
time of a file (ctime), which no program can set, tells whether a flush of
everything has come since. A rename changes that of the file or directory that
was moved, and not those of the files below: so theirs count, too.
"""

import contextlib
import os
import threading
import time
from typing import Final

from msgspec import Struct

from xfer.storage.posix.filesystems import FileSystem
from xfer.storage.posix.flush import syncfs
from xfer.storage.posix.mountinfo import stored_in

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_BELOW: Final = 64
"""Directories that are asked what they are stored in."""
_STEP: Final = 1_000_000
"""Nanoseconds. A clock that was set back by less is taken for one that was not."""


class _Moment(Struct, frozen=True):
    """By the clock of the file system, in nanoseconds since 1970; and how far that of this
    machine was ahead of one that nobody can set."""

    changed_ns: int
    offset: int


class Barrier:
    """That of the process, for one file system. Any thread may call anything.

    It keeps descriptors of its own, as a `Flusher` does: so it is told of every write
    that has failed since the barrier before. There is one for the file system, and
    where that tells of no errors, for each that it stores on: those do.
    """

    def __init__(self, directory: int, kind: FileSystem, witness: int) -> None:
        """`witness` is an open file of ours there, which stays the caller's, as `directory` does.

        OSError when no descriptor is free.
        """
        self._kind = kind
        self._directory = directory
        self._witness = witness
        self._flushing = threading.Lock()
        """Held during a flush: who waits for it finds that it has nothing more to do."""
        # One reference, replaced whole by the thread that has the lock.
        self._last = _Moment(0, _offset())
        self.booted_ns = self.now() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._paths: list[str] = []
        self._file_systems: list[int] = []
        self._reopen()

    @property
    def last_ns(self) -> int:
        """What changed before was flushed without an error; 0 if nothing ever was."""
        return self._last.changed_ns

    def covers(self, changed_ns: int) -> bool:
        """Whether what changed last at that time has been flushed since.

        Nothing is, once somebody has set the clock back.
        """
        last = self._last
        return changed_ns < last.changed_ns and _offset() > last.offset - _STEP

    def now(self) -> int:
        """The change time of what changes now."""
        os.utime(self._witness)
        return os.fstat(self._witness).st_ctime_ns

    def flush(self, changed_ns: int | None = None) -> None:
        """Flush everything, unless what changed at this time is covered already.

        OSError when anything that changed since the last time may be lost, where the file
        system tells: then it is of no use to flush again.
        """
        with self._flushing:
            if changed_ns is not None and self.covers(changed_ns):
                return
            began = _Moment(self.now(), _offset())
            if self._kind.tells_errors:
                self._flush_downwards()
            else:
                os.sync()  # of all file systems: that of a FUSE daemon's own files is one of them
            self._last = began

    def after_fork(self) -> None:
        """Be told of failures although another process is, too. OSError as above."""
        self._reopen()

    def close(self) -> None:
        for descriptor in self._file_systems:
            os.close(descriptor)

    def _flush_downwards(self) -> None:
        if not self._kind.syncfs_reports_errors and _all_below(self._directory) != self._paths:
            self._reopen()  # a branch was added to what merges them
        for descriptor in self._file_systems:
            syncfs(descriptor)

    def _reopen(self) -> None:
        needs_below = self._kind.tells_errors and not self._kind.syncfs_reports_errors
        paths = _all_below(self._directory) if needs_below else []
        with contextlib.ExitStack() as opened:
            descriptors = []
            for path in (".", *paths):
                descriptors.append(os.open(path, _FLAGS, dir_fd=self._directory))
                opened.callback(os.close, descriptors[-1])
            opened.pop_all()
        self.close()
        self._paths, self._file_systems = paths, descriptors


def _all_below(directory: int) -> list[str]:
    """All directories that it is stored in, the lowest last."""
    found = [*stored_in(directory)]
    for path in found[:_MOST_BELOW]:
        with contextlib.suppress(OSError):
            below = os.open(path, _FLAGS)
            try:
                found += stored_in(below)
            finally:
                os.close(below)
    return found


def _offset() -> int:
    return time.time_ns() - time.monotonic_ns()
