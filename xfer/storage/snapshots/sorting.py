"""Sorts any number of byte strings in bounded memory, by merging runs on disk.

    add ──> a list, until it is large ──sorted──> a chunk in a temporary file
    iterate <── the chunks, merged (Knuth, The Art of Computer Programming 3, 5.4)

The file has no name: it is gone with the process, whatever ends it.
"""

import heapq
import io
import os
from collections.abc import Iterable, Iterator
from typing import Final, Self

from msgspec import Struct

from xfer.storage.snapshots.places import new_file

_IN_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of a list before it becomes a chunk. With what Python adds, twice as much is taken."""
_OVERHEAD: Final = 40
"""Bytes that Python adds to each."""
_MERGED: Final = 64
"""Chunks that are merged at once."""
_READ_BYTES: Final = 64 * 1024
"""Of one chunk, while it is merged."""
_WRITE_BYTES: Final = 1024 * 1024


class Chunk(Struct, frozen=True):
    """Sorted lines in an open file, from `start` to `end`."""

    file: int
    start: int
    end: int


class Sorter:
    """Sorts byte strings that have no newline. Closed as a context. One thread uses it.

    OSError when there is no room in the directory of the temporary file.
    """

    def __init__(self, directory: int, in_memory: int = _IN_MEMORY) -> None:
        """For an open directory. `in_memory` bytes are held at most, beside what merging takes."""
        self._directory = directory
        self._most = in_memory
        self._list: list[bytes] = []
        self._bytes = 0
        self._file: io.FileIO | None = None
        self._levels: list[list[Chunk]] = []
        """Chunks of what was added, merged ones of those, and so on: fewer than _MERGED of each."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def add(self, item: bytes) -> None:
        self._list.append(item)
        self._bytes += len(item) + _OVERHEAD
        if self._bytes >= self._most:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        """All that was added, sorted; nothing is added afterwards."""
        self._list.sort()
        if not self._levels:
            return iter(self._list)
        return heapq.merge(*(_read(chunk) for level in self._levels for chunk in level), self._list)

    def _spill(self) -> None:
        self._list.sort()
        self._add_chunk(0, self._write(self._list))
        self._list = []
        self._bytes = 0

    def _add_chunk(self, level: int, chunk: Chunk) -> None:
        if level == len(self._levels):
            self._levels.append([])
        chunks = self._levels[level]
        chunks.append(chunk)
        if len(chunks) == _MERGED:
            merged = self._write(heapq.merge(*map(_read, chunks)))
            chunks.clear()
            self._add_chunk(level + 1, merged)

    def _write(self, items: Iterable[bytes]) -> Chunk:
        file = self._file = self._file or unnamed_file(self._directory)
        start = end = file.seek(0, io.SEEK_END)
        buffer = bytearray()
        for item in items:
            buffer += item
            buffer += b"\n"
            if len(buffer) >= _WRITE_BYTES:
                end += write_all(file, buffer)
                buffer.clear()
        return Chunk(file.fileno(), start, end + write_all(file, buffer))


def _read(chunk: Chunk) -> Iterator[bytes]:
    at, rest = chunk.start, b""
    while at < chunk.end:
        block = os.pread(chunk.file, min(_READ_BYTES, chunk.end - at), at)
        at += len(block)
        *items, rest = (rest + block).split(b"\n")
        yield from items


def unnamed_file(directory: int) -> io.FileIO:
    """A new temporary file in an open directory, for reading and writing, without a name."""
    name, descriptor = new_file(directory)
    os.unlink(name, dir_fd=directory)
    return io.FileIO(descriptor, "r+")


def write_all(file: io.FileIO, data: bytes | bytearray) -> int:
    """Write all of `data`; how many bytes that is."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    rest.release()
    return len(data)
