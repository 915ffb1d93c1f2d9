"""A commit: nothing is named before its bytes are on disk, nothing told before its name is.

Power cuts are judged by the order of system calls (strace); kills and failing
flushes are made by the kernel, through strace's fault injection.
"""

import itertools
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.apart import Contents, commit_apart, strace
from tests.support.local_stores import (
    KEPT,
    MTIME,
    mode,
    open_descriptors,
    partials,
    put_into,
    versions,
)
from tests.support.stores import commit, new_file, put, words
from xfer.errors import Code
from xfer.storage.contract import Access, IfExists, Metadata, NewDirectory, NewSymlink, StoreWriter
from xfer.storage.local.store import LocalStore


def test_a_directory_keeps_its_time_though_its_files_came_in_the_same_batch(
    root: Path, writer: StoreWriter
) -> None:
    file = new_file(writer, "d/f", b"data")
    commit(writer, [file, NewDirectory("d", Metadata(0o700, MTIME))])
    assert (root / "d").stat().st_mtime_ns == MTIME
    assert mode(root / "d") == 0o700


def test_commits_and_failures_leak_no_descriptor(root: Path, store: LocalStore) -> None:
    (root / "taken").mkdir()
    (root / "link").symlink_to("taken")
    before = open_descriptors()
    for turn in range(20):
        writer = store.open_writer("default", Access(if_exists=IfExists.REFUSE))
        content = b"%d" % turn
        shutil.rmtree(root / "a", ignore_errors=True)
        put(writer, "a/b/f", content)
        files = [new_file(writer, n, content) for n in ("a/b/f", "taken", "link/f", "a/b/f/g")]
        links = [NewSymlink("a/l", f"{turn}"), NewSymlink("link/l", "x")]
        told = words(commit(writer, [*files, *links, NewDirectory("a", KEPT)]))
        assert (told[0], told.count(Code.EXISTS)) == ("unchanged", 4)
        new_file(writer, "g", content).partial.discard()
        writer.close()
    assert open_descriptors() == before
    assert partials(root) == []


def events(root: Path, trace: Path) -> list[str]:
    """What matters for a power cut, in order, without repetitions in a row."""
    top = re.escape(str(root))
    state = rf"\d+<{top}/\.xfer"
    kinds = {
        rf"pwrite64\({state}/partials/": "write",
        rf"(fsync|fdatasync)\({state}/partials/": "flush data",
        rf"(fsync|fdatasync)\({state}/versions": "flush version",
        rf"syncfs\(\d+<{top}>": "flush all",
        rf"(fsync|fdatasync)\(\d+<{top}(/(?!\.xfer)[^>]*)?>": "flush name",
        rf"linkat\({state}/partials>.*, \d+<{top}.* = 0": "install",
        rf"symlinkat\(.*, \d+<{top}>": "install",
        rf"renameat2?\({state}/partials>.*, \d+<{top}": "install",
        rf"linkat\(\d+<{top}.*, {state}/versions": "keep version",
        r"write\(1<": "receipt",
    }
    lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    found = [next((k for p, k in kinds.items() if re.match(p, line)), "") for line in lines]
    return [kind for kind, _ in itertools.groupby(filter(None, found))]


MANY: Contents = {f"many{n}": "data" for n in range(9)}
LINKS = "flush name or all"


@pytest.mark.parametrize(
    ("contents", "order"),
    [
        pytest.param(
            {"new": "data"},
            ["write", "flush data", "install", "flush name", "receipt"],
            id="new",
        ),
        pytest.param(
            {"p/q/new": "data"},
            ["write", "flush data", "install", "flush name", "receipt"],
            id="new parents",
        ),
        pytest.param(
            MANY, ["write", "flush all", "install", "flush name", "receipt"], id="many at once"
        ),
        pytest.param(
            {"old": "data"},
            [
                "write",
                "flush data",
                "keep version",
                "flush version",
                "install",
                "flush name",
                "receipt",
            ],
            id="versioned",
        ),
        # What a link holds is not flushed with its directory everywhere, see `filesystems`.
        pytest.param({"link": ["new"]}, ["install", LINKS, "receipt"], id="symlink"),
        pytest.param({"d": []}, ["flush name", "receipt"], id="directory"),
    ],
)
def test_nothing_is_named_before_its_bytes_nor_told_before_its_name(
    tmp_path: Path, root: Path, contents: Contents, order: list[str]
) -> None:
    put_into(root, IfExists.VERSION, "old", b"older")
    trace = tmp_path / "trace"
    commit_apart(root, contents, strace(trace))
    at_start = "flush all"  # whatever a receiver that was killed may have left
    told = events(root, trace)
    if LINKS in order:
        assert told[2] in ("flush name", "flush all")
        told[2] = LINKS
    assert told == [at_start, *order]


def test_every_new_directory_on_the_way_is_flushed_before_the_receipt(
    tmp_path: Path, root: Path
) -> None:
    LocalStore(str(root)).close()
    trace = tmp_path / "trace"
    commit_apart(root, {"p/q/r": "data"}, strace(trace))
    _, _, after_install = trace.read_text().partition(" linkat(")
    assert {root, root / "p", root / "p/q"} <= flushed_before_receipt(after_install)


def flushed_before_receipt(trace: str) -> set[Path]:
    before, receipt, _ = trace.partition("write(1<")
    assert receipt
    return {Path(path) for path in re.findall(r"sync\(\d+<(.*)>\)", before)}


def test_a_receipt_covers_the_parents_that_a_killed_receiver_made(
    tmp_path: Path, root: Path
) -> None:
    LocalStore(str(root)).close()
    kill = strace(tmp_path / "killed", "?fsync:signal=KILL:when=2")
    assert commit_apart(root, {"p/f": "data"}, kill) == []
    assert (root / "p/f").exists()
    trace = tmp_path / "trace"
    assert commit_apart(root, {"p/f": "data"}, strace(trace)) == ["unchanged"]
    before, receipt, _ = trace.read_text().partition("write(1<")
    assert receipt
    assert re.search(rf"syncfs\(\d+<{re.escape(str(root))}>\) += 0", before)


def test_what_was_there_already_is_on_disk_before_it_is_called_unchanged(
    tmp_path: Path, root: Path
) -> None:
    put_into(root, IfExists.VERSION, "f", b"data")
    trace = tmp_path / "trace"
    assert commit_apart(root, {"f": "data"}, strace(trace)) == ["unchanged"]
    assert {root / "f", root} <= flushed_before_receipt(trace.read_text())


@pytest.mark.parametrize(
    ("fault", "shown", "kept"),
    [
        pytest.param("?fsync:error=EIO:when=1", "old", 0, id="flush of the bytes"),
        pytest.param("?fsync:error=EIO:when=2", "old", 1, id="flush of the version"),
        pytest.param("?fsync:error=EIO:when=4", "new", 1, id="flush of the name"),
        pytest.param("?linkat:error=EIO", "old", 0, id="link of the version"),
        pytest.param("?rename,?renameat,?renameat2:error=EIO", "old", 1, id="replacing"),
        pytest.param("?linkat:error=EPERM ?sendfile:error=EIO", "old", 0, id="copy of the version"),
    ],
)
def test_a_failing_disk_gets_no_receipt_and_loses_nothing(
    tmp_path: Path, root: Path, fault: str, shown: str, kept: int
) -> None:
    put_into(root, IfExists.VERSION, "f", b"old")
    told = commit_apart(root, {"f": "new"}, strace(tmp_path / "trace", *fault.split()))
    assert told == [Code.STORAGE]
    assert (root / "f").read_text() == shown
    assert [path.read_text() for path in versions(root, "f")] == ["old"] * kept
    assert partials(root) == []


def test_one_failed_flush_refuses_the_whole_batch(tmp_path: Path, root: Path) -> None:
    LocalStore(str(root)).close()
    told = commit_apart(root, MANY, strace(tmp_path / "trace", "?syncfs:error=ENOSPC:when=2"))
    assert told == [Code.NO_SPACE] * len(MANY)
    assert (os.listdir(root), partials(root)) == ([".xfer"], [])


AFTER: Contents = {"old": "new content", "d/new": "new content", "link": ["old"]}


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_kill_at_any_step_leaves_each_name_old_or_new_and_loses_nothing(
    tmp_path: Path, stride: int
) -> None:
    def attempt(number: int, *inject: str) -> tuple[Path, Path]:
        directory, trace = tmp_path / f"dir{number}", tmp_path / f"trace{number}"
        directory.mkdir()
        put_into(directory, IfExists.VERSION, "old", b"old content")
        (directory / "link").symlink_to("before")
        told = commit_apart(directory, AFTER, strace(trace, *inject))
        assert bool(told) == (not inject)
        return directory, trace

    _, trace = attempt(0)
    every = [f"{call}:signal=KILL:when={n}" for call, n in _occurrences(trace)]
    assert len(every) > 10
    points = every[::-stride]  # the last one, at which all is done, among them
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        killed = list(threads.map(attempt, range(1, len(points) + 1), points))
    assert {(directory / "old").read_text() for directory, _ in killed} == {
        "old content",
        "new content",
    }
    for directory, _ in killed:
        _require_old_or_new(directory)
        _require_that_a_second_run_finishes(directory)


def _occurrences(trace: Path) -> list[tuple[str, int]]:
    """Every system call up to the receipt, and which of its kind it was.

    What comes after it is not the store's: coverage, for one, writes its data then.
    """
    until_told, _, _ = trace.read_text().partition("write(1<")
    calls = re.findall(r"^\d+ +([a-z0-9]+)\(", until_told, re.MULTILINE)
    return [(call, calls[: n + 1].count(call)) for n, call in enumerate(calls)]


def _require_old_or_new(directory: Path) -> None:
    new = directory / "d/new"
    assert not new.exists() or new.read_text() == "new content"
    assert os.readlink(directory / "link") in ("before", "old")
    shown = (directory / "old").read_text()
    assert shown in ("old content", "new content")
    assert shown == "old content" or versions(directory, "old")
    assert {path.read_text() for path in versions(directory, "old")} <= {"old content"}


def _require_that_a_second_run_finishes(directory: Path) -> None:
    with LocalStore(str(directory)) as store:
        assert partials(directory) == []
        writer = store.open_writer("default")
        for name in ("old", "d/new"):
            assert put(writer, name, b"new content") in ("stored", "versioned", "unchanged")
        commit(writer, [NewSymlink("link", "old")])
        writer.close()
    assert (directory / "old").read_text() == (directory / "d/new").read_text() == "new content"
    assert os.readlink(directory / "link") == "old"
    assert {path.read_text() for path in versions(directory, "old")} == {"old content"}
