"""What every kind of store promises, whatever it is made of.

To hold a new kind of store to the contract, write its `Keeper` and list it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stores import commit, new_file, put, words
from xfer.errors import Code
from xfer.storage.contract import (
    Access,
    IfExists,
    Item,
    Metadata,
    NewDirectory,
    NewFile,
    NewSymlink,
    Store,
    StoreWriter,
)
from xfer.storage.local.store import LocalStore

Content = bytes | str | None
"""Of a file, of a symbolic link, of a directory."""


class Keeper(Protocol):
    """A place for a store, and a look at it from outside."""

    def open(self) -> AbstractContextManager[Store]: ...

    def visible(self) -> Mapping[str, Content]:
        """What anybody sees, by name."""

    def older(self, name: str) -> list[bytes]:
        """What a name held before, oldest first."""

    def hidden(self) -> list[str]:
        """What takes room but is neither visible nor an older version."""


class LocalKeeper:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> AbstractContextManager[Store]:
        return LocalStore(str(self.directory))

    def visible(self) -> Mapping[str, Content]:
        found: dict[str, Content] = {}
        for path, directories, files in os.walk(self.directory):
            for name in directories + files:
                below = Path(path, name)
                found[str(below.relative_to(self.directory))] = _content(below)
        return {name: content for name, content in found.items() if name.split("/")[0] != ".xfer"}

    def older(self, name: str) -> list[bytes]:
        kept = self.directory / ".xfer" / "versions" / name
        return [path.read_bytes() for path in sorted(kept.glob("*"))]

    def hidden(self) -> list[str]:
        return os.listdir(self.directory / ".xfer" / "partials")


def _content(path: Path) -> Content:
    if path.is_symlink():
        return os.readlink(path)
    return None if path.is_dir() else path.read_bytes()


KEEPERS: list[Callable[[Path], Keeper]] = [LocalKeeper]


@pytest.fixture(params=KEEPERS)
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Keeper:
    make: Callable[[Path], Keeper] = request.param
    return make(tmp_path)


@pytest.fixture
def store(keeper: Keeper) -> Iterator[Store]:
    with keeper.open() as opened:
        yield opened


@pytest.fixture
def writer(store: Store) -> Iterator[StoreWriter]:
    opened = store.open_writer("default")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param([], id="empty"),
        pytest.param([b""], id="empty write"),
        pytest.param([b"\0"], id="one byte"),
        pytest.param([b"a", b"", memoryview(b"bcd")[1:]], id="several writes"),
        pytest.param([bytes(range(256)) * 4096, b"tail"], id="over a megabyte"),
    ],
)
def test_a_committed_file_has_exactly_its_bytes(
    keeper: Keeper, writer: StoreWriter, writes: list[bytes | memoryview]
) -> None:
    partial = writer.create_partial()
    for data in writes:
        partial.write(data)
    partial.finish(Metadata())
    assert words(commit(writer, [NewFile("f", partial)])) == ["stored"]
    assert keeper.visible() == {"f": b"".join(writes)}
    assert keeper.hidden() == []


def test_nothing_is_visible_before_the_commit(keeper: Keeper, writer: StoreWriter) -> None:
    put(writer, "f", b"old")
    finished = new_file(writer, "f", b"new")
    unfinished = writer.create_partial()
    unfinished.write(b"half")
    assert keeper.visible() == {"f": b"old"}
    for partial in (finished.partial, unfinished):
        partial.discard()


@pytest.mark.parametrize("finished", [False, True])
def test_discard_leaves_nothing_and_may_be_repeated(
    keeper: Keeper, writer: StoreWriter, finished: bool
) -> None:
    partial = writer.create_partial()
    partial.write(b"data")
    if finished:
        partial.finish(Metadata())
    partial.discard()
    partial.discard()
    assert keeper.visible() == {}
    assert keeper.hidden() == []


def test_discard_after_the_commit_takes_nothing_away(keeper: Keeper, writer: StoreWriter) -> None:
    item = new_file(writer, "f", b"data")
    commit(writer, [item])
    item.partial.discard()
    assert keeper.visible() == {"f": b"data"}


@pytest.mark.parametrize("make", KEEPERS)
@settings(max_examples=20, deadline=None)
@given(contents=st.lists(st.sampled_from([b"", b"a", b"b", b"aa"]), min_size=1, max_size=6))
def test_no_content_is_lost_to_a_later_one(
    make: Callable[[Path], Keeper], contents: list[bytes]
) -> None:
    with TemporaryDirectory() as directory:
        keeper = make(Path(directory))
        with keeper.open() as store:
            writer = store.open_writer("default")
            outcomes = [put(writer, "d/f", content) for content in contents]
            writer.close()
        changes = [i for i in range(1, len(contents)) if contents[i] != contents[i - 1]]
        told = {0: "stored"} | dict.fromkeys(changes, "versioned")
        assert outcomes == [told.get(i, "unchanged") for i in range(len(contents))]
        assert keeper.visible() == {"d": None, "d/f": contents[-1]}
        assert keeper.older("d/f") == [contents[i - 1] for i in changes]


def test_results_come_in_the_order_of_the_batch(keeper: Keeper, writer: StoreWriter) -> None:
    put(writer, "same", b"1")
    put(writer, "other", b"1")
    put(writer, "file", b"1")
    commit(writer, [NewDirectory("taken", Metadata())])
    batch: list[Item] = [
        new_file(writer, "taken", b"2"),
        new_file(writer, "new", b"2"),
        new_file(writer, "same", b"1"),
        NewSymlink("link", "new"),
        new_file(writer, "file/below", b"2"),
        new_file(writer, "other", b"2"),
        NewDirectory("empty", Metadata()),
    ]
    expected = ["versioned", "stored", "unchanged", "stored", *2 * ["versioned"], "stored"]
    assert words(commit(writer, batch)) == expected
    assert keeper.visible() == {
        "taken": b"2",
        "file": None,
        "file/below": b"2",
        "new": b"2",
        "same": b"1",
        "link": "new",
        "other": b"2",
        "empty": None,
    }


def test_an_empty_batch_has_no_results(writer: StoreWriter) -> None:
    assert commit(writer, []) == []


@pytest.mark.parametrize("name", ["taken", "file/below", "file/far/below"])
def test_a_failed_store_leaves_nothing(keeper: Keeper, store: Store, name: str) -> None:
    with closing(store.open_writer("default", Access(if_exists=IfExists.REFUSE))) as writer:
        _require_that_a_failed_store_leaves_nothing(keeper, writer, name)


def _require_that_a_failed_store_leaves_nothing(
    keeper: Keeper, writer: StoreWriter, name: str
) -> None:
    put(writer, "file", b"1")
    commit(writer, [NewDirectory("taken", Metadata())])
    before = keeper.visible()
    assert put(writer, name, b"2") == Code.EXISTS
    assert words(commit(writer, [NewSymlink(name, "file")])) == [Code.EXISTS]
    assert keeper.visible() == before
    assert keeper.hidden() == []
    assert keeper.older("file") == []


def test_a_directory_is_made_with_its_parents_and_then_unchanged(
    keeper: Keeper, writer: StoreWriter
) -> None:
    item = NewDirectory("a/b", Metadata(0o755, 10**18))
    assert words(commit(writer, [item])) == ["stored"]
    assert words(commit(writer, [item])) == ["unchanged"]
    assert keeper.visible() == {"a": None, "a/b": None}


def test_only_what_is_not_there_in_any_form_is_absent(writer: StoreWriter) -> None:
    put(writer, "d/file", b"1")
    commit(writer, [NewSymlink("link", "nowhere"), NewSymlink("up", "d")])
    there = ["d", "d/file", "link", "link/x", "up/x", "d/file/below"]
    absent = ["x", "d/x", "x/y", "dd"]
    assert writer.absent([*there, *absent]) == absent


@pytest.mark.parametrize("target", ["f", "nowhere", "../..", "/", "caf\udce9", "t" * 4095])
def test_a_symlink_is_stored_as_it_is(keeper: Keeper, writer: StoreWriter, target: str) -> None:
    put(writer, "f", b"data")
    outcomes = [words(commit(writer, [NewSymlink("d/link", target)])) for _ in range(2)]
    assert outcomes == [["stored"], ["unchanged"]]
    assert keeper.visible() == {"d": None, "d/link": target, "f": b"data"}


def test_many_files_in_one_batch_all_arrive(keeper: Keeper, writer: StoreWriter) -> None:
    contents = {f"d{n % 7}/{n}": b"%d" % n for n in range(100)}
    items = [new_file(writer, name, content) for name, content in contents.items()]
    assert set(words(commit(writer, items))) == {"stored"}
    assert {n: c for n, c in keeper.visible().items() if c is not None} == contents


def test_every_content_with_a_receipt_survives_senders_at_once(
    keeper: Keeper, store: Store
) -> None:
    senders, rounds = 6, 5
    start = threading.Barrier(senders)

    def send(sender: int) -> set[str]:
        writer = store.open_writer("default")
        told: set[str] = set()
        for turn in range(rounds):
            content = b"%d %d" % (sender, turn)
            below = f"new{turn}/{'d/' * 60}{sender}"  # all make the same directories at once
            shared = ["all", "d/all", f"own/{sender}"]
            batch = [new_file(writer, name, content) for name in (below, *shared)]
            start.wait(10)
            told.update(words(commit(writer, batch)))
        writer.close()
        return told

    with ThreadPoolExecutor(senders) as threads:
        told = set().union(*threads.map(send, range(senders)))
    assert told == {"stored", "versioned"}
    sent = {b"%d %d" % (s, t) for s in range(senders) for t in range(rounds)}
    visible = keeper.visible()
    for name in ("all", "d/all"):
        kept = [visible[name], *keeper.older(name)]
        assert sorted(map(str, kept)) == sorted(map(str, sent))
    assert [visible[f"own/{s}"] for s in range(senders)] == [
        b"%d %d" % (s, rounds - 1) for s in range(senders)
    ]
    assert keeper.hidden() == []
