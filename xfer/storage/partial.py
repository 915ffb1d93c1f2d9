"""Bytes on their way into a local store."""

import contextlib
import os
import secrets
from typing import Final

from xfer.storage import Metadata, refusal
from xfer.storage.durability import start_writeback
from xfer.storage.layout import Layout

_WRITEBACK_BYTES: Final = 8 * 1024 * 1024
_STORABLE_MODE: Final = 0o777
"""Set-id and sticky bits stay behind."""


class LocalPartial:
    """A file in partials/ under a name that nobody can guess."""

    def __init__(self, layout: Layout) -> None:
        self.name = temporary_name()
        self._partials = layout.partials
        self.metadata = Metadata()
        self._is_there = False
        self._written = self._handed_over = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.descriptor = os.open(self.name, flags, 0o600, dir_fd=self._partials)
        except OSError as error:
            raise refusal(error) from error
        self._is_there = True

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:
            raise refusal(error) from error
        self._written += len(data)
        if self._written - self._handed_over >= _WRITEBACK_BYTES:
            start_writeback(self.descriptor, self._handed_over, self._written - self._handed_over)
            self._handed_over = self._written

    def finish(self, metadata: Metadata) -> None:
        self.metadata = metadata
        mode = _DEFAULT_MODE if metadata.mode is None else metadata.mode
        try:
            apply_metadata(self.descriptor, Metadata(mode, metadata.mtime_ns))
        except OSError as error:
            raise refusal(error) from error

    def discard(self) -> None:
        if self._is_there:
            self._is_there = False
            os.close(self.descriptor)
            with contextlib.suppress(FileNotFoundError):  # it was renamed to its place
                os.unlink(self.name, dir_fd=self._partials)


def temporary_name() -> bytes:
    return secrets.token_hex(16).encode()


def apply_metadata(descriptor: int, metadata: Metadata) -> None:
    if metadata.mode is not None:
        os.fchmod(descriptor, metadata.mode & _STORABLE_MODE)
    if metadata.mtime_ns is not None:
        # A time that this system can't represent is no reason to lose the bytes.
        with contextlib.suppress(OverflowError):
            os.utime(descriptor, ns=(metadata.mtime_ns, metadata.mtime_ns))


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


_DEFAULT_MODE: Final = 0o666 & ~_umask()
"""For a sender that sends no mode."""
