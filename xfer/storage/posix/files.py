"""Open files: reading and comparing their content, and their mode and time."""

import contextlib
import fcntl
import os
import stat
from typing import Final

from xfer.storage.contract import Metadata, StoredFile
from xfer.storage.os_errors import reading_refusal

_BLOCK_BYTES: Final = 1024 * 1024
_STORABLE_MODE: Final = 0o777
"""Without set-id and sticky bits: a sender must not make programs that run as the receiver."""


def _umask() -> int:
    """The umask of this process; the only way to learn it is to set it.

    Done once, when this is imported: a file that another thread made meanwhile
    would get the wrong mode.
    """
    current = os.umask(0o077)
    os.umask(current)
    return current


_UMASK: Final = _umask()
DEFAULT_FILE_MODE: Final = 0o666 & ~_UMASK
"""Of a file whose sender sends no mode: what any program that makes a file would give it."""
DEFAULT_DIRECTORY_MODE: Final = 0o777 & ~_UMASK


class OpenFile:
    """A stored file, open for reading (`contract.StoredFileReader`)."""

    def __init__(self, descriptor: int) -> None:
        """The descriptor is this object's to close."""
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.mode = stat.S_IMODE(status.st_mode)
        self.mtime_ns = status.st_mtime_ns

    def read_at(self, offset: int, view: memoryview) -> int:
        return read_at(self._descriptor, offset, view)

    def link(self, name: bytes, directory: int) -> None:
        """Give this very file another name, in an open directory. OSError; FileExistsError."""
        path = f"/proc/self/fd/{self._descriptor}"
        os.link(path, name, dst_dir_fd=directory, follow_symlinks=True)

    def close(self) -> None:
        os.close(self._descriptor)


def stored_file(status: os.stat_result, *, flushed: bool = True) -> StoredFile:
    """What a session is told of a plain file."""
    mode, links = stat.S_IMODE(status.st_mode), status.st_nlink
    return StoredFile(status.st_size, mode, status.st_mtime_ns, links > 1, status.st_ino, flushed)


def same_content(one: int, other: int) -> bool:
    """Whether two open files have the same bytes, wherever they are read at the moment."""
    if os.fstat(one).st_size != os.fstat(other).st_size:
        return False
    offset = 0
    while block := os.pread(one, _BLOCK_BYTES, offset):
        if block != os.pread(other, _BLOCK_BYTES, offset):
            return False
        offset += len(block)
    return True


def apply_metadata(descriptor: int, metadata: Metadata) -> None:
    """Set mode and time of an open file or directory; OSError when that fails."""
    if metadata.mode is not None:
        os.fchmod(descriptor, metadata.mode & _STORABLE_MODE)
    if metadata.mtime_ns is not None:
        try:  # noqa: SIM105 (for every small file, a context takes its time)
            os.utime(descriptor, ns=(metadata.mtime_ns, metadata.mtime_ns))
        except OverflowError:
            pass  # the system has no such time, and the bytes are there


def has_metadata(status: os.stat_result, metadata: Metadata) -> bool:
    """Whether `apply_metadata` would change nothing."""
    mode = stat.S_IMODE(status.st_mode)
    if metadata.mode is not None and metadata.mode & _STORABLE_MODE != mode:
        return False
    return metadata.mtime_ns in (None, status.st_mtime_ns)


def read_at(descriptor: int, offset: int, view: memoryview) -> int:
    """Fill the front of `view` from `offset` on; how many bytes, 0 at the end.

    Refused, with what a sender is told, when that fails.
    """
    try:
        return os.preadv(descriptor, [view], offset)
    except OSError as error:
        raise reading_refusal(error) from error


def replace_with_copy(directory: int, name: bytes, descriptor: int, draft: bytes) -> None:
    """Put a copy of an open file in its place, locked as it is; `descriptor` is the copy then.

    `draft` is the copy's name on the way. To write the same bytes to the same file
    would not do where a write has failed: ext4, for one, leaves such blocks marked
    as unwritten, and reports nothing. OSError when there is no room, for example.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = os.open(draft, flags, 0o600, dir_fd=directory)
    try:
        fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        offset = 0
        while block := os.pread(descriptor, _BLOCK_BYTES, offset):
            offset += os.pwrite(copy, block, offset)
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.dup2(copy, descriptor, inheritable=False)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)
        raise
    finally:
        os.close(copy)
