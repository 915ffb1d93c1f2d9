"""Heartbeats go out while work takes long, at no other time, and are not enough for ever."""

import time
from collections.abc import Iterator

import pytest

from xfer.errors import ConnectionLost, PeerTimeout
from xfer.system.background import BackgroundThread
from xfer.wire import keepalive
from xfer.wire.keepalive import Heartbeat, Progress, StallLimit, Watchdog


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive, "HEARTBEAT_SECONDS", 0.02)


@pytest.fixture
def background() -> Iterator[BackgroundThread]:
    with BackgroundThread() as thread:
        yield thread


def test_heartbeats_say_how_far_the_work_is_and_its_result_is_returned(
    background: BackgroundThread,
) -> None:
    beats: list[tuple[str, int]] = []

    def work(progress: Progress) -> str:
        for progress.done in range(1, 4):
            time.sleep(0.1)
        return "result"

    heartbeat = Heartbeat(background, lambda progress: beats.append((progress.name, progress.done)))
    assert heartbeat.during(Progress("large", 3), work) == "result"
    assert beats
    assert beats == sorted(beats)
    assert {name for name, _ in beats} == {"large"}


def test_work_has_ended_when_the_peer_is_found_to_be_gone(background: BackgroundThread) -> None:
    ended: list[bool] = []

    def work(_: Progress) -> None:
        time.sleep(0.2)
        ended.append(True)

    def beat(_: Progress) -> None:
        raise ConnectionLost("the peer is gone")

    with pytest.raises(ConnectionLost):
        Heartbeat(background, beat).during(Progress("large"), work)
    assert ended == [True]


def test_a_watchdog_sends_heartbeats_during_long_work_and_none_after_it(
    background: BackgroundThread,
) -> None:
    beats: list[float] = []
    watchdog = Watchdog(background, lambda: beats.append(time.monotonic()))
    watchdog.watch(lambda: time.sleep(0.3))
    ended_at = time.monotonic()
    time.sleep(0.1)
    assert beats
    assert max(beats) <= ended_at


def test_a_watchdog_sends_no_heartbeat_during_much_short_work(
    background: BackgroundThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "HEARTBEAT_SECONDS", 0.5)
    beats: list[bool] = []
    watchdog = Watchdog(background, lambda: beats.append(True))
    ends_at = time.monotonic() + 1.2
    while time.monotonic() < ends_at:
        watchdog.watch(lambda: time.sleep(0.001))
    watchdog.end()
    assert not beats


def test_what_watched_work_raises_is_raised_and_a_lost_peer_is_left_to_it(
    background: BackgroundThread,
) -> None:
    def beat() -> None:
        raise ConnectionLost("the peer is gone")

    def work() -> None:
        time.sleep(0.1)
        raise ZeroDivisionError

    watchdog = Watchdog(background, beat)
    with pytest.raises(ZeroDivisionError):
        watchdog.watch(work)
    watchdog.watch(lambda: time.sleep(0.1))


def test_the_helper_thread_is_free_once_a_watchdog_has_ended(
    background: BackgroundThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "HEARTBEAT_SECONDS", 60)
    watchdog = Watchdog(background, lambda: None)
    watchdog.watch(lambda: None)
    watchdog.end()
    assert background.submit(lambda: "free").result(10) == "free"


def test_heartbeats_alone_are_enough_for_as_long_as_the_largest_file_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keepalive, "_LONGEST_WORK", 0.1)
    limit = StallLimit()
    time.sleep(0.15)
    with pytest.raises(PeerTimeout):
        limit.check()
    limit.renew()
    limit.check()
    limit.expect_size(60 * 1024 * 1024)
    limit.expect_size(1)
    time.sleep(0.15)
    limit.check()
