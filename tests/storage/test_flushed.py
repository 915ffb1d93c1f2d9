"""What is flushed, of all that other programs and earlier receivers have put there."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.local_stores import open_descriptors
from tests.support.mounts import device, mounted_by, overlaid
from tests.support.processes import wait_until
from tests.support.stores import put
from xfer.errors import LocalError
from xfer.storage.contract import IfExists, StoreWriter
from xfer.storage.local.doubtful import Doubtful
from xfer.storage.local.flushed import Flushed
from xfer.storage.local.store import LocalStore
from xfer.storage.local.stored import StoredNames
from xfer.storage.posix.barrier import Barrier
from xfer.storage.posix.filesystems import FileSystem, file_system_of
from xfer.storage.posix.tree import Tree


@pytest.fixture
def writer(root: Path) -> Iterator[StoreWriter]:
    with opened(root) as writer:
        yield writer


@contextlib.contextmanager
def opened(root: Path, *, durable: bool = True) -> Iterator[StoreWriter]:
    with (
        LocalStore(str(root), durable=durable) as store,
        contextlib.closing(store.open_writer("default")) as writer,
    ):
        yield writer


def is_flushed(writer: StoreWriter, name: str) -> bool | None:
    """None where nothing is stored."""
    (found,) = writer.statuses([name])
    return None if found is None else found.flushed


def flush(writer: StoreWriter, *names: str) -> None:
    """One flush is for all names, unless one has changed within the same tick of the clock."""
    wait_until(
        lambda: not writer.flush_stored([names[0]]) and all(is_flushed(writer, n) for n in names)
    )


def test_what_another_program_makes_changes_or_moves_is_not_flushed(
    root: Path, writer: StoreWriter
) -> None:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_bytes(b"by hand")
    (root / "g").write_bytes(b"by hand")

    def change() -> None:
        (root / "d" / "e" / "f").write_bytes(b"by hand, again")

    def link() -> None:
        os.link(root / "d" / "e" / "f", root / "d" / "e" / "h")

    def move() -> None:
        (root / "d").rename(root / "elsewhere")
        (root / "elsewhere").rename(root / "d")

    assert is_flushed(writer, "d/e/f") is False
    for disturb in (change, link, move):
        flush(writer, "d/e/f", "g")
        disturb()
        assert is_flushed(writer, "d/e/f") is False


def test_what_was_there_at_the_start_is_flushed_and_where_nothing_is_promised_all_is(
    root: Path,
) -> None:
    (root / "f").write_bytes(b"by hand")
    with opened(root) as writer:
        assert is_flushed(writer, "f") is True
    with opened(root, durable=False) as writer:
        (root / "f").write_bytes(b"by hand, again")
        assert is_flushed(writer, "f") is True


def test_a_clock_that_was_set_back_hides_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = os.open(root, os.O_RDONLY)
    barrier = Barrier(descriptor, FileSystem("ext4"), descriptor)
    (root / "f").write_bytes(b"")
    changed_ns = (root / "f").stat().st_ctime_ns
    assert not barrier.covers(changed_ns)
    barrier.flush(changed_ns)
    while not barrier.covers(changed_ns):  # two changes in one tick of the clock
        barrier.flush(changed_ns)
    offset = barrier._last.offset
    monkeypatch.setattr("xfer.storage.posix.barrier._offset", lambda: offset - 10**9)
    assert not barrier.covers(changed_ns)
    barrier.flush()
    assert barrier.covers(changed_ns)
    barrier.close()
    os.close(descriptor)


def test_each_file_is_flushed_by_itself_where_no_flush_of_all_reports_errors(root: Path) -> None:
    """As on an overlay whose upper directory can't be seen from inside a container."""
    descriptor = os.open(root, os.O_RDONLY)
    flushed = Flushed(descriptor, descriptor, FileSystem("overlay"), descriptor)
    flushed.begin(durable=True)
    stored = StoredNames(Tree(descriptor), flushed, "")
    names = [f"f{number}" for number in range(40)]
    for name in names:
        (root / name).write_bytes(b"by hand")
    for _ in range(2):  # the flush of all does not count for them
        found = stored.statuses(names)
        assert {one.flushed for one in found if one} == {False}
        assert stored.flush([*names, "none"]) == {"none"}
    flushed.close()
    os.close(descriptor)


def test_what_is_below_an_overlay_is_flushed_at_once(tmp_path: Path) -> None:
    with (
        device("ext4", tmp_path) as disk,
        overlaid(disk.root, tmp_path / "top") as top,
        opened(top) as writer,
    ):
        (top / "f").write_bytes(b"by hand")
        assert is_flushed(writer, "f") is False
        flush(writer, "f")


def test_a_branch_that_was_added_is_flushed_too(tmp_path: Path) -> None:
    branches = [tmp_path / name for name in ("one", "other")]
    for branch in branches:
        branch.mkdir()
    with mounted_by("mergerfs", branches[0], tmp_path / "top", "-o", "minfreespace=0") as top:
        descriptor = os.open(top, os.O_RDONLY)
        barrier = Barrier(descriptor, file_system_of(descriptor), descriptor)
        before = open_descriptors()
        os.setxattr(top / ".mergerfs", "user.mergerfs.branches", f"+>{branches[1]}".encode())
        barrier.flush()
        barrier.flush()
        assert open_descriptors() == before + 1
        barrier.close()
        os.close(descriptor)


def test_doubtful_is_what_changed_in_one_of_the_times_also_for_the_next_receiver(
    root: Path,
) -> None:
    state = os.open(root, os.O_RDONLY)
    doubtful = Doubtful(state)
    doubtful.note(10, 20)
    doubtful.note(40, 50)
    doubtful.note(15, 30)
    for known in (doubtful, Doubtful(state)):
        assert [time for time in range(0, 60, 5) if time in known] == [
            10,
            15,
            20,
            25,
            30,
            40,
            45,
            50,
        ]
    for number in range(200):
        doubtful.note(1000 + 10 * number, 1001 + 10 * number)
    assert len((root / "doubtful").read_text().splitlines()) <= 100
    assert all(1000 + 10 * number in doubtful for number in range(200))
    os.close(state)


def test_without_flushes_it_is_remembered_since_when_until_all_is_flushed(root: Path) -> None:
    state = root / ".xfer" / "doubtful"
    with opened(root, durable=False):
        first = state.read_text()
    with opened(root, durable=False):
        assert state.read_text() == first != ""
    with opened(root):
        assert state.read_text() == ""


def test_a_note_that_finds_no_room_refuses_a_start_without_flushes_and_leaves_nothing(
    root: Path, mount: Callable[[str, str], Path]
) -> None:
    small = mount("small", "size=64k")
    with opened(small):
        pass
    with (small / "full").open("wb", buffering=0) as full, contextlib.suppress(OSError):
        while full.write(bytes(4096)):
            pass
    with pytest.raises(LocalError, match="cannot note that nothing will be flushed: No space"):
        LocalStore(str(small), durable=False)
    assert not list((small / ".xfer").glob("doubtful*"))
    with opened(small):
        pass


def test_what_another_process_has_noted_stays_in_the_file(root: Path) -> None:
    state = os.open(root, os.O_RDONLY)
    one, other = Doubtful(state), Doubtful(state)
    one.note(10, 20)
    other.note(40, 50)
    assert 10 in Doubtful(state)
    assert 40 in Doubtful(state)
    os.close(state)


def test_lines_that_are_none_are_passed_over(root: Path) -> None:
    (root / ".xfer").mkdir()
    (root / ".xfer" / "doubtful").write_bytes(b"one two\n\xff\n1 2 3\n5 6\n")
    with opened(root) as writer:
        assert put(writer, "f", b"content") == "stored"


@pytest.mark.parametrize("if_exists", ["version", "refuse", "replace"])
def test_doubtful_content_is_replaced_by_the_same_content_and_is_no_version(
    root: Path, if_exists: str
) -> None:
    (root / "f").write_bytes(b"content")
    before = (root / "f").stat()
    (root / ".xfer").mkdir()
    (root / ".xfer" / "doubtful").write_text(f"{before.st_ctime_ns} {before.st_ctime_ns}\n")
    with LocalStore(str(root), IfExists(if_exists)) as store:
        writer = store.open_writer("default")
        assert writer.statuses(["f"]) == [None]
        assert put(writer, "f", b"content") == "stored"
        assert (root / "f").stat().st_ino != before.st_ino
        assert put(writer, "f", b"content") == "unchanged"
        writer.close()
    assert not (root / ".xfer" / "versions" / "f").exists()
