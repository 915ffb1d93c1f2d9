"""A real store in a directory, and what it takes to receive into it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.channels import Ends, joined
from xfer.receiving.rehash import Rehasher
from xfer.receiving.uploads import Uploads
from xfer.storage.contract import StoreWriter
from xfer.system.background import BackgroundThread
from xfer.wire.keepalive import Heartbeat

TIMEOUT = 10.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The store of these tests is the test's own directory."""
    return tmp_path


@pytest.fixture
def rehasher() -> Iterator[Rehasher]:
    with BackgroundThread() as background:
        yield Rehasher(Heartbeat(background, lambda _: None))


@pytest.fixture
def uploads(writer: StoreWriter, rehasher: Rehasher) -> Iterator[Uploads]:
    opened = Uploads(writer, rehasher)
    yield opened
    opened.keep_all()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The sender's end of a connection, and the receiver's."""
    with joined(socket.socketpair(), TIMEOUT) as both:
        yield both
