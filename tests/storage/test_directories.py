"""Directories on the way to a name: made where missing, at any depth, and never left by a link."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.apart import Contents, commit_apart
from tests.support.local_stores import (
    MTIME,
    mode,
    open_descriptors,
    partials,
    put_into,
    read_at,
    versions,
)
from tests.support.stores import commit, new_file, put, words
from tests.support.tools import without
from xfer import names
from xfer.errors import Code, Refused
from xfer.storage.contract import (
    Access,
    IfExists,
    Item,
    Metadata,
    NewDirectory,
    NewSymlink,
    StoreWriter,
)
from xfer.storage.local.contents import LocalContents
from xfer.storage.local.layout import Layout
from xfer.storage.local.store import LocalStore
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.tree import Tree
from xfer.storage.snapshots.lines import SymlinkLine


@pytest.mark.parametrize("name", ["link/f", "d/link/f", "link/d/f", "absolute/f"])
def test_a_link_in_place_of_a_parent_is_never_followed(
    tmp_path: Path, root: Path, writer: StoreWriter, name: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (root / "d").mkdir()
    (root / "link").symlink_to("../outside")
    (root / "d/link").symlink_to("../../outside")
    (root / "absolute").symlink_to(outside)
    parent = name.rpartition("/")[0].removesuffix("/d")
    target = os.readlink(root / parent)
    assert put(writer, name, b"data") == "versioned"
    assert (root / name).read_bytes() == b"data"
    assert not (root / parent).is_symlink()
    assert [os.readlink(link) for link in versions(root, parent)] == [target]
    assert list(outside.rglob("*")) == [outside / "d"]
    assert partials(root) == []


@pytest.mark.parametrize("name", ["link/f", "d/link/f", "link/d/f"])
def test_nor_is_it_when_it_has_to_stay(
    tmp_path: Path, root: Path, store: LocalStore, name: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (root / "d").mkdir()
    (root / "link").symlink_to("../outside")
    (root / "d/link").symlink_to("../../outside")
    writer = store.open_writer("default", Access(if_exists=IfExists.REFUSE))
    assert put(writer, name, b"data") == Code.EXISTS
    assert words(commit(writer, [NewSymlink(name, "x")])) == [Code.EXISTS]
    assert words(commit(writer, [NewDirectory(name, Metadata())])) == [Code.EXISTS]
    writer.close()
    assert list(outside.rglob("*")) == [outside / "d"]
    assert partials(root) == []


def test_a_directory_does_not_land_on_what_a_link_points_to(
    tmp_path: Path, root: Path, writer: StoreWriter
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (root / "d").symlink_to(outside)
    assert words(commit(writer, [NewDirectory("d", Metadata(0o777, MTIME))])) == ["versioned"]
    assert mode(outside) == 0o750
    assert [mode(root / "d"), (root / "d").is_symlink()] == [0o777, False]


def test_a_parent_whose_mode_forbids_it_is_written_and_keeps_its_mode(root: Path) -> None:
    prefix = without("dac_override", "dac_read_search")
    (root / "locked").mkdir(mode=0o555)
    contents: Contents = {"locked/f": "1", "f": "2", "locked/d/f": "3"}
    assert commit_apart(root, contents, prefix) == ["stored"] * 3
    assert (sorted(os.listdir(root / "locked")), partials(root)) == (["d", "f"], [])
    assert mode(root / "locked") == 0o555


def test_a_parent_that_may_not_be_written_harms_no_other_item(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory that is somebody else's")
    prefix = without("dac_override", "dac_read_search", "fowner")
    (root / "locked").mkdir(mode=0o755)
    os.chown(root / "locked", 1234, 1234)
    contents: Contents = {"locked/f": "1", "f": "2", "locked/d/f": "3"}
    assert commit_apart(root, contents, prefix) == [Code.STORAGE, "stored", Code.STORAGE]
    assert (os.listdir(root / "locked"), partials(root)) == ([], [])


def test_another_file_system_below_the_directory_is_refused(
    mount: Callable[[str, str], Path], root: Path, writer: StoreWriter
) -> None:
    other = mount("other", "size=1m")
    assert put(writer, "other/f", b"data") == Code.STORAGE
    assert (os.listdir(other), partials(root)) == ([], [])


def test_directories_and_links_on_another_file_system_are_refused_like_files(
    mount: Callable[[str, str], Path], root: Path, writer: StoreWriter
) -> None:
    """No flush of ours reaches them there. That of the mount point itself neither."""
    other = mount("other", "size=1m")
    mode = other.stat().st_mode
    items: list[Item] = [
        NewSymlink("other/link", "anywhere"),
        NewDirectory("other/directory", Metadata(0o700, MTIME)),
        NewDirectory("other", Metadata(0o711, MTIME)),
        NewSymlink("beside", "anywhere"),
    ]
    assert words(commit(writer, items)) == [*3 * [Code.STORAGE], "stored"]
    assert (os.listdir(other), other.stat().st_mode) == ([], mode)


@pytest.mark.parametrize(
    "name",
    [
        "caf\udce9/\udcff\udcfe",
        "n" * 255,
        "é" * 127 + "x",
        "/".join(["n" * 255] * 16),
        "-rf",
        "a b/*?\"'\\",
        "d/.xfer/f",
        ".xfer2",
        ".XFER/f",
        "...",
        "20240101T000000.000000Z",
    ],
)
def test_any_safe_name_holds_content_and_versions(
    root: Path, writer: StoreWriter, name: str
) -> None:
    assert names.check(name) == name
    assert [put(writer, name, content) for content in (b"1", b"2")] == ["stored", "versioned"]
    assert read_at(root, name) == b"2"
    first = os.listdir(os.fsencode(root / ".xfer/versions"))
    assert first == [names.to_bytes(name).split(b"/")[0]]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many open files as the command line asks for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192 <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, hard))
    elif soft < 8192:
        pytest.skip("this process may not have 8,192 files open")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def deep_root(root: Path) -> Iterator[Path]:
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True, timeout=20)


def test_a_name_of_1500_levels_is_stored_and_versioned(
    many_descriptors: None, deep_root: Path
) -> None:
    name = "d/" * 1499 + "f"
    before = open_descriptors()
    told = [put_into(deep_root, IfExists.VERSION, name, content) for content in (b"1", b"2", b"2")]
    assert told == ["stored", "versioned", "unchanged"]
    assert read_at(deep_root, name) == b"2"
    assert open_descriptors() == before


# --- one batch


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield Tree(descriptor)
    os.close(descriptor)


def test_a_directory_that_was_made_is_unflushed_until_the_one_above_it_is_flushed(
    tree: Tree,
) -> None:
    with Directories(tree) as batch:
        below = batch.open(b"a/b")
        assert batch.changed == {tree.root, batch.open(b"a")}
        assert below not in batch.changed
        assert tree.is_unflushed(b"a/b")
        batch.mark_flushed()
    assert not tree.is_unflushed(b"a/b")


def test_what_one_batch_did_not_flush_the_next_one_flushes(tree: Tree) -> None:
    with Directories(tree) as failed:
        failed.open(b"a/b")
    with Directories(tree) as batch:
        batch.open(b"a/b")
        assert batch.changed == {tree.root, batch.open(b"a")}
        batch.mark_flushed()
    assert tree.is_unflushed(b"a/b"), "the failed batch may have made it where this one did not"


def test_nothing_is_made_for_a_batch_that_only_looks(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Directories(tree, create=False) as batch:
        batch.open(b"a")
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                batch.open(b"a/b/c")
    assert list((tmp_path / "a").iterdir()) == []


def test_directories_are_opened_once_and_closed_when_there_are_too_many(tree: Tree) -> None:
    before = open_descriptors()
    with Directories(tree) as batch:
        assert batch.open(b"a/b") == batch.open(b"a/b")
        batch.close_beyond(3)
        assert open_descriptors() == before + 2
        batch.close_beyond(2)
        assert open_descriptors() == before
        batch.open(b"a/b")
    assert open_descriptors() == before


def test_the_forbidden_directory_is_not_entered_whatever_it_is_called(tmp_path: Path) -> None:
    """As on a file system that folds case; here it was renamed instead."""
    (tmp_path / ".XFER").mkdir()
    status = (tmp_path / ".XFER").stat()
    root = os.open(tmp_path, os.O_RDONLY)
    before = open_descriptors()
    with Directories(Tree(root, (status.st_dev, status.st_ino))) as batch:
        for path in (b".XFER", b".XFER/partials"):
            with pytest.raises(Refused) as caught:
                batch.open(path)
            assert caught.value.code == Code.BAD_NAME
    assert open_descriptors() == before
    os.close(root)


# --- deeper than there may be descriptors

DEEP = b"/".join([b"d"] * 300)
FEW = 70
"""Descriptors, for one deep directory."""


@pytest.fixture
def deep_tree(tree: Tree, tmp_path: Path) -> Iterator[Tree]:
    yield tree
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True, timeout=20)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def test_few_directories_are_open_however_deep_one_is(deep_tree: Tree) -> None:
    before = open_descriptors()
    for create in (True, False):
        with Directories(deep_tree, create=create) as batch:
            os.close(os.open(b"f", os.O_CREAT, dir_fd=batch.open(DEEP)))
            assert open_descriptors() <= before + FEW
    assert open_descriptors() == before
    with Directories(deep_tree, create=False) as batch:
        assert os.listdir(batch.open(DEEP)) == ["f"]


def test_all_directories_in_which_one_was_made_are_flushed_though_few_are_open(
    deep_tree: Tree,
) -> None:
    flushed: list[tuple[int, int]] = []

    def flush(descriptors: Iterable[int]) -> None:
        flushed.extend(map(_identity, descriptors))

    with Directories(deep_tree) as batch:
        batch.open(DEEP)
        before = open_descriptors()
        batch.flush_passed(flush)
        assert open_descriptors() == before
        flush(batch.changed)
        batch.mark_flushed()
    expected = {_identity(deep_tree.root)}
    with Directories(deep_tree, create=False) as again:
        for levels in range(1, 300):
            again.close_beyond(64)
            expected.add(_identity(again.open(b"/".join([b"d"] * levels))))
    assert (set(flushed), len(flushed)) == (expected, 300)
    assert not deep_tree.is_unflushed(DEEP)


def test_a_batch_knows_that_it_has_something_below_a_directory_that_is_not_open(
    deep_tree: Tree,
) -> None:
    with Directories(deep_tree) as batch:
        batch.open(DEEP)
        assert batch.has_open(b"d/d")
        assert not batch.has_open(b"d/x")


def test_what_is_in_the_way_of_a_deep_name_becomes_a_version(
    deep_root: Path, store: LocalStore
) -> None:
    for levels in (2, 250):
        obstacle = f"{levels}/" + "d/" * levels + "x"
        name = obstacle + "/y" * (300 - levels)
        writer = store.open_writer("default")
        assert put(writer, obstacle, b"older") == "stored"
        assert put(writer, name, b"new") == "versioned"
        assert put(writer, name, b"newer") == "versioned"
        writer.close()
        assert read_at(deep_root, name) == b"newer"
        assert [path.read_bytes() for path in versions(deep_root, obstacle) if path.is_file()] == [
            b"older"
        ]


def test_a_directory_in_which_this_batch_stores_something_deep_is_not_moved_away(
    deep_root: Path, store: LocalStore
) -> None:
    writer = store.open_writer("default")
    deep = "a/b/" + "d/" * 300 + "f"
    assert put(writer, deep, b"1") == "stored"
    both = [new_file(writer, "a/b", b"file"), new_file(writer, deep, b"2")]
    assert words(commit(writer, both)) == [Code.EXISTS, "versioned"]
    writer.close()
    assert read_at(deep_root, deep) == b"2"


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is flushed by itself, on a file system of which not all can be flushed at once."""
    monkeypatch.setattr("xfer.storage.posix.filesystems._linux_version", lambda: (5, 7))
    flushed: list[tuple[int, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(_identity(descriptor))

    monkeypatch.setattr(os, "fsync", noted)
    return flushed


def _levels(base: Path) -> set[tuple[int, int]]:
    made = [(base / ("d/" * levels)).stat() for levels in range(200)]
    return {(status.st_dev, status.st_ino) for status in made}


def test_a_commit_flushes_each_of_them_for_names_and_for_their_versions(
    deep_root: Path, flushed: list[tuple[int, int]]
) -> None:
    name = "d/" * 200 + "f"
    for content, base in ((b"1", deep_root), (b"2", deep_root / ".xfer/versions")):
        flushed.clear()
        put_into(deep_root, IfExists.VERSION, name, content)
        assert _levels(base) <= set(flushed)


def test_so_do_names_that_are_moved_to_versions(
    deep_root: Path, flushed: list[tuple[int, int]]
) -> None:
    link = "d/" * 200 + "link"
    (deep_root / link).parent.mkdir(parents=True)
    (deep_root / link).symlink_to("anywhere")
    layout = Layout(str(deep_root))
    flusher = Flusher(layout.root, layout.file_system, layout.lock)
    line = SymlinkLine(name=link, target="anywhere", confirmed="20260101T000000.000000Z")
    assert LocalContents(layout, flusher).move_to_versions([line]) == 1
    flusher.close()
    layout.close()
    assert _levels(deep_root / ".xfer/versions") <= set(flushed)
