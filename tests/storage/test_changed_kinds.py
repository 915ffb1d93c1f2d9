"""A file that became a directory, or the reverse: the new one is shown, the older one kept."""

import itertools
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.support.apart import Contents, commit_apart, strace
from tests.support.limited_stores import code, limited, take
from tests.support.local_stores import KEPT, MTIME, mode, partials, put_into, versions
from tests.support.processes import unprivileged
from tests.support.stores import commit, new_file, put, words
from tests.support.trees import everything_below
from xfer.errors import Code
from xfer.storage.contract import (
    Access,
    IfExists,
    Item,
    Limits,
    Metadata,
    NewDirectory,
    NewSymlink,
    StoreWriter,
)
from xfer.storage.local.store import LocalStore


def make_tree(root: Path) -> None:
    (root / "d/below").mkdir(parents=True)
    (root / "d/below/f").write_bytes(b"in a directory")
    (root / "d/link").symlink_to("below")
    (root / "d").chmod(0o750)


def require_kept_tree(root: Path) -> None:
    (kept,) = versions(root, "d")
    assert (kept / "below/f").read_bytes() == b"in a directory"
    assert [os.readlink(kept / "link"), mode(kept)] == ["below", 0o750]


@pytest.mark.parametrize("policy", [IfExists.VERSION, IfExists.REPLACE])
def test_a_directory_is_kept_with_all_that_it_holds_where_a_file_comes(
    root: Path, policy: IfExists
) -> None:
    make_tree(root)
    assert put_into(root, policy, "d", b"a file") == "versioned"
    assert (root / "d").read_bytes() == b"a file"
    require_kept_tree(root)
    assert partials(root) == []


def test_so_it_is_where_a_link_comes(root: Path, writer: StoreWriter) -> None:
    make_tree(root)
    assert words(commit(writer, [NewSymlink("d", "somewhere")])) == ["versioned"]
    assert os.readlink(root / "d") == "somewhere"
    require_kept_tree(root)


@pytest.mark.parametrize(
    "come",
    [
        pytest.param(lambda writer: new_file(writer, "f/below/g", b"new"), id="a file below it"),
        pytest.param(lambda _: NewDirectory("f", KEPT), id="a directory"),
        pytest.param(lambda _: NewSymlink("f/link", "x"), id="a link below it"),
    ],
)
def test_a_file_is_kept_where_a_directory_comes(
    root: Path, writer: StoreWriter, come: Callable[[StoreWriter], Item]
) -> None:
    put(writer, "f", b"a file", Metadata(0o640, MTIME))
    assert words(commit(writer, [come(writer)])) == ["versioned"]
    assert (root / "f").is_dir()
    (kept,) = versions(root, "f")
    assert [kept.read_bytes(), mode(kept)] == [b"a file", 0o640]
    assert partials(root) == []


def test_only_the_first_of_many_below_it_says_that_something_is_kept(
    root: Path, writer: StoreWriter
) -> None:
    put(writer, "f", b"a file")
    names = ["f/a", "f/b/c", "f/d"]
    files = [new_file(writer, name, b"new") for name in names]
    assert words(commit(writer, [*files, NewDirectory("f", KEPT)])) == [
        "versioned",
        *3 * ["stored"],
    ]
    assert all((root / name).read_bytes() == b"new" for name in names)
    assert mode(root / "f") == 0o755


def test_with_replace_a_file_is_gone_where_a_directory_comes(root: Path) -> None:
    put_into(root, IfExists.REPLACE, "f", b"a file")
    assert put_into(root, IfExists.REPLACE, "f/below", b"new") == "stored"
    assert (versions(root, "f"), partials(root)) == ([], [])


def test_to_and_fro_keeps_every_one(root: Path, writer: StoreWriter) -> None:
    outcomes = [put(writer, name, name.encode()) for name in ("x", "x/y", "x", "x/y", "x/y/z")]
    assert outcomes == ["stored", *4 * ["versioned"]]
    kept = [path for path in versions(root, "x") if path.name != "y"]
    assert [path.is_dir() for path in kept] == [False, True, False]
    assert (kept[1] / "y").read_bytes() == b"x/y"
    assert [path.read_bytes() for path in versions(root, "x/y") if path.is_file()] == [b"x/y"]


def test_a_file_in_place_of_a_directory_that_the_same_batch_fills_is_refused(
    root: Path, writer: StoreWriter
) -> None:
    make_tree(root)
    items = [new_file(writer, "d/new", b"1"), new_file(writer, "d", b"2")]
    assert words(commit(writer, items)) == ["stored", Code.EXISTS]
    assert (root / "d/new").read_bytes() == b"1"


@pytest.mark.parametrize("error", ["EINVAL", "ENOSYS"])
def test_where_names_cannot_be_exchanged_nothing_is_lost_either(
    tmp_path: Path, root: Path, error: str
) -> None:
    make_tree(root)
    (root / "f").write_bytes(b"a file")
    after: Contents = {"d": "a file now", "f/g": "below"}
    told = commit_apart(root, after, strace(tmp_path / "trace", f"?renameat2:error={error}"))
    assert told == ["versioned", "versioned"]
    assert [(root / name).read_text() for name in after] == ["a file now", "below"]
    require_kept_tree(root)
    assert [path.read_bytes() for path in versions(root, "f")] == [b"a file"]


def test_a_move_that_fails_leaves_all_as_it_was(tmp_path: Path, root: Path) -> None:
    make_tree(root)
    (root / "f").write_bytes(b"a file")
    before = everything_below(root)
    after: Contents = {"d": "a file now", "f/g": "below"}
    told = commit_apart(root, after, strace(tmp_path / "trace", "?renameat2:error=EIO"))
    assert told == [Code.STORAGE, Code.STORAGE]
    shown = [path for path in everything_below(root) if ".xfer" not in path]
    assert shown == before
    assert partials(root) == []
    assert versions(root, "d") == []


def test_a_directory_that_its_owner_may_not_write_to_is_moved_and_keeps_its_mode(
    root: Path,
) -> None:
    (root / "top/d").mkdir(parents=True)
    (root / "top/d/f").write_bytes(b"in a directory")
    for path in (root / "top/d", root / "top"):
        path.chmod(0o555)
    assert commit_apart(root, {"top/d": "a file"}, unprivileged()) == ["versioned"]
    (kept,) = versions(root, "top/d")
    assert (kept / "f").read_bytes() == b"in a directory"
    assert [mode(kept), mode(root / "top")] == [0o555, 0o555]


def test_a_quota_counts_what_was_moved_and_frees_what_was_replaced(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(quota=100)) as writer:
        assert code(take(writer, "d/f", 60)) == "stored"
        assert code(take(writer, "d", 30)) == "versioned"
        assert code(take(writer, "g", 11)) == Code.QUOTA
        assert code(take(writer, "g", 10)) == "stored"
    with limited(tmp_path, Limits(quota=100), if_exists=IfExists.REPLACE) as writer:
        assert code(take(writer, "more", 1)) == Code.QUOTA
        assert code(take(writer, "d/empty", 0)) == "stored"
        assert code(take(writer, "more", 30)) == "stored"
        assert code(take(writer, "yet more", 1)) == Code.QUOTA


def test_the_directory_of_a_key_is_not_replaced_for_it(root: Path) -> None:
    (root / "ann").write_bytes(b"the owner's")
    with LocalStore(str(root)) as store, closing(store.open_writer("a", Access("ann"))) as writer:
        assert put(writer, "f", b"new") == Code.EXISTS
    assert (root / "ann").read_bytes() == b"the owner's"


# Kills

AFTER: Final[Contents] = {"d": "a file now", "f/g": "below"}


def test_a_kill_at_any_step_shows_old_or_new_and_loses_nothing(tmp_path: Path) -> None:
    def attempt(number: int, *inject: str) -> tuple[Path, Path]:
        root, trace = tmp_path / f"dir{number}", tmp_path / f"trace{number}"
        root.mkdir()
        put_into(root, IfExists.VERSION, "f", b"a file")
        make_tree(root)
        told = commit_apart(root, AFTER, strace(trace, *inject))
        assert bool(told) == (not inject)
        return root, trace

    root, trace = attempt(0)
    until_told, _, _ = trace.read_text().partition("write(1<")
    calls = re.findall(r"^\d+ +([a-z0-9]+)\(", until_told, re.MULTILINE)
    assert calls.count("renameat2") == 2
    indices = [calls[: n + 1].count(call) for n, call in enumerate(calls)]
    kills = [f"{call}:signal=KILL:when={n}" for call, n in zip(calls, indices, strict=True)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        killed = [root for root, _ in threads.map(attempt, itertools.count(1), kills)]
    assert {(root / "d").is_dir() for root in killed} == {True, False}
    for root in killed:
        require_old_or_new(root)
        with LocalStore(str(root)):
            assert partials(root) == []
        for name, content in AFTER.items():
            assert put_into(root, IfExists.VERSION, name, str(content).encode()) != Code.EXISTS
        require_old_or_new(root)
        assert [(root / name).read_text() for name in AFTER] == ["a file now", "below"]


def require_old_or_new(root: Path) -> None:
    trees = [path for path in [root / "d", *versions(root, "d")] if path.is_dir()]
    assert [(path / "below/f").read_bytes() for path in trees] == [b"in a directory"]
    files = [path for path in [root / "d", *versions(root, "d")] if path.is_file()]
    assert {path.read_text() for path in files} <= {"a file now"}
    shown = root / "f"
    assert shown.is_dir() or shown.read_bytes() == b"a file"
    assert shown.is_file() or versions(root, "f")[0].read_bytes() == b"a file"
