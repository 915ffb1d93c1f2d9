"""Reading what is to be sent: a file, or standard input.

A source is open when it is made, and the caller closes it by using it as a
context. A file must not change while it is read: what arrives would be neither
the old content nor the new one.
"""

import os
import select
import stat
import sys
import time
from typing import Final, Protocol, Self

from xfer.errors import LocalError
from xfer.source.tree import Entry, Kind, relative, time_of, unreadable

_STREAM_PATIENCE: Final = 15.0
"""Seconds that a read of standard input takes at most. Then what there is of it is sent, even if
it is nothing: the receiver sees that the sender is there."""
_POLL_SECONDS: Final = 0.25
"""How soon an interrupt is noticed."""


class Source(Protocol):
    """Something to send, open. One thread at a time reads it; any may interrupt it.

    `size` is in bytes, None until it is known. `mode` and `mtime_ns` are None for
    what has none.
    """

    @property
    def size(self) -> int | None: ...

    @property
    def mode(self) -> int | None: ...

    @property
    def mtime_ns(self) -> int | None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def read_into(self, view: memoryview) -> int:
        """Fill the front of `view`; how many bytes. Fewer than fit mean the end, or a pause.

        LocalError when it can't be read, or has changed.
        """

    def is_at_end(self) -> bool:
        """Whether all bytes have been read."""

    def rewind(self) -> None:
        """Start again from the beginning. LocalError where that is impossible."""

    def interrupt(self) -> None:
        """Let a read that is under way in another thread return soon, and all later ones."""


class FileSource:
    """A file, and the size, mode and time that it had when it was opened, not when it was found."""

    def __init__(self, entry: Entry) -> None:
        """Open the file. LocalError when that fails, or it is no plain file any more.

        Not blocking: a FIFO that has taken its place would wait for a writer.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            target, directory = relative(entry.path, entry.parent)
            self._descriptor = os.open(target, flags, dir_fd=directory)
        except OSError as error:
            raise unreadable(entry.path, error) from error
        self._path = entry.path
        self._status = status = os.fstat(self._descriptor)
        self._position = 0
        self.size = status.st_size
        self.mode = stat.S_IMODE(status.st_mode)
        self.mtime_ns = time_of(status)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._descriptor)
            raise LocalError(f"{entry.path} is not a plain file any more")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read_into(self, view: memoryview) -> int:
        filled = 0
        try:
            while filled < len(view):
                size = os.readv(self._descriptor, [view[filled:]])
                filled += size
                if not size or self._position + filled == self.size:
                    break
        except OSError as error:
            raise unreadable(self._path, error) from error
        self._position += filled
        if filled < len(view) or self.is_at_end():
            self._require_unchanged()
        return filled

    def is_at_end(self) -> bool:
        return self._position >= self._status.st_size

    def rewind(self) -> None:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._position = 0

    def interrupt(self) -> None:
        """A read of a plain file returns soon by itself."""

    def _require_unchanged(self) -> None:
        """LocalError if size or times have changed, or if the size was not that of its bytes.

        The change time (ctime), too, which nobody can set back; a new mode or name changes
        it as well, and which of these it was cannot be told. Not seen are bytes that are
        written through a mapping into a page that was written to before: that changes no
        time until the page goes to the disk. Files below /proc say that they have 0 bytes.
        """
        before, now = self._status, os.fstat(self._descriptor)
        same_times = (now.st_mtime_ns, now.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
        if not same_times or (self._position, now.st_size) != (self.size, self.size):
            raise LocalError(f"{self._path} changed while it was read")


class StreamSource:
    """Standard input, which has a size once it has ended."""

    def __init__(self, descriptor: int) -> None:
        """The descriptor stays open: it belongs to the process."""
        self._descriptor = descriptor
        self._position = 0
        # Set once, by any thread. The reading thread looks at it every quarter of a second: to
        # see it later would do no harm, so that it needs no lock.
        self._interrupted = False
        self.size: int | None = None
        self.mode = self.mtime_ns = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read_into(self, view: memoryview) -> int:
        """Read until `view` is full, the stream ends, it is interrupted, or 15 seconds are over."""
        filled = 0
        patience_ends = time.monotonic() + _STREAM_PATIENCE
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        while filled < len(view) and time.monotonic() < patience_ends and not self._interrupted:
            if not poller.poll(_POLL_SECONDS * 1000):
                continue
            size = self._read(view[filled:])
            if not size:
                self.size = self._position + filled
                break
            filled += size
        self._position += filled
        return filled

    def _read(self, view: memoryview) -> int:
        try:
            return os.readv(self._descriptor, [view])
        except OSError as error:
            raise unreadable("standard input", error) from error

    def is_at_end(self) -> bool:
        return self.size is not None

    def rewind(self) -> None:
        raise LocalError("standard input cannot be read twice")

    def interrupt(self) -> None:
        self._interrupted = True


def open_source(entry: Entry) -> Source:
    """Open a file or standard input; LocalError when that fails, or the file is no plain one."""
    if entry.kind is Kind.STREAM:
        if sys.stdin is None:
            raise LocalError("standard input is closed")
        return StreamSource(sys.stdin.fileno())
    return FileSource(entry)
