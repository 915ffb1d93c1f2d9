"""One file on its way to an open descriptor, standard output for example, as a store.

What has been written there cannot be taken back: it is right only if what comes last is,
the receipt. So nothing is resumed, and a second beginning is an error.
"""

import os
import select
from collections.abc import Sequence

from xfer.errors import Code, CorruptData, LocalError, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import (
    CommitSteps,
    Item,
    Metadata,
    NewFile,
    StoredFile,
)
from xfer.storage.recording import Confirmed, Run


class StreamPartial:
    """The bytes that were written so far (`contract.Partial`)."""

    previous_host = ""
    stored: StoredFile | None = None

    def __init__(self, descriptor: int) -> None:
        self.size = 0
        self._descriptor = descriptor

    def reserve(self, size: int) -> None:
        """There is no telling what the reader has room for."""

    def write(self, data: bytes | memoryview) -> None:
        """LocalError when the reader is gone, or the disk behind it full."""
        rest = memoryview(data)
        try:
            while rest:
                written = self._write_some(rest)
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise LocalError(f"standard output cannot be written: {error.strerror}") from error

    def _write_some(self, data: memoryview) -> int:
        """At least one byte; waits where whoever shares the pipe has made it non-blocking."""
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select((), (self._descriptor,), ())

    def read_at(self, offset: int, view: memoryview) -> int:
        raise Refused("what was written to a stream cannot be read")

    def truncate(self, size: int) -> None:
        """CorruptData: only what is wrong is cut off."""
        if size != self.size:
            raise CorruptData("what arrived does not match its digest")

    def reload(self) -> None:
        pass

    def finish(self, metadata: Metadata) -> None:
        """A stream has no mode and no time."""

    def keep(self) -> None:
        pass

    def discard(self) -> None:
        pass


class StreamWriter:
    """Writes one file to `descriptor` (`contract.StoreWriter`)."""

    durable = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._partial: StreamPartial | None = None
        self.is_complete = False
        """Whether all of the file was written, and was right."""

    @property
    def has_begun(self) -> bool:
        """Whether anything was written."""
        return self._partial is not None and self._partial.size > 0

    def require(self, name: str, size: int, have: int = 0) -> None:
        pass

    def count(self, name: str) -> None:
        pass

    def create_partial(
        self,
        name: str | None = None,
        size: int | None = None,
    ) -> StreamPartial:
        if self.has_begun:
            raise LocalError("what was written to standard output cannot be taken back")
        self._partial = StreamPartial(self._descriptor)
        return self._partial

    def find_partial(self, name: str) -> None:
        return None

    def kept(self, files: Sequence[str]) -> set[str]:
        return set()

    def statuses(self, files: Sequence[str]) -> list[StoredFile | None]:
        return [None] * len(files)

    def flush_stored(self, files: Sequence[str]) -> set[str]:
        return set(files)

    def absent(self, directories: Sequence[str]) -> list[str]:
        return []

    def open_stored(self, name: str) -> None:
        return None

    def held_time(self, mtime_ns: int | None) -> int | None:
        return mtime_ns

    def set_metadata(self, name: str, metadata: Metadata) -> bool:
        return False

    def commit(self, items: Sequence[Item]) -> CommitSteps:
        """All that there is to do was done when the last byte was written."""
        yield from ()
        self.is_complete |= any(isinstance(item, NewFile) for item in items)
        return [Outcome.STORED if isinstance(item, NewFile) else _no_file() for item in items]

    def begin_run(self, run: Run) -> None:
        raise Refused("a stream has no snapshots", code=Code.UNSUPPORTED)

    def record(self, confirmed: Sequence[Confirmed]) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def _no_file() -> Refused:
    return Refused("no file, and nothing else goes to standard output", code=Code.BAD_NAME)
