"""Limits that the receiver's owner sets: nobody gets past them, and nothing else suffers."""

import contextlib
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.limited_stores import SIZE, code, limited, take
from tests.support.stores import commit
from tests.support.trees import bytes_below
from xfer.errors import Code, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import (
    Access,
    IfExists,
    Limits,
    Metadata,
    NewFile,
    NewSymlink,
    Partial,
    StoreWriter,
)
from xfer.storage.local.store import LocalStore

# A quota


def test_a_quota_is_exact_to_the_byte(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(quota=2 * SIZE)) as writer:
        assert code(take(writer, "a")) == "stored"
        assert code(take(writer, "b", SIZE + 1)) == Code.QUOTA
        assert code(take(writer, "b")) == "stored"
        assert code(take(writer, "c", 1)) == Code.QUOTA
        assert code(take(writer, "empty", 0)) == "stored"
    assert sorted(os.listdir(tmp_path)) == [".xfer", "a", "b", "empty"]
    assert os.listdir(tmp_path / ".xfer" / "partials") == []


def test_what_is_replaced_for_good_counts_no_more(tmp_path: Path) -> None:
    limits = Limits(quota=3 * SIZE)
    with limited(tmp_path, limits, if_exists=IfExists.REPLACE) as writer:
        take(writer, "a", 2 * SIZE)
        assert code(take(writer, "a", SIZE)) == "stored"
        assert code(take(writer, "b", 2 * SIZE)) == "stored"
        assert code(take(writer, "c", 1)) == Code.QUOTA


def test_the_same_content_again_costs_nothing(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(quota=3 * SIZE)) as writer:
        assert [code(take(writer, "a")) for _ in range(5)] == ["stored", *4 * ["unchanged"]]
        assert code(take(writer, "b", 2 * SIZE)) == "stored"


def test_what_was_interrupted_counts_and_can_be_finished(tmp_path: Path) -> None:
    for _ in range(2):
        with limited(tmp_path, Limits(quota=2 * SIZE)) as writer:
            half = writer.find_partial("a") or writer.create_partial("a", 2 * SIZE)
            half.write(bytes(SIZE // 2))
            half.keep()
            assert code(take(writer, "b", 3 * SIZE // 2 + 1)) == Code.QUOTA
    with limited(tmp_path, Limits(quota=2 * SIZE)) as writer:
        writer.require("what is there has been counted then", 1)
        whole = writer.find_partial("a")
        assert whole
        whole.reserve(2 * SIZE)
        with pytest.raises(Refused, match="quota"):
            writer.create_partial("b", 1)
        whole.write(bytes(SIZE))
        whole.finish(Metadata())
        assert commit(writer, [NewFile("a", whole)]) == [Outcome.STORED]
        assert code(take(writer, "b", 1)) == Code.QUOTA


def test_what_was_discarded_gives_its_room_back(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(quota=SIZE)) as writer:
        for _ in range(3):
            partial = writer.create_partial("a", SIZE)
            partial.write(bytes(SIZE))
            partial.discard()
        assert code(take(writer, "b")) == "stored"


def test_room_is_promised_once_however_many_ask(tmp_path: Path) -> None:
    fit = 7
    barrier = threading.Barrier(20)
    with LocalStore(str(tmp_path), limits=Limits(quota=fit * SIZE + SIZE // 2)) as store:

        def session(number: int) -> str:
            with contextlib.closing(store.open_writer("default")) as writer:
                barrier.wait()
                return code(take(writer, f"{number}"))

        with ThreadPoolExecutor(20) as pool:
            outcomes = list(pool.map(session, range(20)))
    assert sorted(outcomes) == sorted((20 - fit) * ["quota"] + fit * ["stored"])
    assert bytes_below(tmp_path) == fit * SIZE


@pytest.mark.parametrize("if_exists", IfExists)
def test_the_books_are_right_to_the_byte_after_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, if_exists: IfExists
) -> None:
    """Without a second look at the disk, which would put right whatever is wrong."""
    monkeypatch.setattr("xfer.storage.directory_usage._FRESH_SECONDS", 1e9)
    quota = 10_000_000
    with LocalStore(str(tmp_path), if_exists, limits=Limits(quota=quota)) as store:

        def session(number: int) -> None:
            chance = random.Random(number)
            with contextlib.closing(store.open_writer(f"{number % 3}")) as writer:
                writer.require("what is there has been counted then", 1)
                for _ in range(60):
                    with contextlib.suppress(Refused):  # busy: another one has the partial
                        do_something(writer, chance)

        # What is replaced right after it was stored may have its partial's name still, and
        # counts until the next look then.
        with ThreadPoolExecutor(1 if if_exists is IfExists.REPLACE else 6) as pool:
            list(pool.map(session, range(6)))
        left = quota - bytes_below(tmp_path)
        with contextlib.closing(store.open_writer("default")) as writer:
            assert code(take(writer, "too much", left + 1)) == Code.QUOTA
            assert code(take(writer, "just right", left)) == "stored"


def do_something(writer: StoreWriter, chance: random.Random) -> None:
    name, size = f"{chance.randrange(5)}/{chance.randrange(3)}", chance.randrange(1, 5000)
    fill = bytes([chance.randrange(3)])
    match chance.randrange(5):
        case 0 | 1:
            take(writer, name, size, fill)
        case 2:
            commit(writer, [NewSymlink(name, f"{size}")])
        case 3:
            partial = writer.create_partial(name, size)
            partial.write(fill * (size // 2))
            partial.keep()
        case 4 if kept := writer.find_partial(name):
            kept.reserve(kept.size + size)
            kept.write(fill * size)
            kept.finish(Metadata())
            chance.choice([kept.discard, kept.keep, committing(writer, name, kept)])()


def committing(writer: StoreWriter, name: str, partial: Partial) -> Callable[[], object]:
    return lambda: commit(writer, [NewFile(name, partial)])


# Directories of their own


def test_each_directory_has_a_quota_of_its_own(tmp_path: Path) -> None:
    with LocalStore(str(tmp_path), limits=Limits(quota=10 * SIZE)) as store:
        alice = store.open_writer("alice", Access("alice", quota=SIZE))
        bob = store.open_writer("bob", Access("deep/bob"))
        everybody = store.open_writer("default", Access(quota=3 * SIZE))
        assert code(take(alice, "a")) == "stored"
        assert code(take(alice, "b", 1)) == Code.QUOTA
        assert code(take(bob, "a")) == "stored"
        assert code(take(everybody, "alice/b")) == "stored"  # hers is full, but it is not hers
        assert code(take(everybody, "c", 1)) == Code.QUOTA
        assert code(take(alice, "c", 1)) == Code.QUOTA
        assert code(take(alice, "empty", 0)) == "stored"
        for writer in (alice, bob, everybody):
            writer.close()
    assert (tmp_path / "deep" / "bob" / "a").exists()


def test_a_subtree_is_all_that_its_sender_sees(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of somebody else")
    with LocalStore(str(tmp_path)) as store:
        alice = store.open_writer("alice", Access("alice"))
        bob = store.open_writer("bob", Access("bob"))
        assert alice.statuses(["secret"]) == [None]
        assert alice.open_stored("secret") is None
        take(alice, "a")
        assert bob.statuses(["a"]) == [None]
        assert alice.statuses(["a"]) != [None]
        assert code(take(bob, "a", 1)) == "stored"
        assert code(take(alice, "a", 2)) == "versioned"
        half = alice.create_partial("half", 10)
        half.write(b"abc")
        half.keep()
        assert bob.find_partial("half") is None
        alice.close()
        bob.close()
    versions = tmp_path / ".xfer" / "versions"
    assert [path.name for path in versions.iterdir()] == ["alice"]
    assert (tmp_path / "alice" / "a").stat().st_size == 2


def test_a_directory_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    store_directory = tmp_path / "store"
    store_directory.mkdir()
    (store_directory / "alice").symlink_to(outside)
    with limited(store_directory, Limits(), access="alice") as writer:
        assert code(take(writer, "a")) == Code.EXISTS
    assert os.listdir(outside) == []


# Other limits


def test_a_session_creates_so_many_names_and_no_more(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(max_files=4)) as writer:
        writer.count("a/b/c")
        writer.count("a/b/d")
        writer.count("a/b/c")
        for name in ("e", "a/x/y"):
            with pytest.raises(Refused, match="up to 4") as refused:
                writer.count(name)
            assert refused.value.code == Code.QUOTA
        writer.count("a")


def test_so_much_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * SIZE
    monkeypatch.setattr("xfer.storage.local.usage.LocalDisk.free", lambda _: free)
    with limited(tmp_path, Limits(min_free=8 * SIZE)) as writer:
        first = writer.create_partial("a", 2 * SIZE)
        assert code(take(writer, "b", 1)) == Code.NO_SPACE
        first.write(bytes(SIZE))
        free -= SIZE
        assert code(take(writer, "b", 1)) == Code.NO_SPACE
        first.discard()
        free += SIZE
        assert code(take(writer, "b", 2 * SIZE)) == "stored"
        assert code(take(writer, "c", 2 * SIZE + 1)) == Code.NO_SPACE
