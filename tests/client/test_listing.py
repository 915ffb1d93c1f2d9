"""A list as a client takes it: nothing that was not asked for, nothing by halves, and no memory."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import xfer
from tests.support.processes import KEY, PATIENCE, SECRET, admit, fake_receiver
from tests.support.receivers import serving
from xfer import digests
from xfer.auth.keys import DEFAULT_KEY_ID
from xfer.auth.opening import admit_sender
from xfer.errors import ConnectionLost, Incomplete, PeerTimeout, ProtocolError, Refused
from xfer.wire import keepalive
from xfer.wire.channel import Channel
from xfer.wire.messages import (
    Done,
    Error,
    List,
    ListedName,
    Listing,
    Message,
    Refusal,
    Welcome,
    Working,
)

Script = Callable[[Channel], object]
A = ListedName("docs/a", "file", 1)
list_lines: Any = xfer.list  # nothing here is a snapshot
LAST = Listing((), last=True)


def admit_reader(channel: Channel) -> List:
    """Open as a receiver does that can list; what the client asks for."""
    allowed = list(digests.available())

    def welcome(_: str, mac: str) -> Welcome:
        return Welcome(mac, allowed, features=("list",))

    admit_sender(channel, {DEFAULT_KEY_ID: [KEY]}, b"", welcome)
    return channel.expect(List)


def saying(*said: Message) -> Script:
    def script(channel: Channel) -> None:
        admit_reader(channel)
        for one in said:
            channel.send(one)
        channel.flush()

    return script


def listed_by(script: Script, *, itself: bool = False, versions: bool = False) -> list[xfer.Listed]:
    with fake_receiver(script) as host:
        found = list_lines(
            "docs", host, itself=itself, versions=versions,
            secret=SECRET, insecure_plaintext=True, timeout=5, retry_for=0,
        )  # fmt: skip
        return list(found)


def test_lines_come_as_they_are_told() -> None:
    found = listed_by(saying(Listing((A,)), Working("docs", 5), LAST, Done()))
    assert [(line.name, line.kind.value, line.size) for line in found] == [("docs/a", "file", 1)]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([Done()], "before it had answered for every name"),
        ([Listing((A,)), Done()], "before it had answered for every name"),
        ([LAST, Listing((A,), last=True)], "done"),
        ([Listing((ListedName("other", "file"),))], "not asked for"),
        ([Listing((ListedName("docs2", "file"),))], "not asked for"),
        ([Listing((ListedName("docs/../../etc", "file"),))], "unsafe name"),
        ([Listing((ListedName("docs/\x1b[2J", "file"),))], "unsafe name"),
        ([Listing((ListedName("docs//a", "file"),))], "unsafe name"),
        ([Listing((ListedName(".", "directory"),))], "not asked for"),
        ([Refusal("other", "not_found", "no", retryable=False)], "not asked for"),
        (
            [Listing((ListedName("docs/a", "file", replaced="20261123T030002.123456Z"),))],
            "older contents",
        ),
        ([Welcome("0" * 64, ["md5"])], "welcome"),
    ],
)  # fmt: skip
def test_a_receiver_that_says_something_else_is_not_believed(
    said: list[Message], sentence: str
) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        listed_by(saying(*said))


def test_older_contents_have_a_time_and_itself_has_nothing_below() -> None:
    with pytest.raises(ProtocolError, match="older contents"):
        listed_by(saying(Listing((A,)), LAST, Done()), versions=True)
    with pytest.raises(ProtocolError, match="not asked for"):
        listed_by(saying(Listing((A,)), LAST, Done()), itself=True)


def test_what_could_not_be_listed_is_raised_after_the_last_line() -> None:
    gone = Refusal("docs/b", "storage", "the disk failed", retryable=False)
    lines: list[str] = []
    with fake_receiver(saying(Listing((A,)), gone, LAST, Done())) as host:
        found = list_lines("docs", host, secret=SECRET, insecure_plaintext=True)
        with pytest.raises(Incomplete, match="1 of 2 could not be listed") as raised:
            lines.extend(line.name for line in found)
    assert lines == ["docs/a"]
    assert [failure.name for failure in raised.value.failures] == ["docs/b"]


def test_an_error_ends_the_list() -> None:
    with pytest.raises(ConnectionLost, match="stopping"):
        listed_by(saying(Listing((A,)), Error("shutting_down", "stopping", retryable=True)))


def test_an_older_receiver_is_told_in_one_sentence() -> None:
    with pytest.raises(Refused, match="earlier version, which knows no list: update it first"):
        listed_by(admit)


# Lists without an end


@pytest.mark.parametrize("said", [Working("docs", 1), Listing(())], ids=["working", "empty"])
def test_signs_of_life_without_an_end_are_given_up(
    monkeypatch: pytest.MonkeyPatch, said: Message
) -> None:
    """An hour is long for a test, so this client has less trust."""
    monkeypatch.setattr(keepalive, "_LONGEST_WORK", 0.5)

    def script(channel: Channel) -> None:
        admit_reader(channel)
        while True:
            channel.send(said)
            channel.flush()
            time.sleep(0.02)

    with pytest.raises(PeerTimeout, match="at work all the time"):
        listed_by(script)


def test_what_nobody_reads_any_more_is_not_received(tmp_path: Path) -> None:
    """A list that never ends is one that its reader can leave."""
    ended = threading.Event()

    def script(channel: Channel) -> None:
        admit_reader(channel)
        try:
            while True:
                channel.send(Listing(100 * (A,)))
                channel.flush()
        finally:
            ended.set()

    with fake_receiver(script) as host:
        found = list_lines("docs", host, secret=SECRET, insecure_plaintext=True)
        assert next(found).name == "docs/a"
        found.close()  # it is a generator
        assert ended.wait(PATIENCE)


# Attempts


@contextlib.contextmanager
def in_turn(*scripts: Script) -> Iterator[str]:
    """A receiver that does one of `scripts` in each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def serve() -> None:
            for script in scripts:
                with contextlib.closing(Channel(listening.accept()[0], PATIENCE)) as channel:
                    script(channel)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(PATIENCE)


def test_a_session_that_failed_before_its_first_line_is_tried_again() -> None:
    with in_turn(admit_reader, saying(Listing((A,)), LAST, Done())) as host:
        found = list(list_lines("docs", host, secret=SECRET, insecure_plaintext=True))
    assert [line.name for line in found] == ["docs/a"]


def test_after_its_first_line_it_is_not() -> None:
    with in_turn(saying(Listing((A,)))) as host:
        found = list_lines("docs", host, secret=SECRET, insecure_plaintext=True)
        assert next(found).name == "docs/a"
        with pytest.raises(ConnectionLost):
            next(found)


# The library


def test_xfer_list_yields_what_was_sent_and_xfer_get_takes_it_back(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a").write_bytes(b"content")
    (tmp_path / "back").mkdir()
    with serving(tmp_path, access="read-write") as (_, host):
        xfer.send(tmp_path / "docs", host, secret=SECRET)
        there = list(list_lines("docs", host, secret=SECRET))
        everything = list(list_lines(host=host, secret=SECRET, recursive=True))
        xfer.get("docs", host, to=tmp_path / "back", secret=SECRET)
        with pytest.raises(Refused, match="there is no none"):
            list(list_lines(["none"], host, secret=SECRET))
    assert [(line.name, line.size) for line in there] == [("docs/a", 7)]
    assert [(line.name, line.size) for line in everything] == [("docs", 7), ("docs/a", 7)]
    assert list(list_lines("docs", directory=tmp_path / "received")) == there
    assert (tmp_path / "back/docs/a").read_bytes() == b"content"


def test_wrong_usage_is_raised_at_once(tmp_path: Path) -> None:
    with pytest.raises(xfer.UsageError, match="one host, or one directory"):
        list_lines("docs")
    with pytest.raises(xfer.UsageError, match="one host, or one directory"):
        list_lines("docs", "nas", directory=tmp_path)
    with pytest.raises(xfer.UsageError, match="itself only"):
        list_lines("docs", "nas", recursive=True, itself=True)
    with pytest.raises(xfer.UsageError, match="no name on a receiver"):
        list_lines("../docs", directory=tmp_path)
