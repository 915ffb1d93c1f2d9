"""Inbox: what is read is what came, in whatever pieces; a body ends where the next frame begins."""

import contextlib
import socket
from collections.abc import Iterator
from itertools import accumulate

import pytest

from tests.support.channels import Ends, concurrently
from xfer.errors import ConnectionLost
from xfer.wire.inbox import Inbox
from xfer.wire.messages import Done
from xfer.wire.transport import Transport
from xfer.wire.waiter import Waiter


@pytest.mark.parametrize("taken", [0, 1, 99_999, 300_000])
def test_a_drained_body_leaves_the_next_message(ends: Ends, taken: int) -> None:
    ours, theirs = ends
    body = theirs.body(300_000)

    def drain() -> None:
        body.read_into(memoryview(bytearray(taken)))
        assert body.remaining == 300_000 - taken
        body.drain(memoryview(bytearray(65_000)))
        theirs.expect(Done)

    def send() -> None:
        ours.send_body(bytes(300_000))
        ours.send(Done())
        ours.flush()

    concurrently(send, drain)
    assert body.remaining == 0


@pytest.fixture
def inbox() -> Iterator[tuple[socket.socket, Inbox]]:
    """What sends to an inbox, and that."""
    far, near = socket.socketpair()
    with far, contextlib.closing(Transport(near, Waiter(near, 5))) as transport:
        yield far, Inbox(transport)


def test_what_is_read_is_what_came_whatever_the_pieces(inbox: tuple[socket.socket, Inbox]) -> None:
    """Pieces of which some end within the buffer, some at its end, and some are larger."""
    far, near = inbox
    sizes = [0, 1, 8191, 8192, 8193, 3, 20_000, 100]
    sent = bytes(number % 251 for number in range(sum(sizes)))
    far.sendall(sent)
    assert [near.read(size) for size in sizes] == [
        sent[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)
    ]


def test_an_inbox_that_grows_keeps_what_is_in_it(inbox: tuple[socket.socket, Inbox]) -> None:
    far, near = inbox
    far.sendall(b"not read yet")
    assert near.read(4) == b"not "
    near.enlarge()
    assert near.read(8) == b"read yet"


def test_nothing_is_waited_for_to_see_what_has_come(inbox: tuple[socket.socket, Inbox]) -> None:
    far, near = inbox
    assert not near.fill_now()
    far.sendall(b"ab")
    assert near.fill_now()
    assert near.read(1) == b"a"
    assert near.fill_now()
    assert near.read(1) == b"b"
    assert not near.fill_now()


def test_draining_is_bounded(inbox: tuple[socket.socket, Inbox]) -> None:
    far, near = inbox
    far.sendall(bytes(50_000))
    near.drain(20_000)
    far.shutdown(socket.SHUT_WR)
    left = 0
    with contextlib.suppress(ConnectionLost):
        while near.read(1):
            left += 1
    assert 50_000 - 20_000 - 8 * 1024 <= left <= 50_000 - 20_000
