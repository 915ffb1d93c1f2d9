"""Bodies: written and hashed to the byte, or received and forgotten."""

import hashlib
import random
from collections.abc import Iterator

import pytest

from tests.support.channels import Ends, concurrently
from xfer import digests
from xfer.receiving.bodies import INLINE_BYTES, BodyReceiver
from xfer.receiving.uploads import Upload
from xfer.storage.contract import StoreWriter
from xfer.system.background import BackgroundThread
from xfer.wire.messages import Done

CONTENT = random.Random(2).randbytes(5 * 256 * 1024 + 1)
SIZES = [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 2 * 256 * 1024, len(CONTENT)]


@pytest.fixture
def bodies() -> Iterator[BodyReceiver]:
    with BackgroundThread() as background:
        yield BodyReceiver(background)


def send(ends: Ends, size: int) -> None:
    """A body, and a message after it."""
    ends[0].send_body(CONTENT[:size])
    ends[0].send(Done())
    ends[0].flush()


@pytest.mark.parametrize("size", SIZES)
def test_a_body_is_appended_and_hashed_to_the_byte(
    bodies: BodyReceiver, ends: Ends, writer: StoreWriter, size: int
) -> None:
    upload = Upload(writer.create_partial(), "md5", digests.new("md5"), 0.0)
    concurrently(lambda: send(ends, size), lambda: bodies.append(ends[1].body(size), upload))
    written = bytearray(size)
    assert upload.partial.read_at(0, memoryview(written)) == upload.size == size
    assert (bytes(written), ends[1].receive()) == (CONTENT[:size], Done())
    assert upload.digest.hexdigest() == hashlib.md5(written, usedforsecurity=False).hexdigest()
    upload.partial.discard()


@pytest.mark.parametrize("size", SIZES)
def test_after_a_drained_body_comes_the_next_message(
    bodies: BodyReceiver, ends: Ends, size: int
) -> None:
    concurrently(lambda: send(ends, size), lambda: bodies.drain(ends[1].body(size)))
    assert ends[1].receive() == Done()
