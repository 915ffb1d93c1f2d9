"""Bytes on their way into a local store.

A partial with a key is found again by its owner and name, and locked while a
session has it. One without belongs to its session alone.
"""

import errno
import fcntl
import functools
import hashlib
import itertools
import os
import secrets
import struct
from typing import Final

from xfer.errors import Code, Refused
from xfer.names import to_bytes
from xfer.storage.contract import Metadata
from xfer.storage.os_errors import refusal
from xfer.storage.posix.files import apply_metadata, read_at
from xfer.storage.posix.flush import start_writeback
from xfer.storage.quota import Reservation

KEYED_PREFIX: Final = b"keyed-"
_PREFIX_DIGITS: Final = 32
_WRITEBACK_BYTES: Final = 8 * 1024 * 1024
_READABLE_AND_WRITABLE: Final = 0o600
_UNGUESSABLE: Final = secrets.token_hex(16).encode()
_NUMBERS: Final = itertools.count()
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalPartial:
    """An open file in the directory of partials."""

    def __init__(self, partials: int, name: bytes, descriptor: int, size: int = 0) -> None:
        self.name = name
        self.descriptor = descriptor
        self.metadata = Metadata()
        self.reservation: Reservation | None = None
        self.size = size
        self._partials = partials
        self._handed_over = self.size
        self._is_open = self._has_name = True

    def read_at(self, offset: int, view: memoryview) -> int:
        return read_at(self.descriptor, offset, view)

    def reserve(self, size: int) -> None:
        if self.reservation:
            self.reservation.reserve(size)

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self.descriptor, rest, self.size)
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise refusal(error) from error
        if self.reservation:
            self.reservation.note_written(self.size)
        if self.size - self._handed_over >= _WRITEBACK_BYTES:
            start_writeback(self.descriptor, self._handed_over, self.size - self._handed_over)
            self._handed_over = self.size

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.descriptor, size)
        except OSError as error:
            raise refusal(error) from error
        self.size = size
        if self.reservation:
            self.reservation.note_written(size)

    def finish(self, metadata: Metadata) -> None:
        self.metadata = metadata
        mode = _DEFAULT_MODE if metadata.mode is None else metadata.mode
        try:
            apply_metadata(self.descriptor, Metadata(mode, metadata.mtime_ns))
        except OSError as error:
            raise refusal(error) from error

    def keep(self) -> None:
        if not self.name.startswith(KEYED_PREFIX) or not self.size:
            self.discard()
        elif self._is_open:
            self._is_open = False
            self._leave_reservation(self.size)
            os.close(self.descriptor)

    def discard(self) -> None:
        if self._is_open:
            self._is_open = False
            # Unlinked before the lock goes: else another session could find, under the
            # partial's name, the very file that was just put in its place.
            if self._has_name:
                try:  # noqa: SIM105 (for every small file, a context takes its time)
                    os.unlink(self.name, dir_fd=self._partials)
                except OSError:
                    pass  # the next start tries again
            self._leave_reservation()
            os.close(self.descriptor)

    def hand_over_reservation(self) -> Reservation | None:
        """What it has reserved, which is the caller's from here on."""
        reservation, self.reservation = self.reservation, None
        return reservation

    def _leave_reservation(self, kept: int = 0) -> None:
        if reservation := self.hand_over_reservation():
            reservation.release(kept)

    def forget_name(self) -> None:
        """It was renamed; what has its old name from now on is somebody else's."""
        self._has_name = False


def create_unkeyed(partials: int) -> LocalPartial:
    """An empty partial that no later session finds."""
    name = temporary_name()
    return LocalPartial(partials, name, _open(partials, name, os.O_CREAT | os.O_EXCL))


def open_keyed(partials: int, name: bytes, *, create: bool) -> LocalPartial | None:
    """The partial of this name, locked; None if there is none and none is to be made.

    Refused (busy) when another session has it.
    """
    while True:
        try:
            descriptor = _open(partials, name, os.O_CREAT if create else 0)
        except FileNotFoundError:
            return None
        except PermissionError:
            _make_writable(partials, name)
            continue
        try:
            if _lock_current(partials, name, descriptor):
                size = os.fstat(descriptor).st_size
                return LocalPartial(partials, name, descriptor, size)
        except BlockingIOError as error:
            os.close(descriptor)
            busy = "another session is sending this file right now"
            raise Refused(busy, code=Code.BUSY) from error
        os.close(descriptor)


def keyed_prefix(directory: bytes) -> bytes:
    """How the names of all partials begin of files that go below a directory."""
    return KEYED_PREFIX + hashlib.sha256(directory).hexdigest()[:_PREFIX_DIGITS].encode() + b"-"


def key_for(owner: str, name: str, directory: bytes = b"") -> bytes:
    """What the partial is called of a sender's file that goes below `directory`.

    One name for each three, and no other.
    """
    parts = (owner.encode("utf-8", "surrogatepass"), to_bytes(name))
    joined = b"".join(struct.pack("!I", len(part)) + part for part in parts)
    return keyed_prefix(directory) + hashlib.sha256(joined).hexdigest().encode()


def temporary_name() -> bytes:
    return temporary_prefix(os.getpid()) + b"%d" % next(_NUMBERS)


@functools.cache
def temporary_prefix(process: int) -> bytes:
    """How all temporary names begin of one process of this receiver."""
    return b"%s-%d-" % (_UNGUESSABLE, process)


def _open(partials: int, name: bytes, flags: int) -> int:
    return os.open(name, _FLAGS | flags, 0o600, dir_fd=partials)


def _make_writable(partials: int, name: bytes) -> None:
    """A partial that was about to be installed has the mode of its file already."""
    status = os.stat(name, dir_fd=partials, follow_symlinks=False)
    if status.st_nlink > 1:
        os.unlink(name, dir_fd=partials)  # it is a stored file, see below
    elif status.st_mode & _READABLE_AND_WRITABLE == _READABLE_AND_WRITABLE:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    else:
        os.chmod(name, _READABLE_AND_WRITABLE, dir_fd=partials)


def _lock_current(partials: int, name: bytes, descriptor: int) -> bool:
    """Lock what was opened; False if it is not, or must not be, the partial any more.

    BlockingIOError when another session holds the lock.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    status = os.fstat(descriptor)
    try:
        current = os.stat(name, dir_fd=partials, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not os.path.samestat(status, current):
        return False
    if status.st_nlink > 1:
        # Killed between the two steps of an install: this is a stored file already, and
        # not another byte may be written to it.
        os.unlink(name, dir_fd=partials)
        return False
    return True


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


_DEFAULT_MODE: Final = 0o666 & ~_umask()
"""For a sender that sends no mode."""
