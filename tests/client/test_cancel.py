"""A send that is cancelled ends at once, wherever it waits, and the same call finishes it."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import xfer
from tests.support.processes import MIB, SECRET, wait_until
from tests.support.receivers import serving
from xfer.client.parallel import consumer

AT_ONCE: Final = 0.9
"""Seconds; each of these waits would take many times as long."""
HUGE: Final = 1 << 40


def cancelled_after(seconds: float, **how: object) -> float:
    """Send, cancel it after so many seconds, and return how many it went on for."""
    token = xfer.CancelToken()
    cancelled_at: list[float] = []

    def cancel() -> None:
        cancelled_at.append(time.monotonic())
        token.cancel()

    timer = threading.Timer(seconds, cancel)
    timer.start()
    with pytest.raises(xfer.Cancelled):
        xfer.send(**{"secret": SECRET, "cancel": token} | how)  # type: ignore[arg-type]
    ended_at = time.monotonic()
    timer.cancel()
    assert cancelled_at, "it had ended by itself"
    return ended_at - cancelled_at[0]


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """Where no connection is ever accepted, and the system answers no more of them."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        waiting = []
        for _ in range(8):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        for connecting in waiting:
            connecting.close()


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """A port that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_what_is_cancelled_already_connects_nowhere(document: Path) -> None:
    token = xfer.CancelToken()
    token.cancel()
    token.cancel()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(xfer.Cancelled) as cancelled:
            xfer.send(document, host, secret=SECRET, cancel=token)
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert cancelled.value.retryable


@pytest.mark.parametrize("where", [full_backlog, silence])
@pytest.mark.parametrize("connections", [1, 3])
def test_connecting_and_opening_end_at_once(
    document: Path, where: Callable[[], contextlib.AbstractContextManager[str]], connections: int
) -> None:
    with where() as host:
        assert cancelled_after(0.2, paths=document, host=host, connections=connections) < AT_ONCE


def test_looking_a_name_up_ends_at_once(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()
    real = socket.getaddrinfo

    def slow(host: object, *rest: object, **options: object) -> object:
        if host == b"nas.example" and not options.get("flags"):
            found.wait(20)
        return real("127.0.0.1", *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        assert cancelled_after(0.2, paths=document, host="nas.example:1") < AT_ONCE
    finally:
        found.set()


def test_a_name_is_looked_up_with_a_token_as_without(tmp_path: Path, document: Path) -> None:
    with serving(tmp_path) as (receiver, _):
        host = f"localhost:{receiver.address[1]}"
        (receipt,) = xfer.send(document, host, secret=SECRET, cancel=xfer.CancelToken())
    assert receipt.outcome == "stored"
    token = xfer.CancelToken()
    for nowhere, sentence in (("nowhere.invalid", "unknown host"), (host, "no receiver answers")):
        with pytest.raises(xfer.ConnectionLost, match=sentence):
            xfer.send(document, nowhere, secret=SECRET, cancel=token, retry_for=0)
    with full_backlog() as slow, pytest.raises(xfer.ConnectionLost, match="in time"):
        xfer.send(document, slow, secret=SECRET, cancel=token, retry_for=0, timeout=0.3)


def test_a_pause_before_another_attempt_ends_at_once(document: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
    pausing = threading.Event()

    class Watch(xfer.Observer):
        def pausing(self, error: xfer.XferError, seconds: float, until: float) -> None:
            pausing.set()

    # The pauses grow: after four seconds the next one is of some seconds.
    took = cancelled_after(4, paths=document, host=host, retry_for=600, progress=Watch())
    assert pausing.is_set()
    assert took < AT_ONCE


@pytest.mark.parametrize("connections", [1, 3])
def test_a_body_ends_at_once_and_the_same_call_continues_it(
    tmp_path: Path, connections: int
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    content = os.urandom(6 * MIB)
    for number in range(connections):
        (tree / f"large{number}").write_bytes(content)
    received = tmp_path / "received"
    with serving(tmp_path) as (_, host):
        job = {"paths": tree, "host": host, "connections": connections}
        took = cancelled_after(1.5, bwlimit=2 * MIB, **job)
        assert took < AT_ONCE
        assert [path.name for path in received.iterdir() if path.name != ".xfer"] in ([], ["tree"])
        assert not list(received.glob("tree/*"))
        wait_until(lambda: any((received / ".xfer" / "partials").iterdir()))
        told: list[xfer.SendProgress] = []
        receipts = xfer.send(
            tree, host, secret=SECRET, connections=connections, progress=told.append
        )
    assert {receipt.outcome for receipt in receipts} == {"stored"}
    assert told[-1].done == connections * len(content)
    assert told[-1].sent < told[-1].done  # the rest of it was there
    assert (received / "tree" / "large0").read_bytes() == content


def test_a_pause_of_a_bandwidth_limit_ends_at_once(tmp_path: Path, document: Path) -> None:
    document.write_bytes(bytes(MIB))
    with serving(tmp_path) as (_, host):
        assert cancelled_after(1, paths=document, host=host, bwlimit=60) < AT_ONCE


def test_a_read_of_standard_input_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w"), serving(tmp_path) as (_, host):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cancelled_after(0.5, paths="-", name="stream", host=host) < AT_ONCE
        assert [path.name for path in (tmp_path / "received").iterdir()] == [".xfer"]


def test_reading_what_is_to_be_compared_ends_at_once(tmp_path: Path, document: Path) -> None:
    os.truncate(document, HUGE)  # takes no room, and minutes to read
    with serving(tmp_path) as (_, host):
        assert cancelled_after(0.5, paths=document, host=host, checksum_all=True) < AT_ONCE


def test_connections_without_work_end_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for what the others still do, among them one that reads standard input."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        (tree / f"file{number}").write_bytes(bytes(MIB))
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w"), serving(tmp_path) as (_, host):
        monkeypatch.setattr(sys, "stdin", stdin)
        job = {"paths": [tree, "-"], "name": "stream", "host": host, "connections": 3}
        assert cancelled_after(1.5, **job) < AT_ONCE


def test_connections_that_wait_for_receipts_end_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "HEARTBEAT_SECONDS", 20.0)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(2):
        (tree / f"file{number}").write_bytes(bytes(MIB))
    go_on = threading.Event()
    with serving(tmp_path, on_receipt=lambda _: go_on.wait(20)) as (_, host):
        try:
            assert cancelled_after(2, paths=tree, host=host, connections=2) < AT_ONCE
        finally:
            go_on.set()


def test_a_signal_handler_may_cancel(document: Path) -> None:
    token = xfer.CancelToken()
    before = signal.signal(signal.SIGALRM, lambda *_: token.cancel())
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with silence() as host, pytest.raises(xfer.Cancelled):
            xfer.send(document, host, secret=SECRET, cancel=token)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_token_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        xfer.CancelToken().cancel()
    assert len(os.listdir("/proc/self/fd")) == before
