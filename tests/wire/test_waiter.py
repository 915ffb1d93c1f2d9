"""Waiter: silence, slowness and a stop signal each end a wait as they should, and nothing else."""

import contextlib
import os
import socket
import threading
import time

import pytest

from tests.support.channels import Ends, Join, concurrently, say_slowly
from xfer.errors import PeerTimeout
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire.channel import Channel
from xfer.wire.messages import Done
from xfer.wire.waiter import IdleTask, Waiter

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


def test_a_wait_in_pieces_is_one_silence(join: Join) -> None:
    """The timeout does not begin again with each of them."""
    with join(1.0) as (ours, _):
        assert not ours.wait_for_message(None, 0)
        time.sleep(1.1)
        began = time.monotonic()
        with pytest.raises(PeerTimeout):
            ours.wait_for_message(None, 10)
        assert time.monotonic() - began < 0.9


def test_a_deadline_ends_a_wait_in_silence(join: Join) -> None:
    with join(20) as (ours, _):
        began = time.monotonic()
        ours.set_deadline(0.2)
        with pytest.raises(PeerTimeout):
            ours.receive()
        assert 0.2 <= time.monotonic() - began < 4


def test_what_is_acknowledged_is_no_silence() -> None:
    """Nothing more is sent or received, but the peer's system takes what was queued."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while ours.send(bytes(4096)):
                pass
        waiter = Waiter(ours, 0.5)

        def read_slowly() -> None:
            for _ in range(5):
                time.sleep(0.2)
                theirs.recv(4096)

        began = time.monotonic()
        reading = threading.Thread(target=read_slowly)
        reading.start()
        with pytest.raises(PeerTimeout):
            waiter.wait_readable(began)
        assert time.monotonic() - began >= 1
        reading.join()


# The stop signal


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


# The idle task


def test_the_idle_task_runs_before_a_wait_and_whenever_its_descriptor_can_be_read() -> None:
    ours, theirs = socket.socketpair()
    wake, wakes = os.pipe()
    calls: list[bool] = []

    def run(has_received: bool) -> None:
        calls.append(has_received)
        if len(calls) == 2:
            os.read(wake, 1)
            theirs.send(b"x")

    with ours, theirs, open(wake, "rb"), open(wakes, "wb"):
        waiter = Waiter(ours, 10)
        waiter.set_idle_task(IdleTask(wake, run))
        os.write(wakes, b".")
        assert waiter.wait_readable(time.monotonic())
        assert calls == [False, False]
        assert waiter.wait_readable(time.monotonic())
        assert calls == [False, False, True]


def test_no_idle_task_runs_while_something_is_to_be_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiter = Waiter(ours, 10)
        waiter.set_idle_task(IdleTask(theirs.fileno(), lambda _: pytest.fail("it ran")))
        waiter.wait_writable(time.monotonic())
