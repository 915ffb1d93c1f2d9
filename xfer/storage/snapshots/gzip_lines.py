"""Lines in a gzip file, read in constant memory, whatever the file holds.

A file may be several members one after the other (RFC 1952, 2.2), as `cat a.gz b.gz`
makes it; zcat and all others read it as one.
"""

import io
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from xfer.storage.snapshots.lines import MAX_LINE

_WITH_HEADER: Final = 31
"""For zlib: a gzip header and trailer, and a window of 32 KiB."""
_READ_BYTES: Final = 64 * 1024
_BLOCK_BYTES: Final = 256 * 1024
_MEMBER: Final = b"\x1f\x8b\x08"
"""Begins every member."""
_TAIL_BYTES: Final = 4096
"""Of the end of a file in which `last_member` looks for one."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def blocks_of_lines(file: Readable) -> Iterator[bytes]:
    """Blocks of whole lines, each line with its newline. ValueError says what is wrong.

    A block has at most 256 KiB beside its first line, which has at most MAX_LINE bytes.
    """
    rest = b""
    for chunk in _decompressed(file):
        lines, newline, tail = chunk.rpartition(b"\n")
        if newline:
            if len(rest) + chunk.index(b"\n") > MAX_LINE:
                raise ValueError("a line is longer than any can be")
            yield rest + lines + newline
            rest = tail
        else:
            rest += tail
        if len(rest) > MAX_LINE:
            raise ValueError("a line is longer than any can be")
    if rest:
        raise ValueError("its last line is cut")


def _decompressed(file: Readable) -> Iterator[bytes]:
    member = zlib.decompressobj(_WITH_HEADER)
    is_empty = True
    try:
        while data := file.read(_READ_BYTES):
            is_empty = False
            while data:
                if member.eof:
                    member = zlib.decompressobj(_WITH_HEADER)
                chunk = member.decompress(data, _BLOCK_BYTES)
                yield chunk
                while len(chunk) == _BLOCK_BYTES and not member.unconsumed_tail and not member.eof:
                    chunk = member.decompress(b"", _BLOCK_BYTES)  # what it still has
                    yield chunk
                data = member.unused_data if member.eof else member.unconsumed_tail
    except zlib.error as error:
        raise ValueError("it is no gzip, or has changed") from error
    if is_empty or not member.eof:
        raise ValueError("it was cut")


def last_member(file: io.BufferedIOBase | io.RawIOBase) -> bytes | None:
    """What the last member of a file holds, if that is small; None if it is not to be found."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES) or b""
    start = len(tail)
    while (start := tail.rfind(_MEMBER, 0, start)) >= 0:
        member = zlib.decompressobj(_WITH_HEADER)
        try:
            content = member.decompress(tail[start:], _BLOCK_BYTES)
        except zlib.error:
            continue  # three bytes that look like a beginning
        if member.eof and not member.unused_data:
            return content
    return None


class Compressor:
    """Compresses into an open file. `end_member` begins a new member."""

    def __init__(self, file: io.BufferedIOBase, level: int) -> None:
        self._file = file
        self._level = level
        self._member = self._new_member()

    def write(self, data: bytes) -> None:
        """OSError as of the file's write."""
        self._file.write(self._member.compress(data))

    def end_member(self) -> None:
        """OSError as above."""
        self._file.write(self._member.flush())
        self._member = self._new_member()

    def _new_member(self) -> "zlib._Compress":
        return zlib.compressobj(self._level, zlib.DEFLATED, _WITH_HEADER)
