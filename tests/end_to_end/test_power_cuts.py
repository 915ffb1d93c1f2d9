"""The power fails right after the last receipt, on file systems that people use: nothing is lost.

Unlike `test_power_loss`, which replays system calls against a disk that forgets,
these are real file systems: on some of them a call that flushes elsewhere does not.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.cut_disks import MAKERS, Disk
from tests.support.mounts import Device, device, mounted, mounted_by, overlaid, tool
from tests.support.processes import MIB, HandSender, receiving, wait_until


@pytest.fixture(params=MAKERS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with MAKERS[request.param](tmp_path) as made:
        os.sync()  # what the test itself has made
        yield made


def tree(root: Path, files: int) -> Path:
    for number in range(files):
        directory = root / "tree" / f"{number % 7}" / "deep"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}").write_bytes(os.urandom(3000))
    (root / "tree" / "empty").mkdir(parents=True)
    (root / "tree" / "link").symlink_to("nowhere")
    return root / "tree"


def is_there(receipt: dict[str, Any], root: Path) -> bool:
    path = root / str(receipt["file_name"])
    match receipt["type"]:
        case "file":
            there = path.is_file() and hashlib.md5(path.read_bytes()).hexdigest()
            return bool(there == receipt["md5"])
        case "symlink":
            return bool(path.is_symlink())
        case _:
            return bool(path.is_dir())


@pytest.mark.parametrize("files", [1, 3, 200])
def test_what_has_a_receipt_survives(disk: Disk, tmp_path: Path, files: int) -> None:
    """Few files are flushed one by one, many at once: both have to hold."""
    source = tree(tmp_path, files)
    with receiving(tmp_path, directory=disk.directory) as site:
        done = site.send("--json", source)
        assert done.code == 0, done
        with disk.cut() as after:
            *receipts, _ = done.records
            assert len(receipts) >= files + 3
            lost = [one["file_name"] for one in receipts if not is_there(one, after)]
    assert lost == []


def test_an_older_version_survives_its_replacement(disk: Disk, tmp_path: Path) -> None:
    source = tree(tmp_path, 20)
    with receiving(tmp_path, directory=disk.directory) as site:
        assert site.send(source).code == 0
        older = {
            path.relative_to(tmp_path): path.read_bytes()
            for path in source.rglob("[0-9]*")
            if path.is_file()
        }
        for path in older:
            (tmp_path / path).write_bytes(os.urandom(2000))
        done = site.send("--json", source)
        assert done.code == 0, done
        with disk.cut() as after:
            assert [one["file_name"] for one in done.records[:-1] if not is_there(one, after)] == []
            for path, content in older.items():
                (version,) = (after / ".xfer" / "versions" / path).iterdir()
                assert version.read_bytes() == content


# A disk that fails to write: an image that is thin, on a volume that runs full


def thin_overlay(root: Path, home: Path) -> contextlib.AbstractContextManager[Path]:
    return overlaid(root, home / "top", lower="lower/received")


def thin_bindfs(root: Path, home: Path) -> contextlib.AbstractContextManager[Path]:
    (root / "received").mkdir()
    return mounted_by("bindfs", root, home / "top")


@contextlib.contextmanager
def thin_ext4(root: Path, home: Path) -> Iterator[Path]:
    (root / "received").mkdir()
    yield root


THIN = {
    "ext4": (thin_ext4, "received"),
    "bindfs": (thin_bindfs, "received"),
    "overlayfs": (thin_overlay, "upper/received"),
}


@pytest.fixture(params=THIN)
def thin_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A disk of 64 MiB of which 8 can be written; then content fails with EIO, and nothing else.

    All of it has room but the free blocks, which are given back to the volume.
    """
    on_top, path = THIN[request.param]
    with (
        mounted(tmp_path / "volume", "-t", "tmpfs", "-o", "size=96m", "xfer-test") as volume,
        device("ext4", volume, size=64 * MIB) as disk,
        on_top(disk.root, tmp_path) as top,
    ):
        os.sync()
        with disk.image.open("r+b") as image:
            os.posix_fallocate(image.fileno(), 0, 64 * MIB)
        assert tool("fstrim", disk.root).returncode == 0
        used = os.statvfs(volume)
        size = (used.f_blocks - used.f_bfree) * used.f_bsize + 8 * MIB
        assert tool("mount", "-o", f"remount,size={size}", volume).returncode == 0
        yield Disk(top / "received", partial(disk_as_it_is, disk, path, tmp_path))


@contextlib.contextmanager
def disk_as_it_is(disk: Device, path: str, home: Path) -> Iterator[Path]:
    with disk.after_power_cut(home / "copy") as root:
        yield root / path


def test_what_has_a_receipt_is_on_a_disk_that_fails_to_write(
    thin_disk: Disk, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    for number in range(200):
        (source / f"{number}").write_bytes(os.urandom(200_000))
    with receiving(tmp_path, directory=thin_disk.directory) as site:
        done = site.send("--json", "--retry-for", "0", source)
        assert done.code != 0, done
        with thin_disk.cut() as after:
            stored = [one for one in done.records[:-1] if one["outcome"] == "stored"]
            assert [one["file_name"] for one in stored if not is_there(one, after)] == []


def test_what_the_kernel_failed_to_write_is_not_resumed_from_its_memory(
    thin_disk: Disk, tmp_path: Path
) -> None:
    """Even if somebody else's flush was told of the failure, and nobody is any more."""
    file = tmp_path / "large"
    file.write_bytes(os.urandom(16 * MIB))
    with receiving(tmp_path, directory=thin_disk.directory) as site:
        with HandSender(site) as sender:
            sender.part("large", file.read_bytes(), 0, 12 * MIB)
            wait_until(lambda: site.partials() == [12 * MIB])
            sender.channel.abort()
        (partial,) = (thin_disk.directory / ".xfer" / "partials").iterdir()
        with partial.open("rb") as opened, contextlib.suppress(OSError):
            os.fsync(opened.fileno())
        assert tool("mount", "-o", "remount,size=96m", tmp_path / "volume").returncode == 0
        done = site.send("--json", "--retry-for", "10", file)
        assert done.code == 0, done
        with thin_disk.cut() as after:
            assert is_there(done.records[0], after)
