"""Commits: batch after batch, while the session receives; a wait for a disk is never silent."""

import os
import select
import threading
import time
from pathlib import Path

import pytest

from tests.support.stores import new_file, words
from xfer.outcomes import Outcome
from xfer.receiving.commit_queue import ArrivedItem, CommitQueue
from xfer.receiving.committer import CommittedBatch, Committer
from xfer.storage.contract import Item, Metadata, NewDirectory, StoreWriter
from xfer.wire import keepalive

HEARTBEAT_SECONDS = 0.02


def arrived(item: Item) -> ArrivedItem:
    return ArrivedItem(item, time.monotonic())


def drained(committer: Committer, queue: CommitQueue) -> list[CommittedBatch]:
    """The batches that there are, once everything is committed."""
    batches = list(committer.run())
    while queue.weight:
        assert committer.wait(10)
        batches += committer.run()
    return batches


def test_what_is_queued_is_committed_in_batches_and_weighs_nothing_after_that(
    writer: StoreWriter, tmp_path: Path
) -> None:
    queue = CommitQueue()
    committer = Committer(writer, queue, lambda: None)
    for name, content in (("a", b"older"), ("b", b"other"), ("a", b"newer")):
        queue.add(arrived(new_file(writer, name, content)))
    batches = drained(committer, queue)
    committer.close()
    assert [[one.item.name for one, _ in batch] for batch in batches] == [["a", "b"], ["a"]]
    assert words(outcome for batch in batches for _, outcome in batch) == [
        "stored", "stored", "versioned"
    ]  # fmt: skip
    assert ((tmp_path / "a").read_bytes(), queue.weight) == (b"newer", 0)


def test_receiving_goes_on_during_a_flush_and_its_end_can_be_polled_for(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_flushed = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: is_flushed.wait(10))
    queue = CommitQueue()
    committer = Committer(writer, queue, lambda: None)
    queue.add(arrived(NewDirectory("d", Metadata())))
    assert list(committer.run()) == list(committer.run()) == []
    assert not committer.wait(0.01)
    assert select.select([committer.descriptor], [], [], 0)[0] == []
    is_flushed.set()
    assert select.select([committer.descriptor], [], [], 10)[0] == [committer.descriptor]
    batches = drained(committer, queue)
    assert [outcome for batch in batches for _, outcome in batch] == [Outcome.STORED]
    assert select.select([committer.descriptor], [], [], 0)[0] == []
    committer.close()


def test_a_commit_that_fails_leaves_nothing_behind_and_the_committer_usable(
    writer: StoreWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise MemoryError

    queue = CommitQueue()
    committer = Committer(writer, queue, lambda: None)
    queue.add(arrived(new_file(writer, "f", b"content")))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(MemoryError) as failed:
            drained(committer, queue)
    assert list((tmp_path / ".xfer" / "partials").iterdir()) == []
    del failed  # which refers to all that was under way
    assert queue.weight == 0
    queue.add(arrived(NewDirectory("d", Metadata())))
    assert len(drained(committer, queue)) == 1
    committer.close()


def test_a_disk_that_is_slow_after_it_was_quick_is_waited_for_with_heartbeats(
    writer: StoreWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    beats: list[float] = []
    committed: list[CommittedBatch] = []

    def beat() -> None:
        beats.append(time.monotonic())

    monkeypatch.setattr(keepalive, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(seconds[0]))
    threads = threading.active_count()
    queue = CommitQueue()
    committer = Committer(writer, queue, beat)
    for number in range(8):
        seconds[0] = 0.3 if number % 4 == 3 else 0.0
        beats.clear()
        queue.add(arrived(NewDirectory(str(number), Metadata())))
        committed += committer.run()
        while queue.weight:
            if not committer.wait(HEARTBEAT_SECONDS):
                beat()
            committed += committer.run()
        if seconds[0]:
            assert len(beats) >= 3, "a session that says nothing while it waits"
    committer.close()
    ended = time.monotonic()
    assert [outcome for batch in committed for _, outcome in batch] == 8 * [Outcome.STORED]
    assert all(moment < ended for moment in beats)
    while threading.active_count() > threads:
        assert time.monotonic() < ended + 10, "a thread that is not needed any more"
        time.sleep(0.01)
