"""What is left of a job: each name is told once, and what failed for now is tried again."""

import os
from pathlib import Path

import pytest

from xfer.client.remaining import RemainingWork
from xfer.errors import Cancelled, ConnectionLost, LocalError, Refused, XferError
from xfer.sending.observer import Observer, Result
from xfer.source.tree import Entry, Kind
from xfer.wire.cancel import CancelToken

LOST = ConnectionLost("gone")


class Kept(Observer):
    """Keeps what the user of a job would be told."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.bytes_skipped = 0

    def finished(self, result: Result) -> None:
        self.results.append(result)

    def skipped(self, size: int) -> None:
        self.bytes_skipped += size

    def told(self) -> dict[str, str]:
        """By name, how it ended. No name may be told twice."""
        told = {result.name: result.outcome or str(result.error) for result in self.results}
        assert len(told) == len(self.results)
        return told


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`top/a/1`, `top/a/2` and `top/b/3`, of a byte each."""
    for name in ("a/1", "a/2", "b/3"):
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "top"


EVERYTHING = ["top/a/1", "top/a/2", "top/a", "top/b/3", "top/b", "top"]
"""In the order of a walk."""


def names(work: RemainingWork) -> list[str]:
    work.start_attempt()
    return [entry.name for entry in work.entries()]


def kind_of(name: str) -> Kind:
    return Kind.FILE if name[-1].isdigit() else Kind.DIRECTORY


def finish(work: RemainingWork, name: str, error: XferError | None = None) -> None:
    outcome = "" if error else "stored"
    work.finished(Result(name, kind_of(name), outcome=outcome, error=error))


def test_the_first_attempt_sends_everything(kept: Kept, root: Path) -> None:
    assert names(RemainingWork([str(root)], None, kept)) == EVERYTHING


def test_the_search_for_what_is_left_can_be_cancelled(kept: Kept, root: Path) -> None:
    token = CancelToken()
    work = RemainingWork([str(root)], None, kept, token)
    for name in EVERYTHING:
        finish(work, name)
    token.cancel()
    with pytest.raises(Cancelled):
        names(work)


def test_the_next_attempt_sends_what_is_left_and_the_directories_that_it_is_in(
    kept: Kept, root: Path
) -> None:
    work = RemainingWork([str(root)], None, kept)
    assert names(work) == EVERYTHING
    for name in ("top/a/1", "top/b/3", "top/b"):
        finish(work, name)
    finish(work, "top/a/2", LOST)
    assert work.first_failure is LOST
    assert names(work) == ["top/a/2", "top/a", "top"]
    assert work.first_failure is None
    assert kept.bytes_skipped >= 2


def test_what_fails_for_now_is_told_when_it_ends(kept: Kept, root: Path) -> None:
    work = RemainingWork([str(root)], None, kept)
    finish(work, "top/a/1", LOST)
    finish(work, "top/a/2", LOST)
    finish(work, "top/b/3", Refused("no"))
    assert kept.told() == {"top/b/3": "no"}
    finish(work, "top/a/2")
    work.tell_failures()
    assert kept.told() == {"top/b/3": "no", "top/a/2": "stored", "top/a/1": "gone"}


def test_a_directory_that_is_sent_once_more_is_told_once(kept: Kept, root: Path) -> None:
    work = RemainingWork([str(root)], None, kept)
    finish(work, "top/a/1", LOST)
    for name in ("top/a/2", "top/a", "top/b/3", "top/b", "top"):
        finish(work, name)
    assert names(work) == ["top/a/1", "top/a", "top"]
    for name in ("top/a/1", "top/a", "top"):
        finish(work, name)
    assert kept.told() == dict.fromkeys(EVERYTHING, "stored")


def test_what_failed_and_is_gone_fails_for_good(kept: Kept, root: Path) -> None:
    work = RemainingWork([str(root)], None, kept)
    finish(work, "top/a/1", LOST)
    (root / "a" / "1").unlink()
    assert "top/a/1" not in names(work)
    assert kept.told() == {"top/a/1": "top/a/1 was offered, and is not there any more"}
    assert isinstance(kept.results[0].error, LocalError)
    work.tell_failures()
    assert len(kept.results) == 1


def test_progress_is_what_finished_or_what_the_receiver_kept(kept: Kept, root: Path) -> None:
    work = RemainingWork([str(root)], None, kept)
    entry = Entry(Kind.FILE, "top/a/1", str(root / "a" / "1"), os.stat(__file__))
    for offset, is_progress in ((0, False), (5, True), (5, False), (4, False), (6, True)):
        work.start_attempt()
        work.begun(entry, offset)
        finish(work, entry.name, LOST)
        assert work.made_progress == is_progress, offset
    work.start_attempt()
    finish(work, entry.name)
    assert work.made_progress


def test_standard_input_is_read_once(kept: Kept, root: Path) -> None:
    work = RemainingWork([str(root), "-"], "stream", kept)
    assert not work.stream_was_read
    assert names(work) == [*EVERYTHING, "stream"]
    assert work.stream_was_read


def test_what_is_sent_once_more_is_told_once_and_a_failure_stays_one(
    kept: Kept, root: Path
) -> None:
    """As when a receiver has lost what it knew of a run."""
    work = RemainingWork([str(root)], None, kept)
    finish(work, "top/a/1")
    finish(work, "top/a/2", LOST)
    finish(work, "top/b/3", LOST)
    work.tell_failures()
    work.send_again()
    assert names(work) == EVERYTHING
    finish(work, "top/a/1")
    finish(work, "top/a/2")
    finish(work, "top/b/3", LOST)
    work.tell_failures()
    assert kept.told() == {"top/a/1": "stored", "top/a/2": "gone", "top/b/3": "gone"}
    assert (work.has_failed, work.confirmed) == (True, 2)
