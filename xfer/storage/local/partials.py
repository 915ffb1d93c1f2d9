"""Bytes on their way into a local store: files in DIR/.xfer/partials/.

A partial with a key, made of its sender and its name, is found again by a later
session of that sender. It is locked with flock(2) while a session has it, and
left where it is when the session ends early (see `kept`). One without a key has
a temporary name, and is removed with its session, or by the next start.
"""

import errno
import fcntl
import functools
import hashlib
import itertools
import os
import secrets
import struct
from typing import Final, Protocol

from xfer.errors import Code, Refused
from xfer.names import to_bytes
from xfer.storage.contract import Metadata, StoredFile
from xfer.storage.os_errors import refusal
from xfer.storage.posix.files import (
    DEFAULT_FILE_MODE,
    apply_metadata,
    read_at,
    replace_with_copy,
    stored_file,
)
from xfer.storage.posix.filesystems import file_system_of
from xfer.storage.posix.flush import start_writeback
from xfer.storage.posix.written_by import remember
from xfer.storage.quota import Account, Reservation

KEYED_PREFIX: Final = b"keyed-"
_PREFIX_DIGITS: Final = 32
"""Hexadecimal digits of the digest of a directory, or of a sender."""
_WRITEBACK_BYTES: Final = 8 * 1024 * 1024
"""After so many the kernel is told to begin writing to the disk, see `start_writeback`."""
_READABLE_AND_WRITABLE: Final = 0o600
_UNGUESSABLE: Final = secrets.token_hex(16).encode()
"""Begins all temporary names of this receiver; its workers inherit it."""
_NUMBERS: Final = itertools.count()
"""Of temporary names. Any thread takes the next one, which is one step of the interpreter; if two
had the same, the second would be refused, for a name is only ever made new."""
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Index(Protocol):
    """Knows the partials with a key (`kept.KeptPartials`)."""

    def add(self, name: bytes) -> None: ...

    def note(self, name: bytes) -> None: ...

    def remove(self, name: bytes) -> None: ...


class LocalPartial:
    """An open file in partials/ (`contract.Partial`). One thread at a time uses it."""

    def __init__(self, partials: int, name: bytes, descriptor: int, size: int = 0) -> None:
        """`descriptor` is that of `name` in the open directory `partials`, and has `size` bytes."""
        self.name = name
        self.descriptor = descriptor
        self.metadata = Metadata()
        self.host = b""
        """The machine that it comes from, if that is to be remembered with it."""
        self.previous_host = ""
        self.is_recorded = False
        """Whether a run wants to know what it becomes: `stored`, set by the commit."""
        self.stored: StoredFile | None = None
        self.size = size
        self.index: Index | None = None
        """Told when it is kept, and when it is gone."""
        self._partials = partials
        self._reservation: Reservation | None = None
        self._written_back = size
        self._is_open = self._has_name = True

    def note_stored(self, descriptor: int | None = None) -> None:
        """What has its name now: the open file, or (None) this one. OSError."""
        if self.is_recorded:
            self.stored = stored_file(os.fstat(descriptor or self.descriptor))

    def charge_to(self, account: Account) -> None:
        """Reserve room for what it holds and is going to hold, if the account has any limit."""
        self._reservation = account.reservation(self.name, self.size)

    def read_at(self, offset: int, view: memoryview) -> int:
        return read_at(self.descriptor, offset, view)

    def reserve(self, size: int) -> None:
        if self._reservation:
            self._reservation.reserve(size)

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self.descriptor, rest, self.size)
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise refusal(error) from error
        if self._reservation:
            self._reservation.note_written(self.size)
        if self.size - self._written_back >= _WRITEBACK_BYTES:
            start_writeback(self.descriptor, self._written_back, self.size - self._written_back)
            self._written_back = self.size

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.descriptor, size)
        except OSError as error:
            raise refusal(error) from error
        self.size = size
        if self._reservation:
            self._reservation.note_written(size)

    def reload(self) -> None:
        """Flush, and drop what the kernel has in memory: a page that it could not write too.

        Such a page looks right, and whoever flushed first got the only error there was.
        Through a FUSE daemon there is no way to drop what is in memory below it: there,
        the bytes are copied, for the flush before the receipt to fail if need be.
        """
        try:
            if file_system_of(self.descriptor).caches_below:
                replace_with_copy(self._partials, self.name, self.descriptor, temporary_name())
            os.fsync(self.descriptor)
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise refusal(error) from error

    def finish(self, metadata: Metadata) -> None:
        self.metadata = metadata
        mode = DEFAULT_FILE_MODE if metadata.mode is None else metadata.mode
        if self.host:
            remember(self.descriptor, self.host)  # first: the mode may forbid it
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
            if self.index:
                self.index.note(self.name)

    def discard(self) -> None:
        if self._is_open:
            self._is_open = False
            # Unlinked while it is locked still. Else another session could open this name,
            # lock it, and write to what is a stored file by now.
            if self._has_name:
                try:  # noqa: SIM105 (a context costs too much for every small file)
                    os.unlink(self.name, dir_fd=self._partials)
                except OSError:
                    pass  # the next start removes it
            if self.index:
                self.index.remove(self.name)
            self._leave_reservation()
            os.close(self.descriptor)

    def hand_over_reservation(self) -> Reservation | None:
        """What it has reserved, which the caller releases from here on."""
        reservation, self._reservation = self._reservation, None
        return reservation

    def _leave_reservation(self, kept: int = 0) -> None:
        if reservation := self.hand_over_reservation():
            reservation.release(kept)

    def forget_name(self) -> None:
        """It was renamed: a file with its old name, from now on, is another session's."""
        self._has_name = False


def create_unkeyed(partials: int) -> LocalPartial:
    """An empty partial that no later session finds."""
    name = temporary_name()
    return LocalPartial(partials, name, _open(partials, name, os.O_CREAT | os.O_EXCL))


def open_keyed(partials: int, name: bytes, *, create: bool) -> LocalPartial | None:
    """The partial of this name, locked; None if there is none and `create` is False.

    Refused (busy) when another session has it. OSError when it can't be opened.
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
    """What the names of all partials begin with whose files go below `directory`.

    So what they hold can be counted for that directory's quota.
    """
    return KEYED_PREFIX + hashlib.sha256(directory).hexdigest()[:_PREFIX_DIGITS].encode() + b"-"


@functools.lru_cache
def sender_prefix(owner: str, directory: bytes = b"") -> bytes:
    """What the names of all partials of the sender `owner` begin with, below `directory`."""
    digest = hashlib.sha256(_encoded(owner)).hexdigest()[:_PREFIX_DIGITS].encode()
    return keyed_prefix(directory) + digest + b"-"


def key_for(owner: str, name: str, directory: bytes = b"") -> bytes:
    """The name of the partial for the file `name` of the sender `owner`, below `directory`.

    Each of the three makes it another one. The lengths of owner and name are hashed
    with them, so that no two combinations run together into the same bytes.
    """
    parts = (_encoded(owner), to_bytes(name))
    joined = b"".join(struct.pack("!I", len(part)) + part for part in parts)
    return sender_prefix(owner, directory) + hashlib.sha256(joined).hexdigest().encode()


def _encoded(owner: str) -> bytes:
    return owner.encode("utf-8", "surrogatepass")


def temporary_name() -> bytes:
    """A name that nothing in partials/ has or had. Any thread may ask for one."""
    return temporary_prefix(os.getpid()) + b"%d" % next(_NUMBERS)


@functools.cache
def temporary_prefix(process: int) -> bytes:
    """What all temporary names of one process of this receiver begin with."""
    return b"%s-%d-" % (_UNGUESSABLE, process)


def _open(partials: int, name: bytes, flags: int) -> int:
    return os.open(name, _FLAGS | flags, 0o600, dir_fd=partials)


def _make_writable(partials: int, name: bytes) -> None:
    """Let it be opened: a partial that is finished has the mode of its file already."""
    status = os.stat(name, dir_fd=partials, follow_symlinks=False)
    if status.st_nlink > 1:
        os.unlink(name, dir_fd=partials)  # it is a stored file, see `_lock_current`
    elif status.st_mode & _READABLE_AND_WRITABLE == _READABLE_AND_WRITABLE:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    else:
        os.chmod(name, _READABLE_AND_WRITABLE, dir_fd=partials)


def _lock_current(partials: int, name: bytes, descriptor: int) -> bool:
    """Lock what was opened; False if that is no partial, or not the one with this name any more.

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
        # A receiver was killed after it had linked this to a name, and before it removed the
        # partial's name: it is a stored file, and nothing may be written to it.
        os.unlink(name, dir_fd=partials)
        return False
    return True
