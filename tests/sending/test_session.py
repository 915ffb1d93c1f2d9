"""A session over a socket pair, with a receiver that the test plays by hand."""

import contextlib
import gc
import hashlib
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.channels import joined
from xfer.errors import ConnectionLost, CorruptData, Refused, XferError
from xfer.outcomes import Outcome
from xfer.sending.batches import InOrder
from xfer.sending.observer import ProgressSink, Result, Results
from xfer.sending.parts import PART_BYTES, Options
from xfer.sending.session import SendSession
from xfer.source import tree
from xfer.source.tree import Entry
from xfer.wire.channel import Channel
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    FileHeader,
    Message,
    Offer,
    Plan,
    PlannedFile,
    Receipt,
    Refusal,
    Working,
)

Receiver = Callable[[Channel], None]


class Kept(Results, ProgressSink):
    """Keeps all that a session tells."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.begun_at: list[tuple[str, int]] = []
        self.moved: list[tuple[str, int]] = []
        self.waits: list[tuple[str, int, int]] = []

    def begun(self, entry: Entry, offset: int) -> None:
        self.begun_at.append((entry.name, offset))

    def finished(self, result: Result) -> None:
        self.results.append(result)

    def sent(self, size: int) -> None:
        self.moved.append(("sent", size))

    def skipped(self, size: int) -> None:
        self.moved.append(("skipped", size))

    def waiting(self, name: str, done: int, size: int) -> None:
        self.waits.append((name, done, size))

    def told(self) -> list[tuple[str, str, bool]]:
        return [(r.name, r.outcome or str(r.error), r.with_session) for r in self.results]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@contextlib.contextmanager
def received_by(receiver: Receiver, kept: Kept) -> Iterator[SendSession]:
    """A session whose other end `receiver` is, in a thread; what fails there fails here."""
    failures: list[BaseException] = []
    with joined(socket.socketpair(), 10.0) as (ours, theirs):

        def receive() -> None:
            try:
                receiver(theirs)
                theirs.drain()
            except BaseException as error:  # noqa: BLE001 (raised below)
                failures.append(error)
                theirs.close()

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            yield SendSession(ours, Options(), kept, kept)
        finally:
            thread.join(10)
        assert failures == []


def say(channel: Channel, *messages: Message) -> None:
    for message in messages:
        channel.send(message)
    channel.flush()


def answer_offers(channel: Channel, planned: PlannedFile | None = None) -> Message:
    """Plan what is offered as `planned` says (else "send"); the first message that is no offer."""
    while isinstance(message := channel.receive(), Offer):
        for file in message.files:
            say(channel, Plan((planned or PlannedFile(file.file_name, "send"),)))
    return message


def receipt_for(channel: Channel, message: Message) -> Receipt:
    """Receive what follows the header that `message` is."""
    if isinstance(message, DirectoryHeader):
        return Receipt(message.file_name, Outcome.STORED)
    assert isinstance(message, FileHeader)
    assert message.file_size is not None
    channel.read(message.file_size - message.offset)
    return Receipt(message.file_name, Outcome.STORED, message.file_size, md5=message.md5)


def send(receiver: Receiver, kept: Kept, *paths: Path) -> XferError | None:
    """What the session raised."""
    with received_by(receiver, kept) as session:
        try:
            session.run(InOrder(tree.walk(list(map(str, paths)))))
        except XferError as error:
            return error
    return None


def test_a_sender_waits_for_no_receipt_and_a_directory_comes_last(
    kept: Kept, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").touch()
    names = [f"{tmp_path.name}/a", f"{tmp_path.name}/b", tmp_path.name]

    def receiver(channel: Channel) -> None:
        receipts = [receipt_for(channel, answer_offers(channel))]
        while not isinstance(message := channel.receive(), Done):
            receipts.append(receipt_for(channel, message))
        assert kept.results == []
        assert [receipt.file_name for receipt in receipts] == names
        say(channel, *receipts, Done())

    assert send(receiver, kept, tmp_path) is None
    assert kept.told() == [(name, "stored", False) for name in names]
    assert kept.begun_at == [(name, 0) for name in names]
    assert kept.moved == [("sent", 3), ("sent", 0)]


def test_what_the_receiver_has_is_skipped(kept: Kept, document: Path) -> None:
    def receiver(channel: Channel) -> None:
        assert isinstance(answer_offers(channel, PlannedFile(document.name, "skip")), Done)
        say(channel, Done())

    assert send(receiver, kept, document) is None
    assert kept.told() == [(document.name, "unchanged", False)]
    assert (kept.begun_at, kept.moved) == ([], [("skipped", 13)])


def test_what_the_receiver_has_a_part_of_is_sent_from_there_on(kept: Kept, document: Path) -> None:
    digest = hashlib.md5(document.read_bytes()[:4]).hexdigest()
    plan = PlannedFile(document.name, "resume", 4, md5=digest)

    def receiver(channel: Channel) -> None:
        header = answer_offers(channel, plan)
        assert isinstance(header, FileHeader)
        assert header.offset == 4
        receipt = receipt_for(channel, header)
        channel.expect(Done)
        say(channel, receipt, Done())

    assert send(receiver, kept, document) is None
    assert kept.begun_at == [(document.name, 4)]
    assert kept.moved == [("skipped", 4), ("sent", 9)]


def test_a_refusal_ends_one_file_and_the_session_goes_on(kept: Kept, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"abc")

    def receiver(channel: Channel) -> None:
        while not isinstance(message := channel.receive(), FileHeader):
            assert isinstance(message, Offer)
            for file in message.files:
                refuse = file.file_name == "a"
                if refuse:
                    say(channel, Refusal("a", "exists", "no", retryable=False))
                action = PlannedFile(file.file_name, "refuse" if refuse else "send")
                say(channel, Plan((action,)))
        receipt = receipt_for(channel, message)
        channel.expect(Done)
        say(channel, receipt, Done())

    assert send(receiver, kept, tmp_path / "a", tmp_path / "b") is None
    assert kept.told() == [("a", "no", False), ("b", "stored", False)]
    assert isinstance(kept.results[0].error, Refused)


def test_a_file_that_is_refused_half_way_is_not_sent_to_its_end(kept: Kept, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 64 * PART_BYTES)

    def receiver(channel: Channel) -> None:
        message = answer_offers(channel)
        say(channel, Refusal("large", "no_space", "full", retryable=False))
        while isinstance(message, FileHeader):
            channel.read(message.length or 0)
            message = channel.receive()
        assert isinstance(message, Done)
        say(channel, Done())

    assert send(receiver, kept, large) is None
    assert kept.told() == [("large", "full", False)]
    assert len(kept.moved) < 64


def test_a_file_that_cannot_be_read_is_no_end_of_the_session(kept: Kept, document: Path) -> None:
    other = document.with_name("other")
    other.write_bytes(b"abc")

    def receiver(channel: Channel) -> None:
        while isinstance(message := channel.receive(), Offer):
            if message.files:
                document.unlink()
                say(channel, Plan(tuple(PlannedFile(f.file_name, "send") for f in message.files)))
        receipt = receipt_for(channel, message)
        channel.expect(Done)
        say(channel, receipt, Done())

    assert send(receiver, kept, document, other) is None
    assert [(name, lost) for name, _, lost in kept.told()] == [
        (document.name, False),
        ("other", False),
    ]
    assert kept.results[0].error
    assert not kept.results[1].error


def test_the_end_of_a_session_is_the_end_of_what_is_outstanding(kept: Kept, document: Path) -> None:
    def receiver(channel: Channel) -> None:
        receipt_for(channel, answer_offers(channel))
        channel.close()

    error = send(receiver, kept, document)
    assert isinstance(error, ConnectionLost)
    assert kept.told() == [(document.name, str(error), True)]


def test_what_the_receiver_says_explains_more_than_that_the_connection_is_gone(
    kept: Kept, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 64 * PART_BYTES)

    def receiver(channel: Channel) -> None:
        answer_offers(channel)
        channel.end_with(XferError("the disk is gone", code="storage"))

    error = send(receiver, kept, large)
    assert isinstance(error, Refused)
    assert (error.code, error.message, error.is_from_peer) == ("storage", "the disk is gone", True)


@pytest.mark.parametrize(
    "said", [(Done(),), (Receipt("other", Outcome.STORED), Done())], ids=["none", "another"]
)
def test_an_end_without_a_receipt_for_everything_is_corrupt(
    kept: Kept, document: Path, said: tuple[Message, ...]
) -> None:
    def receiver(channel: Channel) -> None:
        receipt_for(channel, answer_offers(channel))
        channel.expect(Done)
        say(channel, *said)

    assert isinstance(send(receiver, kept, document), CorruptData)
    ((name, _, with_session),) = kept.told()
    assert (name, with_session) == (document.name, True)


def test_a_receiver_at_work_is_progress(kept: Kept, document: Path) -> None:
    def receiver(channel: Channel) -> None:
        say(channel, Working(document.name, 1, 2))
        receipt = receipt_for(channel, answer_offers(channel))
        channel.expect(Done)
        say(channel, receipt, Done())

    assert send(receiver, kept, document) is None
    assert kept.waits == [(document.name, 1, 2)]


def test_whatever_else_ends_a_session_leaves_no_thread(kept: Kept, document: Path) -> None:
    def interrupted() -> Iterator[Entry]:
        yield from ()
        raise KeyboardInterrupt

    def receiver(channel: Channel) -> None:
        with contextlib.suppress(ConnectionLost):
            answer_offers(channel)

    before = threading.active_count()
    with (
        pytest.raises(KeyboardInterrupt),
        received_by(receiver, kept) as session,
    ):
        session.run(InOrder(interrupted()))
    assert threading.active_count() == before


def test_a_session_that_is_over_is_freed_at_once(kept: Kept, document: Path) -> None:
    def receiver(channel: Channel) -> None:
        receipt = receipt_for(channel, answer_offers(channel))
        channel.expect(Done)
        say(channel, receipt, Done())

    gc.disable()
    try:
        with received_by(receiver, kept) as session:
            session.run(InOrder(tree.walk([str(document)])))
            freed = weakref.ref(session)
            del session
        assert freed() is None
    finally:
        gc.enable()
