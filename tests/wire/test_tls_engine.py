"""TLSEngine: plain bytes come out as they went in, and a peer cannot make it hold many records."""

import hmac
import re
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xfer.auth.identity import client_context, load_identity
from xfer.errors import ConnectionLost, ProtocolError
from xfer.wire.tls_engine import BATCH_BYTES, TLSEngine


def expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of TLS 1.3 (RFC 8446, 7.1), for no more than one hash's length."""
    info = struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
    return hmac.digest(secret, info + b"\1", "sha384")[:length]


def key_updates(secret: bytes, count: int) -> bytes:
    """So many records, each of which changes the keys and asks the other side to do the same."""
    records = b""
    update_requested, handshake_type = b"\x18\0\0\1\1", b"\x16"
    header = struct.pack("!BHH", 0x17, 0x0303, len(update_requested) + 1 + 16)
    for _ in range(count):
        cipher = AESGCM(expanded(secret, b"key", 32))
        nonce = expanded(secret, b"iv", 12)  # of the first record with each key
        records += header + cipher.encrypt(nonce, update_requested + handshake_type, header)
        secret = expanded(secret, b"traffic upd", 48)
    return records


def feed_all(end: TLSEngine, records: bytes) -> None:
    """Have it take records that carry no plain bytes."""
    for begin in range(0, len(records), BATCH_BYTES):
        end.feed(memoryview(records)[begin : begin + BATCH_BYTES])
        assert not end.is_open or end.decrypt_into(memoryview(bytearray(1))) == 0


def shake_hands(server: TLSEngine, client: TLSEngine) -> None:
    while not (server.is_open and client.is_open):
        for one, other in ((client, server), (server, client)):
            one.handshake()
            if records := one.outgoing():
                feed_all(other, records)


@pytest.fixture
def ends(tmp_path: Path) -> tuple[TLSEngine, TLSEngine]:
    """A server's and a client's, after the handshake."""
    server = TLSEngine(load_identity(str(tmp_path)).context, server_side=True)
    client = TLSEngine(client_context(), server_side=False)
    shake_hands(server, client)
    return server, client


def test_a_peer_that_asks_for_answers_and_no_more_gets_no_memory(tmp_path: Path) -> None:
    """Nothing is sent meanwhile, so what OpenSSL answers by itself would wait for ever."""
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    ours = TLSEngine(load_identity(str(tmp_path)).context, server_side=True)
    theirs = TLSEngine(context, server_side=False)
    shake_hands(ours, theirs)
    logged = re.search(r"CLIENT_TRAFFIC_SECRET_0 \S+ (\w+)", (tmp_path / "keys").read_text())
    assert logged
    updates = key_updates(bytes.fromhex(logged[1]), 15_000)
    with pytest.raises(ProtocolError, match="requests for new keys"):
        feed_all(ours, updates)
    assert len(ours.outgoing()) < 400_000


def test_what_goes_in_at_one_end_comes_out_at_the_other(ends: tuple[TLSEngine, TLSEngine]) -> None:
    """In batches of records, into views of any size."""
    server, client = ends
    data = rest = memoryview(bytes(range(256)) * 2000)
    got = bytearray()
    view = memoryview(bytearray(10_000))
    while rest:
        rest = client.encrypt(rest)
        server.feed(memoryview(client.outgoing()))
        while size := server.decrypt_into(view):
            got += view[:size]
        assert not server.has_more
    assert got == data


def test_there_may_be_more_where_a_view_is_full(ends: tuple[TLSEngine, TLSEngine]) -> None:
    server, client = ends
    client.encrypt(memoryview(b"two bytes"))
    server.feed(memoryview(client.outgoing()))
    assert server.decrypt_into(memoryview(bytearray(2))) == 2
    assert server.has_more


@pytest.mark.parametrize("says_so", [True, False])
def test_an_end_is_a_lost_connection_whether_it_is_announced_or_not(
    ends: tuple[TLSEngine, TLSEngine], says_so: bool
) -> None:
    server, client = ends
    client.encrypt(memoryview(b"last"))
    server.feed(memoryview(client.close() if says_so else client.outgoing()))
    server.feed(memoryview(b""))
    view = memoryview(bytearray(10))
    assert server.decrypt_into(view) == 4
    with pytest.raises(ConnectionLost, match="closed"):
        server.decrypt_into(view)


def test_a_record_that_was_changed_on_the_way_is_not_this_protocol(
    ends: tuple[TLSEngine, TLSEngine],
) -> None:
    server, client = ends
    client.encrypt(memoryview(b"what matters"))
    record = bytearray(client.outgoing())
    record[-1] ^= 1
    server.feed(memoryview(record))
    with pytest.raises(ProtocolError, match="TLS failed"):
        server.decrypt_into(memoryview(bytearray(100)))


def test_nothing_is_sent_before_the_handshake_is_over() -> None:
    with pytest.raises(ConnectionLost, match="handshake"):
        TLSEngine(client_context(), server_side=False).encrypt(memoryview(b"early"))
