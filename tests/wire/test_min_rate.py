"""MinimumRate: a sender that is too slow on average is ended; a slow receiver is not its fault."""

import contextlib
import itertools
import socket
import time

import pytest

from tests.support.channels import Join, concurrently, say_slowly
from tests.support.processes import MIB
from xfer.errors import PeerTimeout
from xfer.system.stop import StopSignal
from xfer.wire import min_rate
from xfer.wire.channel import Channel
from xfer.wire.min_rate import MinimumRate
from xfer.wire.waiter import IdleTask


def test_a_body_has_to_flow_at_the_rate_on_average() -> None:
    judge = MinimumRate(1000)

    def arrives_in(seconds: float, size: int) -> None:
        def read(piece: memoryview) -> None:
            judge.waited(seconds * len(piece) / size)

        judge.read_into(read, memoryview(bytearray(size)))

    for _ in range(5):
        arrives_in(30, 33_000)  # slow, but not too slow
        judge.waited(1000)  # for a header
    arrives_in(9, 100)  # a pause
    arrives_in(1, 40_000)
    with pytest.raises(PeerTimeout):
        arrives_in(40, 20_000)


def test_what_drips_is_noticed_before_it_is_complete() -> None:
    seconds = itertools.count(1)
    judge = MinimumRate(10_000)

    def drip(piece: memoryview) -> None:
        for _ in piece:
            next(seconds)
            judge.waited(1)

    with pytest.raises(PeerTimeout):
        judge.read_into(drip, memoryview(bytearray(1000)))
    assert next(seconds) <= 35


def test_what_the_receiver_does_meanwhile_is_not_the_senders_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(min_rate, "WINDOW_SECONDS", 0.1)
    ours, theirs = socket.socketpair()

    def work_and_then_send(_: bool) -> None:
        time.sleep(0.2)
        theirs.sendall(b"some")

    with (
        theirs,
        contextlib.closing(Channel(ours, 20)) as channel,
        contextlib.closing(StopSignal()) as never,
    ):
        channel.mark_authenticated(min_rate=MIB)
        channel.set_idle_task(IdleTask(never.descriptor, work_and_then_send))
        received = bytearray(12)
        channel.body(12).read_into(memoryview(received))
    assert received == b"somesomesome"


def test_what_drips_over_a_connection_is_ended(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(min_rate, "WINDOW_SECONDS", 0.2)
    with join(20) as (ours, theirs):
        theirs.mark_authenticated(min_rate=MIB)

        def receive() -> None:
            with pytest.raises(PeerTimeout, match="slower"):
                theirs.body(100_000).drain(memoryview(bytearray(100_000)))
            theirs.close()

        concurrently(lambda: say_slowly(ours, bytes(400), 0.02), receive)
