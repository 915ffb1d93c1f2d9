"""The queue of commits: in order, no name twice in a batch, and what everything weighs."""

import resource
import time
from collections.abc import Iterator

import pytest

from xfer.receiving.commit_queue import FULL_WEIGHT, ArrivedItem, Batch, CommitQueue
from xfer.storage.contract import Metadata, NewDirectory, NewFile, StoreWriter


def arrived(name: str, size: int = 0) -> ArrivedItem:
    return ArrivedItem(NewDirectory(name, Metadata()), time.monotonic(), size)


def filled(*names: str) -> CommitQueue:
    queue = CommitQueue()
    for name in names:
        queue.add(arrived(name))
    return queue


def names(batch: Batch) -> list[str]:
    return [one.item.name for one in batch.items]


def test_a_batch_has_what_is_pending_in_order() -> None:
    queue = filled("c", "a", "b")
    assert names(queue.next_batch()) == ["c", "a", "b"]
    assert queue.pending == []


def test_the_second_item_of_a_name_is_in_the_next_batch() -> None:
    queue = filled("a", "b", "a", "c", "a")
    assert names(queue.next_batch()) == ["a", "b"]
    assert names(queue.next_batch()) == ["a", "c"]
    assert names(queue.next_batch()) == ["a"]


def test_an_item_weighs_until_its_commit_has_ended() -> None:
    item_weight = filled("a").weight
    queue = CommitQueue()
    queue.add(arrived("a", 1000))
    assert queue.weight == 1000 + item_weight
    batch = queue.next_batch()
    queue.add(arrived("b"))
    assert queue.weight == 1000 + 2 * item_weight
    queue.remove(batch)
    assert queue.weight == item_weight


@pytest.mark.parametrize(
    ("queued", "directories"),
    [
        ((), 0),
        (("a/b/f", "a/b/g"), 2),
        (("a/b/f", "a/c/f"), 3),
        (("a/b/f", "b/f"), 3),
        (("a/f", "f", "a/f"), 2),
        (("a/b/c/f", "a/f"), 3),
    ],
)
def test_each_directory_that_a_commit_opens_weighs_as_much_as_an_item(
    queued: tuple[str, ...], directories: int
) -> None:
    assert filled(*queued).weight == (len(queued) + directories) * filled("a").weight


@pytest.fixture
def _few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_few_descriptors")
def test_where_descriptors_are_few_a_queue_is_full_with_an_eighth_of_them() -> None:
    assert filled(*map(str, range(31))).weight < FULL_WEIGHT
    assert filled(*map(str, range(32))).weight >= FULL_WEIGHT


def test_what_is_never_committed_is_left_to_a_later_session(writer: StoreWriter) -> None:
    partial = writer.create_partial("f")
    partial.write(b"content")
    queue = filled("directory")
    queue.add(ArrivedItem(NewFile("f", partial), 0.0))
    queue.keep_partials()
    found = writer.find_partial("f")
    assert found is not None
    assert found.size == len(b"content")
    found.discard()
