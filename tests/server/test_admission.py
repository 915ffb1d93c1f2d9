"""Who may come in: strangers are few, short and cheap, and keep no sender out."""

import contextlib
import itertools
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import xfer
from tests.support.faults import PLAINTEXT
from tests.support.processes import (
    KEY,
    MIB,
    SECRET,
    HandSender,
    Site,
    assert_failed,
    codes,
    finish,
    receiving,
    wait_until,
)
from tests.support.receivers import prove_wrongly
from tests.support.resources import FEW, crowd, limited, memory
from xfer.auth.grants import Grant
from xfer.auth.identity import client_context, load_identity
from xfer.auth.keys import DEFAULT_KEY_ID
from xfer.errors import AuthenticationError, Refused
from xfer.server.admission import Admission, Connection, ConnectionLimits
from xfer.server.connection import ServerConfig
from xfer.server.listen import listen
from xfer.server.penalties import network_of
from xfer.server.server import Server
from xfer.storage.local.store import LocalStore
from xfer.wire import min_rate
from xfer.wire.channel import Channel
from xfer.wire.messages import Error


class Door:
    """An Admission under a clock and a chance of the test's own; `gone` is who was cut off.

    Of those who wait, the first one is drawn with 0, and the newcomer with what is nearly 1.
    """

    def __init__(self, strangers: int = 10, senders: int = 2) -> None:
        self.now = 1000.0
        self.chances: Iterator[float] = itertools.repeat(0.999)
        self.gone: list[int] = []
        self.numbers = itertools.count()
        limits = ConnectionLimits(strangers, senders)
        self.admission = Admission(limits, lambda: next(self.chances), lambda: self.now)

    def knock(self, host: str | None = None, *chances: float) -> Connection | None:
        """`chances` are what is drawn: whether somebody must go, and who."""
        number = next(self.numbers)
        self.chances = itertools.chain(chances, itertools.repeat(0.999))
        return self.admission.admit(host or f"192.0.2.{number}", lambda: self.gone.append(number))

    def admit(self, host: str | None = None) -> Connection:
        connection = self.knock(host)
        assert connection
        return connection

    def fail(self, host: str, times: int = 1) -> None:
        for _ in range(times):
            connection = self.admit(host)
            self.admission.failed_proof(connection)
            self.admission.leave(connection)


# SenderSlots


def test_up_to_half_of_the_places_nobody_has_to_go() -> None:
    door = Door(10)
    assert all(door.knock(None, 0.0, 0.0) for _ in range(5))
    assert door.gone == []


@pytest.mark.parametrize(("already", "share"), [(5, 0.3), (6, 0.44), (9, 0.86)])
def test_the_chance_that_somebody_has_to_go_grows_up_to_the_limit(
    already: int, share: float
) -> None:
    door = Door(10)
    for _ in range(already):
        door.admit()
    assert not door.knock(None, share - 0.01, 0.999)
    assert door.knock(None, share + 0.01, 0.999)
    assert door.gone == []


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_at_the_limit_somebody_always_has_to_go(limit: int) -> None:
    door = Door(limit)
    assert sum(bool(door.knock()) for _ in range(50)) == limit
    for times in range(1, 20):
        assert door.knock(None, 0.0)
        assert len(door.gone) == times


def test_who_has_to_go_is_drawn_among_all_and_the_newcomer() -> None:
    door = Door(9)
    for _ in range(9):
        door.admit()
    assert door.knock(None, 0.35)
    assert not door.knock(None, 0.95)
    assert door.gone == [3]


def test_strangers_that_keep_coming_back_do_not_keep_an_honest_one_out() -> None:
    """While he opens, fifty of them want his place among the hundred."""
    drawing = random.Random(1)
    kept = 0
    for _ in range(200):
        admission = Admission(ConnectionLimits(100), drawing.random)
        honest: list[bool] = []
        for number in range(200):
            admission.admit(f"10.0.0.{number}", lambda: None)
        if admission.admit("192.0.2.1", partial(honest.append, False)):
            for number in range(50):
                admission.admit(f"10.0.1.{number}", lambda: None)
            kept += not honest
    assert 0.4 < kept / 200 < 0.8


def test_who_has_proved_himself_takes_no_strangers_place() -> None:
    door = Door(strangers=2, senders=100)
    for _ in range(100):
        door.admission.proved(door.admit())
    assert door.knock()


def test_one_sender_too_many_is_told_busy_and_a_place_that_is_left_is_free() -> None:
    door = Door(senders=2)
    first, second, third = (door.admit() for _ in range(3))
    door.admission.proved(first)
    door.admission.proved(second)
    with pytest.raises(Refused) as refused:
        door.admission.proved(third)
    assert (refused.value.code, refused.value.retryable) == ("busy", True)
    door.admission.leave(first)
    door.admission.proved(third)


# Networks


def test_one_network_gets_half_and_the_others_never_notice() -> None:
    door = Door(10)
    assert sum(bool(door.knock("192.0.2.1")) for _ in range(50)) == 5
    assert all(door.knock() for _ in range(5))


def test_in_a_full_network_only_its_own_have_to_go() -> None:
    door = Door(10)
    door.admit("198.51.100.1")
    for _ in range(5):
        door.admit("192.0.2.1")
    assert door.knock("192.0.2.1", 0.0)
    assert door.gone == [1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_network_is_an_ipv4_address_or_what_an_ipv6_host_can_choose_from(
    one: str, other: str, same: bool
) -> None:
    assert (network_of(one) == network_of(other)) is same


# Penalties


def test_the_first_few_wrong_proofs_are_free_and_the_wait_grows_to_a_minute() -> None:
    door = Door()
    door.fail("192.0.2.1", 5)
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):
        assert not door.knock("192.0.2.1")
        door.now += wait - 0.01
        assert not door.knock("192.0.2.1")
        door.now += 0.02
        door.fail("192.0.2.1")
    assert door.knock("192.0.2.2")


def test_no_number_of_wrong_proofs_keeps_an_address_out_for_longer_than_a_minute() -> None:
    """Doubled for each of them, the wait once was too large a number, and nobody was let in."""
    door = Door()
    for _ in range(3000):
        connection = door.knock("192.0.2.1")
        while connection is None:
            door.now += 60
            connection = door.knock("192.0.2.1")
        door.admission.failed_proof(connection)
        door.admission.leave(connection)
    assert door.knock("192.0.2.1") is None
    door.now += 60
    assert door.knock("192.0.2.1")


@pytest.mark.parametrize("forgiven_by", ["time", "a right proof"])
def test_wrong_proofs_are_forgiven(forgiven_by: str) -> None:
    door = Door()
    door.fail("192.0.2.1", 5)
    door.now += 2
    if forgiven_by == "time":
        door.now += 900
    else:
        door.admission.proved(door.admit("192.0.2.1"))
    door.fail("192.0.2.1", 4)
    assert door.knock("192.0.2.1")


def test_only_so_many_networks_are_remembered_and_the_latest_of_them() -> None:
    door = Door()
    for number in range(6000):
        door.fail(f"10.0.{number // 256}.{number % 256}")
    assert len(door.admission._penalties) == 4096
    door.fail("10.0.23.111", 4)  # the last one, which has failed once
    assert not door.knock("10.0.23.111")


# A server in this process, so that its limits can be short


@dataclass(frozen=True, slots=True)
class Here:
    port: int
    plaintext: bool
    stored: Path


@contextlib.contextmanager
def serving(home: Path, limits: ConnectionLimits, *, plaintext: bool = False) -> Iterator[Here]:
    identity = None if plaintext else load_identity(str(home))
    directory = home / "received"
    directory.mkdir()
    with LocalStore(str(directory)) as store:
        config = ServerConfig(lambda: {DEFAULT_KEY_ID: Grant((KEY,))}, identity, 20.0, limits)
        server = Server(listen("127.0.0.1", 0), store, config)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield Here(server.server_address[1], plaintext, directory)
        finally:
            server.stop()
            thread.join()
            server.finish(5)


def drip(
    connected: socket.socket, what: bytes, in_records: Callable[[bytes], bytes] = bytes
) -> float:
    """Send a byte every 50 ms; the seconds until the other side has had enough."""
    began = time.monotonic()
    connected.settimeout(0.05)
    for byte in itertools.cycle([bytes([each]) for each in what]):
        assert time.monotonic() - began < 10
        try:
            connected.sendall(in_records(byte))
            if not connected.recv(4096):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def drip_from(sender: HandSender, what: bytes) -> float:
    """The same after the opening, encrypted if what comes before is."""
    transport = sender.channel._transport
    records = transport._tls
    if records is None:
        return drip(transport._socket, what)

    def encrypted(data: bytes) -> bytes:
        records.encrypt(memoryview(data))
        return records.outgoing()

    return drip(transport._socket, what, encrypted)


HELLO_BEGINS = b"\0\0\xff\xff" + b'{"type":"hello",'
STEPS = ["TLS", "hello", "hello in TLS", "first message", "first message in TLS"]


@pytest.mark.parametrize("step", STEPS)
def test_a_byte_now_and_then_does_not_extend_the_deadline(tmp_path: Path, step: str) -> None:
    plaintext = step in ("hello", "first message")
    with serving(tmp_path, ConnectionLimits(opening_seconds=1), plaintext=plaintext) as here:
        connected = socket.create_connection(("127.0.0.1", here.port))
        if step == "TLS":  # a record of 16 KiB, of which the first bytes come
            seconds = drip(connected, b"\x16\x03\x01\x40\x00\x01")
        elif step == "hello":
            seconds = drip(connected, HELLO_BEGINS)
        elif step == "hello in TLS":
            connected = client_context().wrap_socket(connected)
            seconds = drip(connected, HELLO_BEGINS)
        else:
            connected.close()
            with HandSender(here) as sender:
                seconds = drip_from(sender, b"\0\0\xff\xff")
        connected.close()
    assert 0.8 < seconds < 3


def test_after_the_first_message_a_sender_has_time(tmp_path: Path) -> None:
    with serving(tmp_path, ConnectionLimits(opening_seconds=1)) as here, HandSender(here) as sender:
        sender.say({"type": "offer", "files": []})
        time.sleep(1.5)
        sender.file("late", b"x")
        assert ("receipt", "stored") in codes(sender.answers())


@pytest.mark.parametrize("plaintext", [True, False])
def test_a_body_that_drips_is_ended_and_what_came_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    plaintext: bool,
) -> None:
    monkeypatch.setattr(min_rate, "WINDOW_SECONDS", 0.5)
    limits = ConnectionLimits(min_rate=MIB)
    with (
        serving(tmp_path, limits, plaintext=plaintext) as here,
        HandSender(here) as sender,
    ):
        sender.say({"type": "offer", "files": []})
        whole = os.urandom(3 * MIB)
        sender.part("slow", whole, 0, 2 * MIB)
        rest = {"file_size": 3 * MIB, "offset": 2 * MIB, "md5": 32 * "0"}
        sender.say({"type": "file", "file_name": "slow"} | rest)
        assert drip_from(sender, b"drip") < 5
    assert "slower than" in caplog.text
    (kept,) = (here.stored / ".xfer" / "partials").iterdir()
    assert kept.stat().st_size >= 2 * MIB


# Whole processes


def strangers(site: Site, count: int, networks: int = 50) -> contextlib.ExitStack:
    """Connections that say nothing, each network with its share of them."""
    connected = contextlib.ExitStack()
    for number in range(count):
        stranger = socket.socket()
        connected.callback(stranger.close)
        stranger.bind((f"127.0.1.{1 + number % networks}", 0))
        stranger.connect(("127.0.0.1", site.port))
    return connected


def threads(site: Site) -> int:
    return len(os.listdir(f"/proc/{site.process.pid}/task"))


def test_no_thread_is_started_for_who_is_dropped_and_one_line_says_so(tmp_path: Path) -> None:
    options = ["--max-unauthenticated", "10"]
    with receiving(tmp_path, *options) as site, strangers(site, 200) as crowded:
        wait_until(lambda: "a connection was dropped" in site.log.text)
        wait_until(lambda: 1 < threads(site) <= 1 + 10)  # who is cut off takes a moment to go
        crowded.close()
        wait_until(lambda: threads(site) == 1)
        assert site.log.text.count("a connection was dropped") == 1


def test_silent_strangers_keep_no_sender_out(tmp_path: Path, document: Path) -> None:
    options = ["--max-unauthenticated", "10"]
    with receiving(tmp_path, *options) as site, strangers(site, 60):
        for _ in range(5):
            assert site.send("--retry-for", "10", document).code == 0  # the lot can fall on it


def test_an_idle_stranger_costs_little_memory(tmp_path: Path) -> None:
    with receiving(tmp_path) as site:
        with HandSender(site) as sender:
            sender.answers()
        before = memory(site.process)
        with strangers(site, 50):
            wait_until(lambda: threads(site) == 51)
            assert memory(site.process) - before < 50 * 100 * 1024


def test_one_sender_too_many_is_told_so_and_served_later(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, "--max-connections", "1") as site:
        with HandSender(site) as first:
            first.say({"type": "offer", "files": []})
            refused = site.send("--json", document)
            assert_failed(refused, 4, "the receiver has too many senders at once")
            assert refused.records[-1]["retryable"] is True
            assert refused.records[-1]["code"] == "busy"
            waiting = site.start_send("--retry-for", "15", document)
            assert waiting.stderr
            assert b"too many senders" in waiting.stderr.readline()
            first.answers()
        assert finish(waiting).code == 0


def test_who_cannot_prove_himself_does_not_learn_that_the_receiver_is_busy(
    tmp_path: Path,
) -> None:
    with receiving(tmp_path, PLAINTEXT, "--max-connections", "1") as site, HandSender(site) as one:
        one.say({"type": "offer", "files": []})
        assert prove_wrongly(site) == "auth_failed"


def test_wrong_proofs_make_an_address_wait_but_not_for_long(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, PLAINTEXT) as site:
        assert [prove_wrongly(site) for _ in range(8)] == 5 * ["auth_failed"] + 3 * ["lost"]
        assert site.send("--retry-for", "10", document).code == 0
        assert prove_wrongly(site) == "auth_failed"


def test_an_expired_key_is_no_wrong_proof(tmp_path: Path, document: Path) -> None:
    keys, expired = tmp_path / "keys", "xfer-key-" + 43 * "B"
    keys.touch(0o600)
    keys.write_text(
        f'[default]\nsecret = "{SECRET}"\n[old]\nsecret = "{expired}"\nexpires = 2020-01-01\n'
    )
    with receiving(tmp_path, PLAINTEXT, "--keys", str(keys), secret=None) as site:
        for _ in range(8):
            with pytest.raises(AuthenticationError, match="expired"):
                xfer.send(
                    [str(document)], site.host, secret=expired, key_id="old",
                    retry_for=0, insecure_plaintext=True,
                )  # fmt: skip
        assert site.send(document).code == 0


def test_a_full_house_says_so_once_in_a_while_and_recovers(tmp_path: Path, document: Path) -> None:
    prefix = limited("nofile", FEW)
    with receiving(tmp_path, PLAINTEXT, prefix=prefix) as site:
        with crowd(site):
            site.log.wait_for("out of file descriptors")
            time.sleep(1.5)
            assert len(re.findall("out of file descriptors", site.log.text)) == 1
        assert site.send("--retry-for", "5", document).code == 0


def test_a_fault_in_accepting_costs_one_connection_and_not_the_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([RuntimeError("a fault of ours")])

    def fail_once(*_: object) -> bool:
        raise next(faults)

    with serving(tmp_path, ConnectionLimits()) as here:
        with monkeypatch.context() as patched:
            patched.setattr(Admission, "_make_room", fail_once)
            with socket.create_connection(("127.0.0.1", here.port), timeout=5) as connected:
                assert connected.recv(1) == b""
        with HandSender(here) as sender:
            sender.file("after", b"")
            assert codes(sender.answers()) == [("receipt", "stored")]


def test_without_threads_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, ConnectionLimits()) as here:

        def no_more(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more)
            with socket.create_connection(("127.0.0.1", here.port), 5) as refused:
                assert refused.recv(1) == b""
        wait_until(lambda: "out of threads" in caplog.text)
        with HandSender(here) as sender:
            sender.file("later", b"x")
            assert codes(sender.answers()) == [("receipt", "stored")]


def test_the_last_word_to_a_stranger_can_be_read(tmp_path: Path) -> None:
    with serving(tmp_path, ConnectionLimits(opening_seconds=0.5), plaintext=True) as here:
        with socket.create_connection(("127.0.0.1", here.port)) as connected:
            channel = Channel(connected, 10)
            answer = channel.receive()
            channel.close()
        assert isinstance(answer, Error)
        assert answer.code == "timeout"
