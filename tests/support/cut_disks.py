"""Disks of the kinds that people use, for a receiver, and what a power cut leaves of each."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.mounts import Device, device, mounted_by, overlaid


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
