"""What is asked for is answered, and the session that answered it is gone then."""

import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from xfer.errors import XferError
from xfer.logs import Peer
from xfer.server.requests import answer
from xfer.storage.local.reader import reading
from xfer.wire.channel import Channel
from xfer.wire.messages import Get


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize("heard", [0, 1, 2])
def test_a_getter_that_goes_away_leaves_no_session_behind(tmp_path: Path, heard: int) -> None:
    """In a circle, its buffers would be kept until the collector runs, which is rarely."""
    (tmp_path / "x").write_bytes(b"what matters\n")
    ours, theirs = socket.socketpair()

    def hear_and_leave() -> None:
        getter = Channel(theirs, 5)
        try:
            for _ in range(heard):
                getter.receive()
        except XferError:
            pass
        getter.close()

    leaving = threading.Thread(target=hear_and_leave)
    leaving.start()
    channel = Channel(ours, 5)
    known = weakref.ref(channel)
    with reading(str(tmp_path)) as reader:
        answer(Get(("x",)), channel, reader, Peer("somebody"))
    leaving.join()
    del channel
    assert known() is None
