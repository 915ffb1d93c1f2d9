"""Rehashing: exactly the beginning of a file, copied if asked for, never more than is there."""

import hashlib
import random
from collections.abc import Iterator

import pytest

from tests.support.stores import leave_partial, put
from xfer import digests
from xfer.errors import Code, Refused
from xfer.receiving.rehash import Rehasher
from xfer.storage.contract import StoreWriter
from xfer.storage.reading import StoredFileReader
from xfer.wire.keepalive import Progress

CONTENT = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
SIZES = [0, 1, 1024 * 1024, 1024 * 1024 + 1, len(CONTENT)]


@pytest.fixture
def stored(writer: StoreWriter) -> Iterator[StoredFileReader]:
    put(writer, "f", CONTENT)
    opened = writer.open_stored("f")
    assert opened
    yield opened
    opened.close()


def md5(content: bytes | bytearray) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("size", SIZES)
def test_the_first_bytes_of_a_file_are_hashed_and_no_more(
    rehasher: Rehasher, stored: StoredFileReader, size: int
) -> None:
    digest, progress = digests.new("md5"), Progress("f", size)
    rehasher.hash_beginning(stored, digest, progress)
    assert (digest.hexdigest(), progress.done) == (md5(CONTENT[:size]), size)


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_has_exactly_what_was_hashed(
    rehasher: Rehasher, writer: StoreWriter, stored: StoredFileReader, size: int
) -> None:
    digest, copy = digests.new("md5"), writer.create_partial()
    rehasher.hash_beginning(stored, digest, Progress("f", size), copy)
    content = bytearray(size + 1)
    assert copy.read_at(0, memoryview(content)) == copy.size == size
    assert md5(content[:size]) == digest.hexdigest()
    copy.discard()


def test_a_file_that_became_shorter_is_busy(rehasher: Rehasher, writer: StoreWriter) -> None:
    leave_partial(writer, "f", b"some")
    partial = writer.find_partial("f")
    assert partial
    with pytest.raises(Refused) as refused:
        rehasher.hash_beginning(partial, digests.new("md5"), Progress("f", 5))
    assert refused.value.code == Code.BUSY
    partial.discard()
