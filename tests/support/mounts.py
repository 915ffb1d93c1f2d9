"""Real file systems, mounted for a test: loop devices, what lies on top of them, and power cuts.

A power cut is a copy of the device's content at that moment, mounted again: what
the kernel had not written to the device is not in it.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

MIB: Final = 1024 * 1024
_SECONDS: Final = 60
_IMAGE_BYTES: Final = 320 * MIB
"""What mkfs.xfs wants at least is 300 MiB; the file is sparse."""
MAKERS: Final = {
    "ext4": ["mkfs.ext4", "-q"],
    "ext3": ["mkfs.ext3", "-q"],
    "ext3-128": ["mkfs.ext3", "-q", "-I", "128"],
    "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
_OPTIONS: Final = {"ext4": ",commit=300", "ext3": ",commit=300", "btrfs": ",commit=300"}
"""So that the kernel does not write by itself what nobody has flushed."""
_COPY_OPTIONS: Final = {"xfs": ",nouuid"}


def tool(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the system."""
    words = list(map(str, command))
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=_SECONDS)


def require_tool(name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")


@contextlib.contextmanager
def mounted(directory: Path, *arguments: str | Path) -> Iterator[Path]:
    """Something is mounted on a directory, until the end of the block. Skips if it may not be."""
    if os.geteuid():
        pytest.skip("only root may mount a file system")
    directory.mkdir(exist_ok=True, parents=True)
    done = tool("mount", *arguments, directory)
    if done.returncode:
        pytest.skip(f"no mounting here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        unmount(directory)


@contextlib.contextmanager
def mounted_by(daemon: str, source: Path | str, directory: Path, *options: str) -> Iterator[Path]:
    """A FUSE daemon (mergerfs or bindfs) shows `source` at `directory`."""
    if os.geteuid() or not Path("/dev/fuse").exists():
        pytest.skip("only root may mount, and the kernel has to have FUSE")
    require_tool(daemon)
    directory.mkdir()
    done = tool(daemon, *options, source, directory)
    if done.returncode:
        pytest.skip(f"{daemon} does not mount here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        unmount(directory)


def unmount(directory: Path) -> None:
    """At once if it is not in use, else when it no longer is."""
    if tool("umount", directory).returncode:
        assert tool("umount", "--lazy", directory).returncode == 0


@dataclass(frozen=True)
class Device:
    """A file system on a loop device: `root` is where it is mounted, `image` its content."""

    kind: str
    image: Path
    root: Path

    @contextlib.contextmanager
    def after_power_cut(self, copy: Path | None = None) -> Iterator[Path]:
        """What is there when the power fails now, mounted beside it, or beside `copy` of it."""
        copy = copy or self.image.with_suffix(".cut")
        assert tool("cp", "--sparse=always", self.image, copy).returncode == 0
        options = "loop" + _COPY_OPTIONS.get(self.kind, "")
        with mounted(copy.with_suffix(".after"), "-o", options, copy) as root:
            yield root


@contextlib.contextmanager
def device(kind: str, home: Path, size: int = _IMAGE_BYTES) -> Iterator[Device]:
    """A new file system of a kind, of `size` bytes, mounted at `home`/disk."""
    require_tool(MAKERS[kind][0])
    image = home / f"{kind}.image"
    with image.open("wb") as file:
        file.truncate(size)
    made = tool(*MAKERS[kind], image)
    assert made.returncode == 0, made.stderr
    with mounted(home / "disk", "-o", "loop" + _OPTIONS.get(kind, ""), image) as root:
        yield Device(kind, image, root)


@contextlib.contextmanager
def overlaid(base: Path, top: Path, *options: str, lower: str = "lower") -> Iterator[Path]:
    """An overlay at `top`, whose layers are directories of `base`; `lower` may have more in it."""
    for name in (lower, "upper", "work"):
        (base / name).mkdir(parents=True)
    layers = [f"{name}dir={base}/{name}" for name in ("lower", "upper", "work")]
    with mounted(top, "-t", "overlay", "-o", ",".join([*layers, *options]), "overlay"):
        yield top
