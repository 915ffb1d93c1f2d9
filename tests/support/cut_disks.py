"""Disks whose power is cut, and disks that fail to write: real file systems, for a receiver.

Unlike those of `disks`, which replay system calls against a disk that forgets.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts import MIB, Device, device, mounted, mounted_by, overlaid, tool


@dataclass(frozen=True)
class Disk:
    """`directory` is for a receiver; `cut` shows what of it a power cut leaves."""

    directory: Path
    cut: Callable[[], contextlib.AbstractContextManager[Path]]


Maker = Callable[[Path], contextlib.AbstractContextManager[Disk]]


def below(disk: Device, path: str) -> Callable[[], contextlib.AbstractContextManager[Path]]:
    @contextlib.contextmanager
    def cut() -> Iterator[Path]:
        with disk.after_power_cut() as root:
            yield root / path

    return cut


def plain(kind: str) -> Maker:
    @contextlib.contextmanager
    def made(home: Path) -> Iterator[Disk]:
        with device(kind, home) as disk:
            (disk.root / "received").mkdir()
            yield Disk(disk.root / "received", below(disk, "received"))

    return made


def fuse(daemon: str, *options: str) -> Maker:
    @contextlib.contextmanager
    def made(home: Path) -> Iterator[Disk]:
        with device("ext4", home) as disk:
            (disk.root / "branch" / "received").mkdir(parents=True)
            with mounted_by(daemon, disk.root / "branch", home / "top", *options) as top:
                yield Disk(top / "received", below(disk, "branch/received"))

    return made


@contextlib.contextmanager
def overlay(home: Path) -> Iterator[Disk]:
    with (
        device("ext4", home) as disk,
        overlaid(disk.root, home / "top", lower="lower/received") as top,
    ):
        yield Disk(top / "received", below(disk, "upper/received"))


MAKERS: dict[str, Maker] = {
    "ext4": plain("ext4"),
    "xfs": plain("xfs"),
    "btrfs": plain("btrfs"),
    "mergerfs": fuse("mergerfs", "-o", "minfreespace=0"),
    "bindfs": fuse("bindfs"),
    "overlayfs": overlay,
}


@contextlib.contextmanager
def disk_of(name: str, home: Path) -> Iterator[Disk]:
    """One of MAKERS, with what the test itself has made on it already on stable storage."""
    with MAKERS[name](home) as made:
        os.sync()
        yield made


def in_sample(name: str) -> Any:
    """A parameter of a test that every kind takes in the long run, and two by default."""
    marks = () if name in ("ext4", "mergerfs") else pytest.mark.exhaustive
    return pytest.param(name, marks=marks)


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


@contextlib.contextmanager
def thin_disk(name: str, home: Path) -> Iterator[Disk]:
    """A disk of 64 MiB of which 8 can be written; then content fails with EIO, and nothing else.

    All of it has room but the free blocks, which are given back to the volume.
    """
    on_top, path = THIN[name]
    with (
        mounted(home / "volume", "-t", "tmpfs", "-o", "size=96m", "xfer-test") as volume,
        device("ext4", volume, size=64 * MIB) as disk,
        on_top(disk.root, home) as top,
    ):
        _write_page_by_page(disk)
        os.sync()
        with disk.image.open("r+b") as image:
            os.posix_fallocate(image.fileno(), 0, 64 * MIB)
        assert tool("fstrim", disk.root).returncode == 0
        used = os.statvfs(volume)
        size = (used.f_blocks - used.f_bfree) * used.f_bsize + 8 * MIB
        assert tool("mount", "-o", f"remount,size={size}", volume).returncode == 0
        yield Disk(top / "received", partial(disk_as_it_is, disk, path, home))


def _write_page_by_page(disk: Device) -> None:
    """A loop device calls a request done of which it could write the beginning only."""
    device = os.stat(disk.root).st_dev
    queue = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/max_sectors_kb")
    queue.write_text("4")


@contextlib.contextmanager
def disk_as_it_is(disk: Device, path: str, home: Path) -> Iterator[Path]:
    with disk.after_power_cut(home / "copy") as root:
        yield root / path


def enlarge(home: Path) -> None:
    """Give the volume of a thin disk room for all of it."""
    assert tool("mount", "-o", "remount,size=96m", home / "volume").returncode == 0


def write_journal_home(home: Path) -> None:
    """Have a thin disk's names where they belong, before there is no room for them."""
    for option in ("--freeze", "--unfreeze"):
        assert tool("fsfreeze", option, home / "volume" / "disk").returncode == 0
