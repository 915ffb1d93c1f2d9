"""Work that connections share: each entry is handed out once, and comes back with a lost one."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from xfer.client.parallel.consumer import Consumer
from xfer.client.parallel.work_queue import WorkQueue
from xfer.errors import AuthenticationError, ConnectionLost
from xfer.sending.batches import Batch
from xfer.sending.observer import Result, Results
from xfer.source import tree
from xfer.source.tree import Entry, Kind

MIB = 1024 * 1024


class Kept(Results):
    """Keeps every result."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def finished(self, result: Result) -> None:
        self.results.append(result)

    def told(self) -> list[tuple[str, str]]:
        """Names, without the directory, and how each ended."""
        return [
            (result.name.rpartition("/")[2], result.outcome or str(result.error))
            for result in self.results
        ]


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files that are worth a connection each."""
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.touch()
        os.truncate(path, 2 * MIB)
    return list(map(str, paths))


def consumers(queue: WorkQueue) -> list[Consumer]:
    """One for each connection that there is work for, all of them joined."""
    expected = queue.expect_connections()
    assert all(queue.join() for _ in range(expected))
    return [Consumer(queue, is_first=not number) for number in range(expected)]


def first_of(batch: Batch) -> Entry:
    assert isinstance(batch[0], Entry)
    return batch[0]


def stored(entry: Entry) -> Result:
    return Result(entry.name, entry.kind, outcome="stored", digest="0")


def lost(entry: Entry) -> Result:
    return Result(entry.name, entry.kind, error=ConnectionLost("gone"), with_session=True)


def test_as_many_connections_are_expected_as_there_is_work_for(files: Sequence[str]) -> None:
    for paths, count in ((files, 2), (files[:1], 1), ([__file__], 1)):
        assert WorkQueue(tree.walk(paths), 8, Results()).expect_connections() == count


def test_each_entry_is_handed_out_once(kept: Kept, files: Sequence[str]) -> None:
    queue = WorkQueue(tree.walk(files), 2, kept)
    first, second = consumers(queue)
    one, other = (first_of(next(iter(consumer))) for consumer in (first, second))
    assert {one.name, other.name} == {"a", "b"}
    first.finished(stored(one))
    second.finished(stored(other))
    assert list(first) == list(second) == []
    assert sorted(kept.told()) == [("a", "stored"), ("b", "stored")]
    assert queue.is_done()


def test_what_a_lost_connection_had_not_begun_is_for_the_others(
    kept: Kept, files: Sequence[str]
) -> None:
    queue = WorkQueue(tree.walk(files), 2, kept)
    first, second = consumers(queue)
    entry = first_of(next(iter(second)))
    second.finished(lost(entry))
    second.close()
    assert kept.results == []
    for batch in first:
        for found in batch:
            assert isinstance(found, Entry)
            first.finished(stored(found))
    assert sorted(kept.told()) == [("a", "stored"), ("b", "stored")]
    assert queue.is_done()


def test_what_a_lost_connection_had_begun_fails_with_it(kept: Kept, files: Sequence[str]) -> None:
    queue = WorkQueue(tree.walk(files), 2, kept)
    _, second = consumers(queue)
    entry = first_of(next(iter(second)))
    second.begun(entry, 0)
    second.finished(lost(entry))
    second.close()
    assert kept.told() == [(entry.name, "gone")]
    assert not queue.is_done()


def test_what_nobody_takes_again_fails_in_the_end(kept: Kept, files: Sequence[str]) -> None:
    queue = WorkQueue(tree.walk(files[:1]), 2, kept)
    (only,) = consumers(queue)
    only.finished(lost(first_of(next(iter(only)))))
    only.close()
    assert kept.results == []
    assert not queue.is_done()
    assert kept.told() == [("a", "gone")]


def test_an_end_for_all_ends_what_waits_and_is_why_the_rest_failed(
    kept: Kept, files: Sequence[str]
) -> None:
    queue = WorkQueue(tree.walk(files), 2, kept)
    first, second = consumers(queue)
    entry = first_of(next(iter(first)))
    waiting = threading.Thread(target=lambda: list(second))
    waiting.start()
    queue.end(AuthenticationError("wrong"))
    waiting.join(10)
    assert not waiting.is_alive()
    first.finished(lost(entry))
    assert kept.told() == [(entry.name, "wrong")]
    assert not queue.join()


def test_a_connection_that_is_not_accepted_yet_gets_files_only(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").touch()
    queue = WorkQueue(tree.walk([str(tmp_path / name) for name in ("link", "file")]), 2, kept)
    queue.expect_connections()
    assert queue.join()
    (entry,) = next(iter(Consumer(queue, is_first=False)))
    assert entry.name == "file"


def test_what_is_unchanged_lets_a_connection_offer_more_until_it_sends_again(
    kept: Kept, tmp_path: Path
) -> None:
    for number in range(40):
        (tmp_path / str(number)).touch()
        os.truncate(tmp_path / str(number), 16 * MIB)
    queue = WorkQueue(tree.walk([str(tmp_path)]), 2, kept)
    consumer, _ = consumers(queue)
    batches = iter(consumer)
    offered: list[Batch] = []
    while not consumer.is_full(offered):
        offered.append(next(batches))
    consumer.finished(Result(first_of(offered[0]).name, Kind.FILE, outcome="unchanged"))
    assert not consumer.is_full(offered)
    consumer.begun(first_of(offered[1]), 0)
    assert consumer.is_full(offered)


def test_standard_input_is_for_the_first_connection_alone(kept: Kept, files: Sequence[str]) -> None:
    queue = WorkQueue(tree.walk([*files, "-"], "stream"), 2, kept)
    first, second = consumers(queue)
    assert first_of(next(iter(second))).kind is Kind.FILE
    assert first_of(next(iter(first))).kind is Kind.STREAM


def test_standard_input_is_lost_with_the_first_connection(kept: Kept, files: Sequence[str]) -> None:
    queue = WorkQueue(tree.walk([*files, "-"], "stream"), 2, kept)
    first, second = consumers(queue)
    first.close()
    for batch in second:
        for found in batch:
            assert isinstance(found, Entry)
            assert found.kind is Kind.FILE
            second.finished(stored(found))
    assert not queue.is_done()
