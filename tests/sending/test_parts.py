"""Parts: every byte once, each with the digest so far; a resumed file begins where it may."""

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xfer.errors import LocalError
from xfer.sending.parts import PART_BYTES, Options, PartReader
from xfer.source.readers import StreamSource, open_source
from xfer.source.tree import Entry, Kind
from xfer.system.background import BackgroundThread
from xfer.wire.keepalive import Heartbeat
from xfer.wire.messages import PlannedFile

CONTENT = random.Random(1).randbytes(3 * PART_BYTES + 100)


@pytest.fixture
def reader() -> Iterator[PartReader]:
    with BackgroundThread() as background:
        yield PartReader(Options(), background, Heartbeat(background, lambda _: None))


def entry_of(tmp_path: Path, content: bytes) -> Entry:
    path = tmp_path / "file"
    path.write_bytes(content)
    return Entry(Kind.FILE, "file", str(path), path.stat())


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, len(CONTENT)])
def test_the_parts_are_the_file_and_each_has_the_digest_so_far(
    reader: PartReader, tmp_path: Path, size: int
) -> None:
    content = CONTENT[:size]
    read = b""
    with open_source(entry_of(tmp_path, content)) as source:
        for part in reader.parts(source, reader.begin(source, None)):
            assert part.offset == len(read)
            read += part.data
            assert (part.digest, part.file_size) == (md5(read), size)
    assert read == content


@pytest.mark.parametrize(("size", "is_one"), [(0, True), (PART_BYTES, True), (PART_BYTES + 1, 0)])
def test_a_small_file_is_one_part(
    reader: PartReader, tmp_path: Path, size: int, is_one: bool
) -> None:
    with open_source(entry_of(tmp_path, CONTENT[:size])) as source:
        part = reader.whole(source)
        assert (part is not None) == is_one
        if part:
            assert (bytes(part.data), part.digest) == (CONTENT[:size], md5(CONTENT[:size]))


@pytest.mark.parametrize(
    ("offset", "digest", "begins"),
    [
        (PART_BYTES + 7, md5(CONTENT[: PART_BYTES + 7]), PART_BYTES + 7),
        (PART_BYTES + 7, md5(b"other"), 0),
        (len(CONTENT) + 1, md5(CONTENT), 0),
    ],
    ids=["the same bytes", "other bytes", "more bytes than there are"],
)
def test_a_file_is_resumed_where_the_receiver_has_the_same_bytes(
    reader: PartReader, tmp_path: Path, offset: int, digest: str, begins: int
) -> None:
    plan = PlannedFile("file", "resume", offset, md5=digest)
    with open_source(entry_of(tmp_path, CONTENT)) as source:
        beginning = reader.begin(source, plan)
        assert beginning.offset == begins
        parts = [(bytes(part.data), part.digest) for part in reader.parts(source, beginning)]
    assert b"".join(data for data, _ in parts) == CONTENT[begins:]
    assert parts[-1][1] == md5(CONTENT)


def test_a_stream_has_no_size_until_it_ends(reader: PartReader) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"abc")
    os.close(theirs)
    source = StreamSource(ours)
    assert reader.whole(source) is None
    parts = [
        (bytes(part.data), part.file_size)
        for part in reader.parts(source, reader.begin(source, None))
    ]
    os.close(ours)
    assert b"".join(data for data, _ in parts) == b"abc"
    assert parts[-1][1] == 3


def test_parts_that_are_left_early_do_not_wait_for_a_silent_stream(reader: PartReader) -> None:
    ours, theirs = os.pipe()
    writing = threading.Thread(target=os.write, args=(theirs, CONTENT[:PART_BYTES]))
    writing.start()
    source = StreamSource(ours)
    parts = reader.parts(source, reader.begin(source, None))
    assert len(next(parts).data) == PART_BYTES
    began = time.monotonic()
    parts.close()
    assert time.monotonic() - began < 5
    writing.join()
    os.close(theirs)
    os.close(ours)


def test_a_file_that_changes_while_it_is_read_is_no_part(
    reader: PartReader, tmp_path: Path
) -> None:
    entry = entry_of(tmp_path, CONTENT)
    with open_source(entry) as source:
        parts = reader.parts(source, reader.begin(source, None))
        next(parts)
        os.truncate(entry.path, PART_BYTES)
        with pytest.raises(LocalError, match="changed while it was read"):
            list(parts)


def test_the_digest_of_what_cannot_be_read_is_left_out(reader: PartReader, tmp_path: Path) -> None:
    entry = entry_of(tmp_path, CONTENT)
    assert reader.digest_of(entry) == md5(CONTENT)
    os.remove(entry.path)
    assert reader.digest_of(entry) is None
