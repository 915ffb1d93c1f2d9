"""Transport: a byte can be looked at first, and a handshake that comes to nothing says why."""

import contextlib
import select
import socket
import struct

import pytest

from tests.support.channels import concurrently, joined, lost, over_loopback
from xfer.auth.identity import Identity, certificate_binding, client_context
from xfer.errors import ConnectionLost, PeerTimeout, ProtocolError, XferError
from xfer.wire.channel import Channel


def test_peeking_takes_nothing_away() -> None:
    with joined(over_loopback(), 10) as (ours, theirs):
        ours.send_body(b"\x16rest")
        ours.flush()
        assert [theirs.peek(), theirs.peek()] == [0x16, 0x16]
        assert theirs.read(5) == b"\x16rest"


def test_peeking_at_a_connection_that_ended_finds_it_lost() -> None:
    with joined(over_loopback(), 10) as (ours, theirs):
        ours.close()
        with lost():
            theirs.peek()


def reset(client: socket.socket, server: socket.socket) -> None:
    """Break the connection off with a reset, and see it arrive."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    poller = select.poll()
    poller.register(server, select.POLLHUP)
    assert poller.poll(5000)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
@pytest.mark.parametrize("server_side", [True, False])
def test_a_reset_before_the_handshake_is_a_lost_connection(
    identity: Identity, said: bytes, server_side: bool
) -> None:
    client, server = over_loopback()
    client.sendall(said)
    context = identity.context if server_side else client_context()
    with contextlib.closing(Channel(server, 5)) as channel:
        reset(client, server)
        with lost():
            channel.start_tls(context, server_side=server_side)


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ProtocolError),
        (b"\0\0\0\x0f" + b'{"type":"done"}', ProtocolError),
        (b"", ConnectionLost),
    ],
)
def test_what_is_no_tls_ends_the_handshake(
    identity: Identity, said: bytes, kind: type[XferError], server_side: bool
) -> None:
    context = identity.context if server_side else client_context()
    with joined(over_loopback(), 5) as (ours, theirs):
        ours.send_body(said)
        ours.flush()
        if not said:
            ours.close()
        with pytest.raises(kind):
            theirs.start_tls(context, server_side=server_side)


def test_a_handshake_with_a_silent_peer_times_out(identity: Identity) -> None:
    with joined(over_loopback(), 0.2) as (_, theirs), pytest.raises(PeerTimeout):
        theirs.start_tls(identity.context, server_side=True)


def test_only_tls_has_a_peer_certificate(identity: Identity) -> None:
    with joined(over_loopback(), 5) as (ours, theirs):
        assert ours.peer_certificate() == b""
        concurrently(
            lambda: ours.start_tls(client_context(), server_side=False),
            lambda: theirs.start_tls(identity.context, server_side=True),
        )
        assert certificate_binding(ours.peer_certificate()) == identity.binding
        assert theirs.peer_certificate() == b""
