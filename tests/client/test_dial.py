"""Dialing: an address that leads nowhere keeps nobody from the next one."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import KEY
from tests.support.receivers import serving
from xfer.client.connect import Target, connect
from xfer.client.dial import dial, first_connected, in_turn
from xfer.client.look_up import ResolvedAddress
from xfer.errors import ConnectionLost

SOON = 5.0
"""Seconds; a machine under load may take most of them."""


def resolved(host: str, port: int) -> ResolvedAddress:
    (address,) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return address


@contextlib.contextmanager
def swallowing(host: str = "127.0.0.2", port: int = 0) -> Iterator[int]:
    """The port of an address that drops what wants to connect: its backlog is full."""
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((host, port))
        full.listen(0)
        for _ in range(3):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with pytest.raises(TimeoutError):
            socket.create_connection(full.getsockname(), 0.3)
        yield int(full.getsockname()[1])


def unused_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_host_whose_first_address_swallows_packets_is_reached_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as (receiver, _), swallowing(port=receiver.address[1]) as port:
        both = [resolved("127.0.0.2", port), resolved("127.0.0.1", port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        began = time.monotonic()
        connect(Target("nas", port, KEY), "md5").close()
        assert time.monotonic() - began < SOON


def test_an_address_that_is_refused_costs_no_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        refusing = [resolved(f"127.0.0.{number}", port) for number in range(2, 42)]
        began = time.monotonic()
        first_connected([*refusing, resolved("127.0.0.1", port)], 30).close()
        assert time.monotonic() - began < SOON  # 40 waits would be 10 seconds


def test_the_first_address_is_taken_while_it_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.2", first.getsockname()[1])) as second,
    ):
        port = first.getsockname()[1]
        with first_connected([resolved("127.0.0.1", port), resolved("127.0.0.2", port)], 9) as won:
            assert won.getpeername() == ("127.0.0.1", port)
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.accept()


def test_families_take_turns() -> None:
    six = [resolved(f"2001:db8::{number}", 1) for number in range(3)]
    four = [resolved(f"192.0.2.{number}", 1) for number in range(2)]
    assert in_turn([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert in_turn([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]


def test_where_nothing_answers_the_time_is_for_all_addresses_together() -> None:
    with swallowing("127.0.0.2") as port, swallowing("127.0.0.3", port):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            first_connected([resolved(f"127.0.0.{number}", port) for number in (2, 3)], 0.6)
        assert 0.5 < time.monotonic() - began < SOON


def test_a_refusal_says_more_than_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with swallowing("127.0.0.2") as port:
        both = [resolved("127.0.0.3", port), resolved("127.0.0.2", port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        with pytest.raises(ConnectionLost, match="no receiver answers at nas:"):
            connect(Target("nas", port, KEY, timeout=0.5), "md5")


def test_a_race_leaves_no_descriptor_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with swallowing("127.0.0.2") as port, socket.create_server(("127.0.0.1", port)):
        first_connected([resolved("127.0.0.2", port), resolved("127.0.0.1", port)], 30).close()
    with pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", unused_port("127.0.0.1"), 1)
    assert len(os.listdir("/proc/self/fd")) == before
