"""Channel: two real ends, plain and over TLS; what one says the other hears, in bounded time."""

import contextlib
import hashlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.channels import Ends, concurrently, joined, over_loopback
from xfer.auth.identity import Identity, certificate_binding, client_context, load_identity
from xfer.errors import (
    Cancelled,
    Code,
    ConnectionLost,
    CorruptData,
    PeerTimeout,
    ProtocolError,
    Refused,
    XferError,
)
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire.channel import Channel, expected
from xfer.wire.messages import DirectoryHeader, Done, Error, FileHeader, SymlinkHeader

SIZES = [
    0,
    1,
    100,
    65_535,
    65_536,
    65_537,
    262_143,
    262_144,
    262_145,
    1_000_000,
    3_000_000,
    40_000,
    30_000,
]


def lost() -> contextlib.AbstractContextManager[object]:
    """Expects ConnectionLost, and not its kin PeerTimeout."""
    return pytest.raises(ConnectionLost, match="connection")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return load_identity(str(tmp_path_factory.mktemp("state")))


Join = Callable[[float], contextlib.AbstractContextManager[Ends]]


@pytest.fixture(params=["socket pair", "loopback", "TLS"])
def join(request: pytest.FixtureRequest, identity: Identity) -> Join:
    """Makes two connected ends with a timeout in seconds."""

    @contextlib.contextmanager
    def make(timeout: float) -> Iterator[Ends]:
        plain = socket.socketpair if request.param == "socket pair" else over_loopback
        with joined(plain(), timeout) as (ours, theirs):
            if request.param == "TLS":
                concurrently(
                    lambda: ours.start_tls(client_context(), server_side=False),
                    lambda: theirs.start_tls(identity.context, server_side=True),
                )
            yield ours, theirs

    return make


@pytest.fixture
def ends(join: Join) -> Iterator[Ends]:
    with join(10.0) as both:
        yield both


def say_slowly(channel: Channel, data: bytes, pause: float) -> None:
    """One byte at a time, until it is said or nobody listens any more."""
    with contextlib.suppress(ConnectionLost):
        for byte in data:
            time.sleep(pause)
            channel.send_body(bytes([byte]))
            channel.flush()


def block(size: int, seed: str) -> bytes:
    return (hashlib.sha256(seed.encode()).digest() * (size // 32 + 1))[:size]


def send_all_sizes(channel: Channel, label: str) -> None:
    for size in SIZES:
        data = block(size, f"{label}{size}")
        channel.send(FileHeader(f"{label}{size}", size, hashlib.md5(data).hexdigest()))
        channel.send_body(data)
        channel.send(DirectoryHeader(f"after {size}"))
    channel.send(Done())
    channel.flush()


def receive_all_sizes(channel: Channel, label: str) -> None:
    for size in SIZES:
        header = channel.expect(FileHeader)
        assert header.file_name == f"{label}{size}"
        data = bytearray(header.body)
        channel.body(header.body).read_into(memoryview(data))
        assert data == block(size, f"{label}{size}")
        assert channel.expect(DirectoryHeader).file_name == f"after {size}"
    channel.expect(Done)


def test_messages_and_bodies_flow_both_ways_at_once(ends: Ends) -> None:
    ours, theirs = ends
    concurrently(
        lambda: send_all_sizes(ours, "to"),
        lambda: send_all_sizes(theirs, "fro"),
        lambda: receive_all_sizes(ours, "fro"),
        lambda: receive_all_sizes(theirs, "to"),
    )
    assert not ours.wait_for_message(None, 0)
    assert not theirs.wait_for_message(None, 0)


def test_a_payload_is_received_exactly_as_it_was_sent(ends: Ends) -> None:
    ours, theirs = ends
    sent = ours.send(SymlinkHeader("ü", "\udcff"))
    ours.flush()
    assert theirs.receive_payload() == sent


def test_what_is_queued_travels_once_it_is_flushed(ends: Ends) -> None:
    ours, theirs = ends
    ours.send(Done())
    time.sleep(0.05)
    assert not theirs.wait_for_message(None, 0)
    ours.send(DirectoryHeader("a"))
    ours.flush()
    theirs.wait_for_message(None, 10)
    assert theirs.wait_for_message(None, 0)
    theirs.expect(Done)
    assert theirs.wait_for_message(None, 0)
    theirs.expect(DirectoryHeader)
    assert not theirs.wait_for_message(None, 0)


def test_peeking_takes_nothing_away() -> None:
    with joined(over_loopback(), 10) as (ours, theirs):
        ours.send_body(b"\x16rest")
        ours.flush()
        assert [theirs.peek(), theirs.peek()] == [0x16, 0x16]
        assert theirs.read(5) == b"\x16rest"


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


# Time


def test_a_silent_peer_is_given_up_after_the_timeout(join: Join) -> None:
    with join(0.2) as (ours, _):
        began = time.monotonic()
        with pytest.raises(PeerTimeout):
            ours.receive()
        assert 0.2 <= time.monotonic() - began < 4


def test_a_peer_that_takes_nothing_is_given_up_after_the_timeout(join: Join) -> None:
    with join(0.2) as (ours, _), pytest.raises(PeerTimeout):
        ours.send_body(bytes(64 * 1024 * 1024))


def test_a_peer_that_moves_slowly_is_not_given_up(join: Join) -> None:
    with join(0.5) as (ours, theirs):
        read, _ = concurrently(
            lambda: theirs.read(8),
            lambda: say_slowly(ours, b"slowly, ", 0.1),
        )
    assert read == b"slowly, "


def test_a_peer_may_be_silent_while_it_is_being_sent_to(join: Join) -> None:
    def listen_then_answer(theirs: Channel) -> None:
        theirs.read(8)
        theirs.send(Done())
        theirs.flush()

    with join(0.5) as (ours, theirs):
        concurrently(
            lambda: say_slowly(ours, b"slowly, ", 0.1),
            lambda: listen_then_answer(theirs),
            lambda: ours.expect(Done),
        )


def test_a_byte_now_and_then_does_not_move_the_deadline(join: Join) -> None:
    with join(10) as (ours, theirs):

        def read_too_much() -> float:
            began = time.monotonic()
            theirs.set_deadline(0.3)
            with pytest.raises(PeerTimeout):
                theirs.read(40)
            return time.monotonic() - began

        def drip() -> float:
            say_slowly(ours, bytes(20), 0.03)
            return 0

        took, _ = concurrently(read_too_much, drip)
        assert 0.3 <= took < 5


def test_an_endless_stream_does_not_move_the_deadline(join: Join) -> None:
    """There is always something to read, so nobody ever waits."""
    with join(10) as (ours, theirs):
        ours.send_body(bytes(100))
        ours.flush()
        theirs.set_deadline(0.2)
        theirs.read(1)
        ours.send_body(bytes(100))
        ours.flush()
        time.sleep(0.3)
        with pytest.raises(PeerTimeout):
            theirs.read(150)


def test_a_deadline_can_be_lifted(ends: Ends) -> None:
    ours, theirs = ends
    theirs.set_deadline(0)
    with pytest.raises(PeerTimeout):
        theirs.read(1)
    theirs.set_deadline(None)
    concurrently(lambda: say_slowly(ours, b"x", 0.1), lambda: theirs.read(1))


# Waking


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    with contextlib.closing(StopSignal()) as signal:
        yield signal


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_a_wait_is_interrupted_and_can_be_taken_up_again(
    ends: Ends, stop: StopSignal, delay: float
) -> None:
    ours, theirs = ends
    stopping = threading.Timer(delay, stop.set)
    stopping.start()
    with pytest.raises(Interrupted):
        theirs.wait_for_message(stop, 10)
    stopping.join()
    ours.send(Done())
    ours.flush()
    theirs.wait_for_message(None, 10)
    theirs.expect(Done)


def test_a_stop_goes_before_what_has_arrived_and_loses_none_of_it(
    ends: Ends, stop: StopSignal
) -> None:
    ours, theirs = ends
    ours.send(Done())
    ours.send(Done())
    ours.flush()
    theirs.wait_for_message(stop, 10)
    theirs.expect(Done)
    stop.set()
    stop.set()
    with pytest.raises(Interrupted):
        theirs.wait_for_message(stop, 10)
    theirs.wait_for_message(None, 10)
    theirs.expect(Done)


# Endings


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x0f", b'\0\0\0\x0f{"type":'])
def test_a_connection_that_ends_is_lost_wherever_it_ends(ends: Ends, said: bytes) -> None:
    ours, theirs = ends
    ours.send_body(said)
    ours.flush()
    ours.close()
    with lost():
        theirs.receive()


def test_a_connection_that_ends_within_a_body_is_lost(ends: Ends) -> None:
    ours, theirs = ends
    ours.send_body(bytes(1000))
    ours.flush()
    ours.close()
    with lost():
        theirs.body(500_000).drain(memoryview(bytearray(400_000)))


def test_peeking_at_a_connection_that_ended_finds_it_lost() -> None:
    with joined(over_loopback(), 10) as (ours, theirs):
        ours.close()
        with lost():
            theirs.peek()


def test_sending_to_a_peer_that_has_left_finds_the_connection_lost(ends: Ends) -> None:
    ours, theirs = ends
    theirs.close()
    with lost():
        ours.send_body(bytes(16 * 1024 * 1024))


def test_a_closed_channel_is_lost_to_its_own_side(ends: Ends) -> None:
    ours, _ = ends
    ours.close()
    with lost():
        ours.receive()


def test_aborting_fails_whoever_waits(ends: Ends) -> None:
    ours, _ = ends
    aborting = threading.Timer(0.1, ours.abort)
    aborting.start()
    with lost():
        ours.receive()
    aborting.join()
    ours.abort()


@pytest.mark.parametrize("megabytes", [0, 32])
def test_last_words_reach_a_peer_that_is_still_sending(ends: Ends, megabytes: int) -> None:
    ours, theirs = ends
    ours.mark_authenticated()  # else it drains no more than a mebibyte

    def refuse() -> None:
        ours.end_with(Refused("no room", code=Code.QUOTA))
        ours.close()

    def send_regardless() -> None:
        for _ in range(megabytes):
            theirs.send_body(bytes(1024 * 1024))
        assert theirs.receive() == Error("quota", "no room", retryable=False)
        with lost():
            theirs.receive()
        theirs.close()

    concurrently(refuse, send_regardless)


def test_what_was_sent_arrives_although_the_sender_has_left(ends: Ends) -> None:
    ours, theirs = ends
    bequest = block(1_000_000, "bequest")

    def leave() -> None:
        ours.send_body(bequest)
        ours.close()

    def take_late() -> None:
        time.sleep(0.1)
        assert theirs.read(len(bequest)) == bequest

    concurrently(leave, take_late)


def test_whoever_drains_sends_nothing_more(ends: Ends) -> None:
    ours, theirs = ends

    def hang_up_at_the_end() -> None:
        with lost():
            theirs.receive()
        theirs.close()

    began = time.monotonic()
    concurrently(ours.drain, hang_up_at_the_end)
    assert time.monotonic() - began < 4


def test_last_words_go_out_after_what_was_queued(ends: Ends) -> None:
    ours, theirs = ends

    def listen() -> None:
        theirs.expect(Done)
        with pytest.raises(CorruptData, match="odd"):
            theirs.expect(Done)
        theirs.close()

    ours.send(Done())
    concurrently(lambda: ours.end_with(CorruptData("odd")), listen)


def test_who_gives_up_still_hears_what_the_other_side_has_to_say(ends: Ends) -> None:
    ours, theirs = ends

    def listen_then_answer() -> None:
        assert theirs.receive() == Error("cancelled", "enough", retryable=True)
        send_all_sizes(theirs, "still")
        theirs.close()

    def give_up_then_listen() -> None:
        ours.give_up(Cancelled("enough"))
        receive_all_sizes(ours, "still")

    concurrently(give_up_then_listen, listen_then_answer)


def test_nobody_waits_long_for_a_peer_that_does_not_hang_up(join: Join) -> None:
    with join(0.2) as (ours, _):
        began = time.monotonic()
        ours.end_with(CorruptData("odd"))
        assert time.monotonic() - began < 4


def test_ending_with_a_peer_that_has_left_is_no_error(ends: Ends) -> None:
    ours, theirs = ends
    theirs.close()
    ours.end_with(CorruptData("odd"))
    ours.drain()


# What is expected


def test_an_expected_message_is_returned_and_another_one_is_not_this_protocol() -> None:
    assert expected(Done(), Done) == Done()
    with pytest.raises(ProtocolError):
        expected(Done(), FileHeader)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("timeout", PeerTimeout), ("busy", ConnectionLost), ("quota", Refused), ("new", Refused)],
)
def test_an_error_message_is_raised_as_the_error_it_stands_for(
    code: str, kind: type[XferError]
) -> None:
    with pytest.raises(kind, match="sorry") as caught:
        expected(Error(code, "sorry", retryable=True), Done)
    assert (caught.value.code, caught.value.retryable) == (code, True)


# Handshakes that come to nothing


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
