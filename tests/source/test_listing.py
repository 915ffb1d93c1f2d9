"""What a store holds, as lines, from real directories."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.local_stores import MTIME, open_descriptors, put_into
from xfer.source import directory_sizes, in_order
from xfer.source.directory_sizes import Unlisted
from xfer.source.listing import Found, Listed, Lister, Wanted
from xfer.storage.contract import IfExists
from xfer.storage.local.reader import reading
from xfer.storage.reading import HeldKind


def listed(root: Path, *names: str, **wanted: Any) -> list[Found]:
    with reading(str(root)) as reader:
        lister = Lister(reader, Wanted(**wanted), lambda name, done: None)
        return [line for name in names or [""] for line in lister.lines(name)]


def brief(found: Sequence[Found]) -> list[tuple[str, str, int]]:
    return [
        (line.name, line.kind.value, line.size)
        if isinstance(line, Listed)
        else (line.name, line.error.code, -1)
        for line in found
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, size in (("docs/a.txt", 12), ("docs/old/b", 5), ("docs/old/er/c", 7), ("z", 1)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    (tmp_path / "docs/link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "docs/fifo")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_name_is_a_line_and_a_directory_what_is_in_it(root: Path) -> None:
    os.utime(root / "docs/a.txt", ns=(MTIME, MTIME))
    (root / "docs/a.txt").chmod(0o640)
    assert listed(root, "docs/a.txt") == [
        Listed("docs/a.txt", HeldKind.FILE, 12, MTIME, 0o640),
    ]
    assert brief(listed(root, "docs")) == [
        ("docs/a.txt", "file", 12),
        ("docs/fifo", "other", 0),
        ("docs/link", "symlink", 0),
        ("docs/old", "directory", 12),
    ]
    assert brief(listed(root)) == [
        ("docs", "directory", 24),
        ("empty", "directory", 0),
        ("z", "file", 1),
    ]
    (link,) = listed(root, "docs/link")
    assert isinstance(link, Listed)
    assert link.target == "/nowhere"
    assert listed(root, "empty") == []


def test_itself_is_a_directory_and_nothing_in_it(root: Path) -> None:
    assert brief(listed(root, "docs", "z", itself=True)) == [
        ("docs", "directory", 24),
        ("z", "file", 1),
    ]
    assert brief(listed(root, itself=True)) == [(".", "directory", 25)]


def test_recursive_is_all_below_in_order_with_each_sum(root: Path) -> None:
    assert brief(listed(root, recursive=True)) == [
        ("docs", "directory", 24),
        ("docs/a.txt", "file", 12),
        ("docs/fifo", "other", 0),
        ("docs/link", "symlink", 0),
        ("docs/old", "directory", 12),
        ("docs/old/b", "file", 5),
        ("docs/old/er", "directory", 7),
        ("docs/old/er/c", "file", 7),
        ("empty", "directory", 0),
        ("z", "file", 1),
    ]


def test_nothing_of_a_name_is_said_of_that_name_only(root: Path) -> None:
    found = listed(root, "no", "z", "docs/a.txt/below", "docs/link/below")
    assert brief(found) == [
        ("no", "not_found", -1),
        ("z", "file", 1),
        ("docs/a.txt/below", "not_found", -1),
        ("docs/link/below", "not_found", -1),
    ]


def test_links_are_not_entered_and_the_state_directory_is_not_there(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret").write_bytes(bytes(1000))
    (root / "out").symlink_to(outside)
    (root / ".xfer").mkdir()
    (root / ".xfer/x").write_bytes(bytes(1000))
    (root / "docs/.xfer").write_bytes(bytes(2))  # anybody's
    assert ("out", "symlink", 0) in brief(listed(root))
    assert brief(listed(root, "out/secret")) == [("out/secret", "not_found", -1)]
    names = [line.name for line in listed(root, recursive=True)]
    assert "docs/.xfer" in names
    assert not [name for name in names if name.startswith((".xfer", "out/"))]
    assert brief(listed(root, itself=True)) == [(".", "directory", 27)]
    assert brief(listed(root, ".xfer")) == [(".xfer", "not_found", -1)]


# Older contents


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """docs/a twice over, docs/sub a directory that became a file, gone/x removed by hand."""
    for number, name in enumerate(["docs/a", "docs/a", "docs/a", "gone/x", "gone/x"]):
        put_into(tmp_path, IfExists.VERSION, name, bytes(number + 1))
    put_into(tmp_path, IfExists.VERSION, "docs/sub/deep/f", bytes(50))
    put_into(tmp_path, IfExists.VERSION, "docs/sub/.xfer/f", bytes(3))
    put_into(tmp_path, IfExists.VERSION, "docs/sub", bytes(9))
    (tmp_path / "gone/x").unlink()
    (tmp_path / "gone").rmdir()
    put_into(tmp_path, IfExists.VERSION, "b", b"never replaced")
    return tmp_path


def test_older_contents_are_listed_with_the_time_they_were_replaced(history: Path) -> None:
    found = listed(history, older=True)
    assert brief(found) == [
        ("docs/a", "file", 1),
        ("docs/a", "file", 2),
        ("docs/sub", "directory", 53),
        ("gone/x", "file", 4),
    ]
    for line in found:
        assert isinstance(line, Listed)
        assert (history / ".xfer/versions" / line.name / line.replaced).exists()
    stamps = [line.replaced for line in found if isinstance(line, Listed)]
    assert stamps[0] < stamps[1]
    assert brief(listed(history, "gone", "docs/a", older=True)) == [
        ("gone/x", "file", 4),
        ("docs/a", "file", 1),
        ("docs/a", "file", 2),
    ]


def test_what_an_older_directory_held_is_listed_if_asked_for(history: Path) -> None:
    found = listed(history, "docs/sub", older=True, recursive=True)
    assert brief(found) == [
        ("docs/sub", "directory", 53),
        ("docs/sub/.xfer", "directory", 3),
        ("docs/sub/.xfer/f", "file", 3),
        ("docs/sub/deep", "directory", 50),
        ("docs/sub/deep/f", "file", 50),
    ]
    assert len({line.replaced for line in found if isinstance(line, Listed)}) == 1


def test_older_contents_of_a_directory_itself_are_those_of_no_name_below(history: Path) -> None:
    assert brief(listed(history, "docs", "docs/sub", older=True, itself=True)) == [
        ("docs/sub", "directory", 53)
    ]


def test_a_name_without_older_contents_has_no_line_and_one_that_never_was_is_told(
    history: Path,
) -> None:
    assert listed(history, "b", older=True) == []
    (never,) = listed(history, "never", older=True)
    assert isinstance(never, Unlisted)
    assert "never was" in never.error.message
    (gone,) = listed(history, "gone/x")
    assert isinstance(gone, Unlisted)
    assert "--versions" in gone.error.message


# Trees of any form


Names = st.lists(st.sampled_from("ab-.é"), min_size=1, max_size=3).map("".join)
Trees = st.recursive(
    st.integers(0, 9),
    lambda below: st.dictionaries(Names.filter(lambda name: name.strip(".")), below, max_size=4),
    max_leaves=15,
).filter(lambda tree: isinstance(tree, dict))


def expected(tree: object, above: str = "") -> Iterator[tuple[str, str, int]]:
    assert isinstance(tree, dict)
    for name in sorted(tree):
        child = tree[name]
        if isinstance(child, int):
            yield f"{above}{name}", "file", child
        else:
            below = list(expected(child, f"{above}{name}/"))
            yield f"{above}{name}", "directory", sum(s for _, kind, s in below if kind == "file")
            yield from below


def plant(tree: object, at: Path) -> None:
    assert isinstance(tree, dict)
    at.mkdir()
    for name, child in tree.items():
        if isinstance(child, int):
            (at / name).write_bytes(bytes(child))
        else:
            plant(child, at / name)


@settings(max_examples=60, deadline=None)
@given(tree=Trees, most=st.integers(1, 3), remembered=st.integers(0, 2))
def test_any_tree_is_listed_whole_however_little_is_held(
    tmp_path_factory: pytest.TempPathFactory, tree: object, most: int, remembered: int
) -> None:
    root = tmp_path_factory.mktemp("any") / "root"
    plant(tree, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_order, "_MOST", most)
        patch.setattr(in_order, "_LEAST", 1)
        patch.setattr(directory_sizes, "_REMEMBERED", remembered)
        assert brief(listed(root, recursive=True)) == list(expected(tree))
        top = [line for line in expected(tree) if "/" not in line[0]]
        assert brief(listed(root)) == top


@contextlib.contextmanager
def deep(root: Path, levels: int) -> Iterator[None]:
    """Removed at the end: pytest, which removes what tests leave, cannot go down so far."""
    directory = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
    os.close(directory)
    try:
        yield
    finally:
        subprocess.run(["rm", "-r", root / "d"], check=True)


def test_a_deep_tree_needs_no_stack_and_few_descriptors(tmp_path: Path) -> None:
    with deep(tmp_path, 1_200):
        _list_deep(tmp_path)


def _list_deep(root: Path) -> None:
    before = open_descriptors()
    with reading(str(root)) as reader:
        lister = Lister(reader, Wanted(recursive=True), lambda name, done: None)
        lines = 0
        for line in lister.lines(""):
            lines += 1
            if lines % 300 == 0:
                assert open_descriptors() < before + 1_300
            assert isinstance(line, Listed)
    assert lines == 1_201
    assert open_descriptors() <= before


def test_it_says_all_along_that_it_is_at_work(root: Path) -> None:
    for number in range(100):
        (root / f"docs/old/{number}").write_bytes(b"x")
    told: list[tuple[str, int]] = []
    with reading(str(root)) as reader:
        lister = Lister(reader, Wanted(), lambda name, done: told.append((name, done)))
        list(lister.lines(""))
    assert len(told) > 100
    assert max(done for _, done in told) >= 100
