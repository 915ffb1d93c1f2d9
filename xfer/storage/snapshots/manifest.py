"""A manifest: one snapshot as a file, read and written in constant memory.

    zcat DIR/.xfer/snapshots/KEY/JOB/20261123T030002.123456Z.jsonl.gz | jq -r .name

gzip of JSON lines (see `lines`): a header; the names, each once, in the order of
`lines.sort_key`, so that listing, looking up and comparing two snapshots each take
one pass; a footer that counts them. The three are members of their own, by which
header and footer are read without what is between them.

What was cut, changed or forged is told by the footer that is missing or counts
otherwise, by gzip's own checksums, or by lines that could not be there: nothing
that a manifest says is believed before it was looked at.
"""

import errno
import io
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, Self, TypeVar

from xfer import names
from xfer.errors import Refused
from xfer.storage.snapshots.errors import DamagedManifest
from xfer.storage.snapshots.gzip_lines import Compressor, blocks_of_lines, last_member
from xfer.storage.snapshots.lines import (
    AnyLine,
    Decoder,
    FileLine,
    Footer,
    Header,
    Line,
    SymlinkLine,
    encode,
    sort_key,
)
from xfer.storage.snapshots.places import Placed, open_manifest
from xfer.storage.snapshots.tally import Tally

Value = TypeVar("Value")

_LEVEL: Final = 1
"""Of gzip. Digests do not compress: for a million names, 1 takes 1.2 s and 50 MB, 6 takes 2.5 s
and 45 MB, 9 takes 5.4 s and 44 MB (see tests/benchmarks)."""
_BATCH: Final = 1000
"""Lines that are encoded together."""
_HEADERS: Final = Decoder[Header](Header)
_FOOTERS: Final = Decoder[Footer](Footer)
_LINES: Final = Decoder[AnyLine](AnyLine)


class Manifest:
    """A manifest, open for reading. Every method raises DamagedManifest for what is none."""

    def __init__(self, file: io.BufferedReader, path: str) -> None:
        """`file` is this object's to close. `path` names it in errors."""
        self._file = file
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def header(self) -> Header:
        return self._checked(self._read_header)

    def footer(self) -> Footer:
        """Read from the end, where it is there by itself; what is before it is not looked at."""
        return self._checked(self._read_footer)

    def blocks(self) -> Iterator[list[Line]]:
        """All lines between header and footer, in order, in lists of some hundred.

        What is wrong is raised where it is met: only after the last list is known that
        nothing is.
        """
        try:
            yield from self._read_blocks()
        except (ValueError, OSError) as error:
            raise DamagedManifest(self.path, _reason(error)) from error

    def __iter__(self) -> Iterator[Line]:
        return chain.from_iterable(self.blocks())

    def _checked(self, read: Callable[[], Value]) -> Value:
        try:
            return read()
        except (ValueError, OSError) as error:
            raise DamagedManifest(self.path, _reason(error)) from error

    def _read_header(self) -> Header:
        self._file.seek(0)
        for block in blocks_of_lines(self._file):
            return _HEADERS.line(block.partition(b"\n")[0])
        raise ValueError("it is empty")

    def _read_footer(self) -> Footer:
        last = last_member(self._file)
        if last is not None and last.count(b"\n") == 1:
            return _FOOTERS.line(last)
        checker = _Checker()  # it was compressed anew, by hand
        for block in self._decoded():
            checker.check(block)
        return checker.end()

    def _read_blocks(self) -> Iterator[list[Line]]:
        checker = _Checker()
        for block in self._decoded():
            yield checker.check(block)
        checker.end()

    def _decoded(self) -> Iterator[list[AnyLine]]:
        self._file.seek(0)
        for block in blocks_of_lines(self._file):
            yield _LINES.block(block)


def open_placed(state: int, placed: Placed) -> Manifest | None:
    """A manifest below an open DIR/.xfer; None if it is gone.

    DamagedManifest when it can't be opened. OSError when this process has no room to open it.
    """
    try:
        return Manifest(open_manifest(state, placed), placed.path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise DamagedManifest(placed.path, _reason(error)) from error


class _Checker:
    """Sees all lines of one manifest, and finds what cannot be."""

    def __init__(self) -> None:
        self._has_header = False
        self._footer: Footer | None = None
        self._last = b""
        self._tally = Tally()

    def check(self, block: list[AnyLine]) -> list[Line]:
        """The lines of names in the next block. ValueError says what is wrong."""
        lines: list[Line] = []
        for line in block:
            if self._footer:
                raise ValueError("there is something after the footer")
            if isinstance(line, Header):
                self._note_header()
            elif isinstance(line, Footer):
                self._footer = line
            else:
                self._check_line(line)
                lines.append(line)
        return lines

    def _note_header(self) -> None:
        if self._has_header:
            raise ValueError("it has a second header")
        self._has_header = True

    def _check_line(self, line: Line) -> None:
        if not self._has_header:
            raise ValueError("it has no header")
        if not names.is_safe(line.name):
            raise ValueError("a name is not safe")
        key = sort_key(line.name)
        if key <= self._last:
            raise ValueError("its names are out of order, or one is there twice")
        self._last = key
        require_whole(line)
        self._tally.add(line)

    def end(self) -> Footer:
        if self._footer is None:
            raise ValueError("it was cut: there is no footer")
        if not self._tally.agrees_with(self._footer):
            raise ValueError("its lines are not those that the footer counts")
        if self._footer.complete and self._footer.failed:
            raise ValueError("it is called complete, and something failed")
        return self._footer


def require_whole(line: Line) -> None:
    """ValueError for a line that says too little, or what no store could have."""
    if isinstance(line, FileLine) and (line.md5 is None) is (line.blake3 is None):
        raise ValueError("a file has not one digest")
    if isinstance(line, SymlinkLine):
        try:
            names.check_target(line.target)
        except Refused as error:
            raise ValueError("a link has an unsafe target") from error


class ManifestWriter:
    """Writes one manifest into an open file: a header, then the lines in order, then a footer.

    Its methods raise OSError as the file's `write` does.
    """

    def __init__(self, file: io.BufferedIOBase, header: Header) -> None:
        self._output = Compressor(file, _LEVEL)
        self._output.write(encode([header]))
        self._output.end_member()
        self._batch: list[Line] = []

    def add(self, line: Line) -> None:
        self._batch.append(line)
        if len(self._batch) == _BATCH:
            self._write_batch()

    def end(self, footer: Footer) -> None:
        """The caller flushes the file."""
        self._write_batch()
        self._output.end_member()
        self._output.write(encode([footer]))
        self._output.end_member()

    def _write_batch(self) -> None:
        self._output.write(encode(self._batch))
        self._batch.clear()


def _reason(error: ValueError | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return str(error)
