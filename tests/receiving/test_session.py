"""A session over a socket pair into a real store: what a sender says, and what it hears."""

import gc
import hashlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.channels import Ends
from xfer.errors import Refused, XferError
from xfer.logs import Peer
from xfer.outcomes import Outcome
from xfer.receiving.session import Session
from xfer.storage.contract import StoreWriter
from xfer.system.stop import StopSignal
from xfer.wire.channel import Channel
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    FileHeader,
    Message,
    Offer,
    OfferedFile,
    Plan,
    PlannedFile,
    Receipt,
    Refusal,
    SymlinkHeader,
    Working,
)

LARGE = bytes(range(256)) * 4 * 4096
"""More than the chunks of a body."""


class Running:
    """A session in a thread, and the sender's end of its channel."""

    def __init__(self, ends: Ends, writer: StoreWriter) -> None:
        self.sender, self._receiver = ends
        self.stop = StopSignal()
        self.error: XferError | None = None
        self.session = weakref.ref(session := Session(ends[1], writer, self.stop, Peer("test")))
        self._thread = threading.Thread(target=self._run, args=[session])
        self._thread.start()

    def _run(self, session: Session) -> None:
        try:
            session.run()
        except XferError as error:
            self.error = error.with_traceback(None)
        self._receiver.close()

    def say(self, message: Message, body: bytes = b"") -> None:
        self.sender.send(message, body)
        self.sender.flush()

    def part(self, name: str, whole: bytes, begin: int, end: int) -> None:
        header = FileHeader(name, len(whole), md5(whole[:end]), offset=begin, length=end - begin)
        self.say(header, whole[begin:end])

    def file(self, name: str, content: bytes) -> None:
        self.part(name, content, 0, len(content))

    def hear(self) -> Message:
        """The next message that is no heartbeat."""
        while isinstance(message := self.sender.receive(), Working):
            pass
        return message

    def finish(self) -> list[Message]:
        """All that it still says."""
        self.say(Done())
        return list(iter(self.hear, Done()))

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def running(ends: Ends, writer: StoreWriter) -> Iterator[Running]:
    started = Running(ends, writer)
    yield started
    started.sender.close()
    started.join()
    started.stop.close()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def receipt(name: str, content: bytes) -> Receipt:
    return Receipt(name, Outcome.STORED, len(content), md5(content))


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_is_stored_and_acknowledged_while_the_sender_waits(
    running: Running, tmp_path: Path, content: bytes
) -> None:
    running.file("d/f", content)
    assert running.hear() == receipt("d/f", content)
    assert (tmp_path / "d" / "f").read_bytes() == content


def test_a_sender_that_never_pauses_hears_of_everything_it_sent(
    running: Running, tmp_path: Path
) -> None:
    names = [f"d/{number}" for number in range(300)]
    running.sender.send(DirectoryHeader("d", 0o750, 0))
    running.sender.send(SymlinkHeader("link", "d/0"))
    for name in names:
        header = FileHeader(name, len(name), md5(name.encode()))
        running.sender.send(header, name.encode())
    answers = running.finish()
    assert sorted(answers, key=repr) == sorted(
        [receipt(name, name.encode()) for name in names]
        + [Receipt("d", Outcome.STORED), Receipt("link", Outcome.STORED)],
        key=repr,
    )
    assert (tmp_path / "link").read_bytes() == b"d/0"


def test_an_offer_is_answered_with_a_plan(running: Running) -> None:
    running.file("f", b"stored")
    running.hear()
    running.say(Offer((OfferedFile("f", 7), OfferedFile("g", 5))))
    assert running.hear() == Plan((PlannedFile("f", "send"), PlannedFile("g", "send")))


def test_a_refused_file_does_not_end_the_session_and_its_later_parts_are_ignored(
    running: Running,
) -> None:
    running.part("../f", LARGE, 0, 1000)
    running.part("../f", LARGE, 1000, 2000)
    running.file("g", b"good")
    answers = running.finish()
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [(one.file_name, one.code) for one in refusals] == [("../f", "bad_name")]
    assert answers[1:] == [receipt("g", b"good")]


def test_what_arrived_whole_is_stored_and_the_rest_kept_when_the_sender_goes(
    running: Running, writer: StoreWriter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "xfer.receiver"):
        running.sender.send(FileHeader("whole", 5, md5(b"whole")), b"whole")
        running.part("half", LARGE, 0, 1000)
        running.sender.close()
        running.join()
    assert running.error
    assert running.error.code == "lost"
    assert (tmp_path / "whole").read_bytes() == b"whole"
    partial = writer.find_partial("half")
    assert partial
    assert partial.size == 1000
    partial.discard()
    assert "test half: interrupted at 1000 bytes" in caplog.messages


def test_a_partial_is_free_again_before_the_sender_is_told_that_all_is_over(
    running: Running, writer: StoreWriter
) -> None:
    running.part("f", LARGE, 0, 1000)
    running.finish()
    partial = writer.find_partial("f")
    assert partial
    partial.discard()


def test_a_receiver_that_stops_lets_a_file_of_which_parts_have_come_be_finished(
    running: Running,
) -> None:
    running.part("f", LARGE, 0, 1000)
    running.part("../ask", LARGE, 0, 1)
    assert isinstance(running.hear(), Refusal), "the first part is received by now"
    running.stop.set()
    running.part("f", LARGE, 1000, len(LARGE))
    assert running.hear() == receipt("f", LARGE)
    running.join()
    assert isinstance(running.error, Refused)
    assert running.error.code == "shutting_down"


Ending = Callable[[Channel], None]


def end_well(sender: Channel) -> None:
    sender.send(Done())
    sender.flush()


@pytest.mark.parametrize("end", [end_well, Channel.close], ids=["done", "lost"])
def test_a_session_is_freed_as_soon_as_it_ends(running: Running, end: Ending) -> None:
    """A circle of references would keep its buffers until Python looks for circles."""
    running.say(Offer(()))
    running.file("large", LARGE)
    running.hear()
    gc.disable()
    try:
        end(running.sender)
        running.join()
        deadline = time.monotonic() + 10
        while running.session():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()
