"""Which session lets go of a partial for another one, and which does not."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from xfer.logs import Peer
from xfer.server import sessions
from xfer.server.sessions import OpenSession, OpenSessions
from xfer.wire.channel import Channel

SILENT = 0.1


@pytest.fixture(autouse=True)
def soon_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SILENT_SECONDS", SILENT)
    monkeypatch.setattr(sessions, "_ENDING_SECONDS", 0.5)


class Sender:
    """The other end of a session that has the partial of `name`, in a thread until it is aborted.

    One that `hangs` does not end even then.
    """

    def __init__(self, open_sessions: OpenSessions, key: str, name: str, *, hangs: bool) -> None:
        self.own_end, other_end = socket.socketpair()
        self.may_end = threading.Event()
        self._held, self._hangs = name, hangs
        self._channel = Channel(other_end, 60)
        self._open_sessions, self._peer = open_sessions, Peer("192.0.2.1:1", key)
        self._has_begun = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        self._has_begun.wait()

    def _serve(self) -> None:
        with self._open_sessions.opened(self._peer, self._channel) as session:
            session.attach(lambda name: name == self._held)
            self._has_begun.set()
            with contextlib.suppress(Exception):
                self._channel.receive()
            if self._hangs:
                self.may_end.wait()
        self._channel.close()

    def end(self) -> None:
        self.may_end.set()
        self.own_end.close()
        self.thread.join()


@contextlib.contextmanager
def holding(
    open_sessions: OpenSessions, key: str = "alice", name: str = "f", *, hangs: bool = False
) -> Iterator[Sender]:
    sender = Sender(open_sessions, key, name, hangs=hangs)
    try:
        yield sender
    finally:
        sender.end()


@contextlib.contextmanager
def newcomer(open_sessions: OpenSessions) -> Iterator[OpenSession]:
    ours, other = socket.socketpair()
    with (
        other,
        contextlib.closing(Channel(ours, 60)) as channel,
        open_sessions.opened(Peer("192.0.2.2:2", "alice"), channel) as session,
    ):
        yield session


def wait_for_silence() -> None:
    threading.Event().wait(2 * SILENT)


def test_a_silent_session_of_the_same_key_is_ended_before_its_partial_is_taken() -> None:
    open_sessions = OpenSessions()
    with holding(open_sessions) as old, newcomer(open_sessions) as new:
        wait_for_silence()
        assert new.take_over("f")
        old.thread.join(5)
        assert not old.thread.is_alive()
        assert not new.take_over("f"), "nobody has it any more"


@pytest.mark.parametrize(("key", "name"), [("bob", "f"), ("alice", "other")])
def test_another_key_s_session_and_another_file_s_go_on(key: str, name: str) -> None:
    open_sessions = OpenSessions()
    with holding(open_sessions, key, name) as old, newcomer(open_sessions) as new:
        wait_for_silence()
        assert not new.take_over("f")
        assert old.thread.is_alive()


def test_a_session_goes_on_from_which_something_came_or_waits_to_be_read() -> None:
    open_sessions = OpenSessions()
    with holding(open_sessions) as old, newcomer(open_sessions) as new:
        assert not new.take_over("f"), "it has only begun"
        wait_for_silence()
        old.own_end.send(b"\0")
        assert not new.take_over("f")
    with holding(open_sessions, hangs=True) as old, newcomer(open_sessions) as new:
        old.own_end.sendall(b"\0\0\0\2{}")  # which ends its receiving
        wait_for_silence()
        old.own_end.send(b"unread")
        assert not new.take_over("f"), "it is at work, and its sender is not silent"


def test_a_session_that_does_not_let_go_is_waited_for_no_longer_than_that() -> None:
    open_sessions = OpenSessions()
    with holding(open_sessions, hangs=True), newcomer(open_sessions) as new:
        wait_for_silence()
        assert not new.take_over("f")
