"""The entries in sight: what is handed out first, how much at once, and when a directory is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xfer.client.parallel.lookahead import ENTRY_WEIGHT, Directories, Lookahead
from xfer.source import tree
from xfer.source.tree import Entry, Found, Kind

LARGE = 1024 * 1024


def names(entries: list[Found]) -> list[str]:
    return [entry.name.partition("/")[2] for entry in entries]


@pytest.fixture
def lookahead(tmp_path: Path) -> Lookahead:
    """Small and large files, and a link, in one directory; filled."""
    for name, size in {"a": 1, "b": LARGE, "c": 2, "d": 3 * LARGE}.items():
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
    (tmp_path / "link").symlink_to("a")
    lookahead = Lookahead(tree.walk([str(tmp_path)]))
    lookahead.fill()
    return lookahead


def pop_all(lookahead: Lookahead, max_weight: float, *, files_only: bool) -> Iterator[list[str]]:
    while popped := lookahead.pop(max_weight, 64, files_only=files_only):
        yield names(popped)


def test_the_largest_file_is_handed_out_first_and_small_ones_in_order(
    lookahead: Lookahead,
) -> None:
    assert list(pop_all(lookahead, 1, files_only=True)) == [["d"], ["b"], ["a"], ["c"]]
    assert list(pop_all(lookahead, 1, files_only=False)) == [["link"]]


def test_a_weight_bounds_what_is_handed_out_at_once(lookahead: Lookahead) -> None:
    total = 5 * ENTRY_WEIGHT + 4 * LARGE + 3
    assert lookahead.weight == total
    assert names(lookahead.pop(4 * LARGE, 64, files_only=True)) == ["d", "b"]
    assert lookahead.weight == total - 4 * LARGE - 2 * ENTRY_WEIGHT


def test_what_was_handed_out_can_be_put_in_again(lookahead: Lookahead) -> None:
    (largest,) = lookahead.pop(1, 64, files_only=True)
    count, weight = len(lookahead), lookahead.weight
    lookahead.add(largest)
    assert (len(lookahead), lookahead.weight) == (count + 1, weight + 3 * LARGE + ENTRY_WEIGHT)
    assert lookahead.pop(1, 64, files_only=True) == [largest]


def test_entries_of_few_directories_are_handed_out_at_once(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").touch()
    lookahead = Lookahead(tree.walk([str(tmp_path)]))
    lookahead.fill()
    assert len(lookahead.pop(LARGE, 3, files_only=True)) == 3


def test_a_walk_of_any_length_is_in_sight_in_part_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    status = file.stat()
    taken = 0

    def walk() -> Iterator[Found]:
        nonlocal taken
        while True:
            taken += 1
            yield Entry(Kind.FILE, str(taken), str(file), status)

    lookahead = Lookahead(walk())
    lookahead.fill()
    lookahead.fill()
    assert taken == len(lookahead) < 5000
    assert not lookahead.walk_ended


def test_standard_input_is_kept_apart(tmp_path: Path) -> None:
    lookahead = Lookahead(tree.walk(["-"], "stream"))
    lookahead.fill()
    assert lookahead.pop(LARGE, 64, files_only=False) == []
    assert (lookahead.has_stream, len(lookahead)) == (True, 1)
    stream = lookahead.pop_stream()
    assert stream
    assert stream.kind is Kind.STREAM
    assert lookahead.pop_stream() is None
    assert len(lookahead) == 0


def test_a_directory_is_handed_out_when_all_in_it_is_finished(lookahead: Lookahead) -> None:
    handed_out = lookahead.pop(100 * LARGE, 64, files_only=False)
    assert len(handed_out) == 5
    for entry in handed_out:
        assert len(lookahead) == 0
        lookahead.finished(entry.name)
    (directory,) = lookahead.pop(1, 64, files_only=False)
    assert isinstance(directory, Entry)
    assert directory.kind is Kind.DIRECTORY
    assert directory.parent is None


def test_a_directory_waits_for_everything_below_it() -> None:
    directories = Directories()
    outer, inner = (Entry(Kind.DIRECTORY, name, name) for name in ("a", "a/b"))
    for name in ("a/b/1", "a/b/2", "a/b"):
        directories.found(name)
    assert directories.finished("a/b/1") is None
    assert directories.left(inner) is None
    assert directories.left(outer) is None
    assert directories.finished("a/b/2") is inner
    assert directories.finished("a/b") is outer
