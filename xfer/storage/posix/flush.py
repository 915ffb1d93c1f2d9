"""Bring bytes and names onto stable storage, with one flush for many where that reports errors."""

import ctypes
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from xfer.storage.posix.filesystems import FileSystem
from xfer.storage.posix.mountinfo import merged_directories

_FEW: Final = 4
"""Up to so many are flushed one by one with fsync(2). More are flushed with one syncfs(2), which
waits for everything on the file system, a large file of another session included."""
_AT_ONCE: Final = 16
"""Threads that flush one by one, where there are many: a disk takes them together."""
_CLOCK_STEP: Final = 100_000_000
"""Nanoseconds. By less than that are the times of files behind the clock."""


class Flusher:
    """Flushes for one writer, in one thread at a time.

    It keeps a descriptor of its own on the file system: the kernel reports a
    failed write-back once to each open file description, so on a shared one
    another session's flush would take the report away. (syncfs(2), errors.)
    """

    def __init__(
        self,
        directory: int,
        kind: FileSystem,
        witness: int,
        *,
        durable: bool = True,
        on_failure: Callable[[int, int], None] = lambda _, __: None,
    ) -> None:
        """For the file system, of this kind, of an open directory.

        `witness` is an open file of ours there, which stays the caller's: to change its
        time fails where the file system has given up, and a flush may not.
        `durable=False` leaves every flush out. `on_failure` is called with two times,
        in nanoseconds since 1970, when what changed between them may be lost; with 0
        where the first is not known, or the second is now. OSError when no descriptor
        is free.
        """
        self.durable = durable
        self._kind = kind
        self._witness = witness
        self._on_failure = on_failure
        self._all_since = 0
        self._file_system = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)

    def flush(self, descriptors: Iterable[int]) -> None:
        """Return once the content of these files, and these directories, are on stable storage.

        They are all on the file system that this flusher was made for. OSError
        if any may be lost: then a second flush would succeed, though the kernel
        has dropped what it could not write. So nothing is tried again.
        """
        if not self.durable:
            return
        pending = set(descriptors)
        if len(pending) > _FEW and self._kind.syncfs_reports_errors:
            self._flush_all()
        else:
            self._flush_each(list(pending))

    def flush_names(
        self,
        directories: Iterable[int],
        files: Iterable[int],
        *,
        has_others: bool,
        has_links: bool = False,
    ) -> None:
        """Return once the names in these directories are on stable storage. OSError as above.

        `files` are open, with new names in them; `has_others` says that something
        else has, too: directories, links, versions; `has_links` that there are new
        symbolic links among them. None of these matters where the flush of a
        directory is all that it takes.
        """
        if not self.durable:
            return
        if has_links and not self._kind.flushes_links_with_directories:
            self._flush_all()
        else:
            self.flush(directories)
        if not self._kind.flushes_names_with_directories:
            # Through FUSE, a flush of the directory does nothing. One of the file saves its
            # new name, too; for directories, links and versions there is only sync(2), which
            # reports no error.
            self.flush(files)
            if has_others:
                os.sync()
        self._require_alive()

    def _flush_each(self, descriptors: Sequence[int]) -> None:
        failed = fsync_at_once(descriptors)
        if failed:
            changed = [os.fstat(one).st_ctime_ns for one in failed]
            self._on_failure(min(changed), max(changed))
        for error in failed.values():
            raise error

    def _flush_all(self) -> None:
        began = time.time_ns() - _CLOCK_STEP
        try:
            syncfs(self._file_system)
        except OSError:
            self._on_failure(self._all_since, 0)
            raise
        self._all_since = began

    def _require_alive(self) -> None:
        """OSError if the file system has given up: then the flushes before may have done nothing.

        xfs says nothing of it when a directory is flushed, nor does ext4 whose journal
        another program's flush has aborted, nor what lies above either. A change does:
        the first one may be what makes the file system notice, the second one fails.
        """
        os.utime(self._witness)
        os.utime(self._witness)
        if self._kind.merges:
            for path in merged_directories(self._file_system):
                _require_alive(path)

    def close(self) -> None:
        os.close(self._file_system)


def _require_alive(path: str) -> None:
    """OSError if the file system of a directory has given up, as above."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return  # not to be seen from here
    try:
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        os.fchmod(directory, mode)
        os.fchmod(directory, mode)
    except PermissionError:
        pass  # another user's
    finally:
        os.close(directory)


def syncfs(descriptor: int) -> None:
    """syncfs(2), which Python has no binding for; Linux has it since 2011."""
    if _LIBC.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fsync_at_once(descriptors: Sequence[int]) -> dict[int, OSError]:
    """Flush open files one by one, many as many at once as a disk takes; what failed, and how."""
    if len(descriptors) <= _FEW:
        return {one: error for one in descriptors if (error := _fsync(one))}
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (not on most file systems)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ended = zip(descriptors, pool.map(_fsync, descriptors), strict=True)
        return {descriptor: error for descriptor, error in ended if error}


def _fsync(descriptor: int) -> OSError | None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        return error
    return None


def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Let the kernel begin to write these bytes to the disk; return at once.

    Otherwise it collects gigabytes of them in memory, and the flush before the
    receipt takes minutes. A hint: what fails here fails in the flush.
    """
    if _SYNC_FILE_RANGE:
        _SYNC_FILE_RANGE(descriptor, offset, size, _SYNC_FILE_RANGE_WRITE)


_LIBC = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE = getattr(_LIBC, "sync_file_range", None)
if _SYNC_FILE_RANGE:
    _SYNC_FILE_RANGE.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE: Final = 2
