"""Channel: two real ends, plain and over TLS; what one says the other hears, in bounded time."""

import hashlib
import threading
import time

import pytest

from tests.support.channels import Ends, Join, concurrently, lost
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


def test_aborting_ends_every_wait(ends: Ends) -> None:
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


def test_nothing_is_sent_after_draining(ends: Ends) -> None:
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


def test_after_giving_up_what_the_peer_sends_can_still_be_received(ends: Ends) -> None:
    ours, theirs = ends

    def listen_then_answer() -> None:
        assert theirs.receive() == Error("cancelled", "enough", retryable=True)
        send_all_sizes(theirs, "still")
        theirs.close()

    def give_up_then_listen() -> None:
        ours.give_up(Cancelled("enough"))
        receive_all_sizes(ours, "still")

    concurrently(give_up_then_listen, listen_then_answer)


def test_ending_does_not_wait_long_for_a_peer_that_does_not_hang_up(join: Join) -> None:
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
