"""File systems, as they are mounted: each is told by its kind, and known for what it keeps."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.mounts import device, mounted, mounted_by, overlaid, tool
from xfer.storage.posix.filesystems import FileSystem, file_system_of


def kind_at(directory: Path) -> FileSystem:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        return file_system_of(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be below an overlay."""
    with mounted(tmp_path / "base", "-t", "tmpfs", "xfer-test") as directory:
        yield directory


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_file_system_on_a_disk_is_told_and_reports_its_errors(tmp_path: Path, kind: str) -> None:
    with device(kind, tmp_path) as disk:
        (disk.root / "below").mkdir()
        found = kind_at(disk.root / "below")
    assert (found.kind, found.doubt) == (kind, "")
    assert found.syncfs_reports_errors
    assert found.flushes_names_with_directories


@pytest.mark.parametrize("daemon", ["mergerfs", "bindfs"])
def test_a_fuse_daemon_is_told_and_flushes_files_only(tmp_path: Path, daemon: str) -> None:
    (tmp_path / "branch").mkdir()
    with mounted_by(daemon, tmp_path / "branch", tmp_path / "top") as top:
        found = kind_at(top)
    assert found.kind in ("fuse", f"fuse.{daemon}")
    assert found.doubt == ""
    assert not found.syncfs_reports_errors
    assert not found.flushes_names_with_directories


def test_an_overlay_does_not_report_what_fails_below_it(tmp_path: Path) -> None:
    with device("ext4", tmp_path) as disk, overlaid(disk.root, tmp_path / "top") as top:
        found = kind_at(top)
    assert (found.kind, found.doubt) == ("overlay", "")
    assert not found.syncfs_reports_errors
    assert found.flushes_names_with_directories


def test_an_overlay_that_flushes_nothing_is_doubted(tmp_path: Path, base: Path) -> None:
    with overlaid(base, tmp_path / "top", "volatile") as top:
        assert "volatile" in kind_at(top).doubt


def test_the_innermost_of_several_mounts_counts(tmp_path: Path) -> None:
    with ExitStack() as mounts:
        outer = mounts.enter_context(mounted(tmp_path / "a b", "-t", "tmpfs", "xfer-test"))
        mounts.enter_context(mounted(outer / "ram", "-t", "ramfs", "xfer-test"))
        assert (kind_at(outer).kind, kind_at(outer / "ram").kind) == ("tmpfs", "ramfs")


def test_of_what_is_not_known_nothing_is_promised() -> None:
    assert "nothing is known of what fuse.sshfs keeps" in FileSystem("fuse.sshfs").doubt
    assert "9p" in FileSystem("9p").doubt

    for kind in ("fuse", "fuseblk"):
        assert f"nothing is known of what {kind} keeps" in FileSystem(kind).doubt


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_memory_is_no_stable_storage(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path / "memory", "-t", kind, "xfer-test") as memory:
        assert (
            kind_at(memory).doubt == f"{kind} is in memory, and keeps nothing when the power fails"
        )


def test_nor_is_what_stores_in_memory(tmp_path: Path, base: Path) -> None:
    """Not even if only one of its directories is there, or another one is between."""
    (disk := tmp_path / "disk").mkdir()
    (merged := base / "a b").mkdir()
    with (
        overlaid(base, tmp_path / "overlay") as overlay,
        mounted_by("bindfs", overlay, tmp_path / "bindfs") as bindfs,
        mounted_by("mergerfs", f"{disk}:{merged}", tmp_path / "mergerfs") as mergerfs,
    ):
        doubts = [kind_at(top).doubt for top in (overlay, bindfs, mergerfs)]
    assert [doubt.split(", ")[0].split()[0] for doubt in doubts] == 3 * ["below"]
    assert all("tmpfs is in memory" in doubt for doubt in doubts)


def test_where_it_cannot_be_told_files_are_flushed_one_by_one_and_doubted() -> None:
    assert file_system_of(-1) == FileSystem()
    assert not FileSystem().syncfs_reports_errors
    assert "cannot be told" in FileSystem().doubt


def test_an_overlay_whose_source_is_empty_is_told_all_the_same(tmp_path: Path, base: Path) -> None:
    for name in ("lower", "upper", "work"):
        (base / name).mkdir()
    layers = ",".join(f"{name}dir={base}/{name}" for name in ("lower", "upper", "work"))
    with mounted(tmp_path / "top", "-t", "overlay", "-o", f"{layers},volatile", "") as top:
        assert "volatile" in kind_at(top).doubt


@pytest.mark.parametrize(("kind", "option"), [("ext4", "nobarrier"), ("btrfs", "nobarrier")])
def test_a_disk_whose_own_memory_is_not_flushed_is_doubted(
    tmp_path: Path, kind: str, option: str
) -> None:
    with device(kind, tmp_path) as disk:
        assert tool("mount", "-o", f"remount,{option}", disk.root).returncode == 0
        assert "barriers" in kind_at(disk.root).doubt


def test_an_older_kernel_s_syncfs_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        release = "5.7.19-old"

    monkeypatch.setattr(os, "uname", Old)
    assert not FileSystem("ext4").syncfs_reports_errors
    Old.release = "5.10.0-9-amd64"
    assert FileSystem("ext4").syncfs_reports_errors
