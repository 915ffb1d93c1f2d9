"""`xfer get --dir DIR --at WHEN --link`: a tree as it was, of the store's own files."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import PLAINTEXT
from tests.support.mounts import mounted
from tests.support.processes import Finished, Site, assert_failed, receiving, run


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Site]:
    """A snapshot of docs, of which a.txt was changed since, and b/c is the same."""
    docs = tmp_path / "docs"
    (docs / "b").mkdir(parents=True)
    (docs / "a.txt").write_bytes(b"old")
    (docs / "b/c").write_bytes(b"same")
    (docs / "link").symlink_to("a.txt")
    (docs / "b").chmod(0o750)
    os.utime(docs / "b", ns=(1, 1_600_000_000_000_000_000))
    with receiving(tmp_path, PLAINTEXT) as site:
        assert site.send("--snapshot", "nightly", docs).code == 0
        (docs / "a.txt").write_bytes(b"newer")
        assert site.send(docs).code == 0
        yield site


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "out"
    path.mkdir()
    yield path
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o700)


def linked(nas: Site, out: Path, *arguments: str) -> Finished:
    place = ["--dir", str(nas.directory), "--to", str(out), "--link"]
    return run(nas.home, "get", *arguments, *place)


def test_a_tree_as_it_was_takes_no_room(nas: Site, out: Path) -> None:
    done = linked(nas, out, "docs", "--at", "now", "--json")
    assert done.code == 0, done
    assert {one["outcome"] for one in done.records[:-1]} == {"restored"}
    assert (out / "docs/a.txt").read_bytes() == b"old"
    (version,) = (nas.directory / ".xfer/versions/docs/a.txt").iterdir()
    assert (out / "docs/a.txt").stat().st_ino == version.stat().st_ino
    assert (out / "docs/b/c").stat().st_ino == (nas.directory / "docs/b/c").stat().st_ino
    assert os.readlink(out / "docs/link") == "a.txt"
    below = (out / "docs/b").stat()
    assert (stat.S_IMODE(below.st_mode), below.st_mtime_ns) == (0o550, 1_600_000_000_000_000_000)
    assert sorted(path.name for path in out.iterdir()) == ["docs"]


def test_a_later_send_changes_nothing_in_it(nas: Site, out: Path, tmp_path: Path) -> None:
    assert linked(nas, out, "docs", "--at", "now").code == 0
    before = (out / "docs/b/c").stat()
    (tmp_path / "docs/b/c").chmod(0o600)
    assert nas.send(tmp_path / "docs").code == 0
    after = (out / "docs/b/c").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert stat.S_IMODE((nas.directory / "docs/b/c").stat().st_mode) == 0o600


def test_what_is_there_is_not_touched(nas: Site, out: Path) -> None:
    (out / "a.txt").write_bytes(b"mine")
    done = linked(nas, out, "docs/a.txt", "docs/never", "--at", "now")
    assert_failed(done, 6, "a.txt is there already")
    assert "there was no docs/never then" in done.err
    assert (out / "a.txt").read_bytes() == b"mine"


def test_another_file_system_is_told(nas: Site, tmp_path: Path) -> None:
    with mounted(tmp_path / "other", "-t", "tmpfs", "xfer-test") as other:
        assert_failed(linked(nas, other, "docs/a.txt", "--at", "now"), 1, "another file system")


def test_it_needs_a_directory_on_both_sides_and_a_time(nas: Site, out: Path) -> None:
    assert linked(nas, out, "docs").code == 2
    assert run(nas.home, "get", "docs", PLAINTEXT, nas.host, "--at", "now", "--link").code == 2
    gone = linked(nas, out / "gone", "docs", "--at", "now")
    assert_failed(gone, 1, "cannot write to")
