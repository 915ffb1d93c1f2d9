"""What a receiver answers goes where it belongs, and what does not fit ends the session."""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.channels import joined
from xfer.errors import CorruptData, PeerTimeout, ProtocolError, Refused, XferError
from xfer.outcomes import Outcome
from xfer.sending.observer import ProgressSink, Result, Results
from xfer.sending.offers import Offers
from xfer.sending.outstanding import Outstanding
from xfer.sending.parts import Options, PartReader
from xfer.sending.replies import Replies
from xfer.source.tree import Entry, Kind
from xfer.system.background import BackgroundThread
from xfer.wire.channel import Channel
from xfer.wire.keepalive import Heartbeat, StallLimit
from xfer.wire.messages import Done, Error, Message, Offer, Receipt, Refusal, Working


class Exhausted(StallLimit):
    """Has been waiting for too long: only an advance of the session helps."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = 0

    def renew(self) -> None:
        self.renewed += 1

    def check(self) -> None:
        raise PeerTimeout("at work for too long")


class Session(Results):
    """The receiving half of a session that has sent the directories `a` and `b`."""

    def __init__(self, channel: Channel, stall_limit: StallLimit) -> None:
        self.results: list[Result] = []
        background = BackgroundThread()
        reader = PartReader(Options(), background, Heartbeat(background, lambda _: None))
        self.outstanding = Outstanding(self, stall_limit)
        offers = Offers(Options(), reader, self.outstanding)
        self.replies = Replies(channel, offers, self.outstanding, stall_limit, ProgressSink())
        for name in ("a", "b"):
            self.outstanding.add(Entry(Kind.DIRECTORY, name, name, os.stat(".")))

    def finished(self, result: Result) -> None:
        self.results.append(result)

    def told(self) -> list[tuple[str, str]]:
        return [(result.name, result.outcome or str(result.error)) for result in self.results]

    def receive_all(self) -> XferError | None:
        """Why the session ended, if it ended early."""
        self.replies.start()
        self.replies.join()
        return self.replies.error


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    with joined(socket.socketpair(), 10.0) as both:
        yield both


def say(channel: Channel, *messages: Message) -> None:
    for message in messages:
        channel.send(message)
    channel.flush()


A, B = (Receipt(name, Outcome.STORED) for name in ("a", "b"))
NO = Refusal("b", "exists", "no", retryable=False)


def test_each_answer_is_a_result_and_done_is_the_end(ends: tuple[Channel, Channel]) -> None:
    session = Session(ends[0], StallLimit())
    session.replies.expect_end()
    say(ends[1], A, Working("b", 1, 2), NO, Done())
    assert session.receive_all() is None
    assert session.told() == [("a", "stored"), ("b", "no")]


@pytest.mark.parametrize(
    ("said", "is_expected", "error"),
    [
        ((A, B, Done()), False, CorruptData),
        ((A, Done()), True, CorruptData),
        ((A, A, Done()), True, CorruptData),
        ((A, Offer(())), True, ProtocolError),
        ((A, Error("no_space", "full", False)), True, Refused),
    ],
    ids=["too early", "not all answered", "answered twice", "a sender's message", "an error"],
)
def test_what_does_not_fit_ends_the_session(
    ends: tuple[Channel, Channel],
    said: tuple[Message, ...],
    is_expected: bool,
    error: type[XferError],
) -> None:
    session = Session(ends[0], StallLimit())
    if is_expected:
        session.replies.expect_end()
    say(ends[1], *said)
    assert isinstance(session.receive_all(), error)
    assert session.told()[0] == ("a", "stored")


@pytest.mark.parametrize(
    "said", [Working("a", 1, 2), Refusal("other", "exists", "no", retryable=False)]
)
def test_only_answers_to_what_was_sent_are_an_advance(
    ends: tuple[Channel, Channel], said: Message
) -> None:
    limit = Exhausted()
    session = Session(ends[0], limit)
    say(ends[1], A, NO, said)
    assert isinstance(session.receive_all(), PeerTimeout)
    assert limit.renewed == 2
