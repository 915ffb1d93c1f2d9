"""Flushes: one for many files, none where they are left out, and no failure goes unseen.

That they come in the right order is in test_commit.
"""

import contextlib
import fcntl
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.local_stores import open_descriptors
from tests.support.mounts import device, mounted_by, overlaid
from tests.support.tools import working
from xfer.storage.posix.filesystems import FileSystem, file_system_of
from xfer.storage.posix.flush import Flusher, start_writeback

FLUSH = """
import os, sys
from xfer.storage.posix.filesystems import FileSystem
from xfer.storage.posix.flush import Flusher
directory = os.open(sys.argv[1], os.O_RDONLY)
files = [os.open(f"{sys.argv[1]}/{n}", os.O_CREAT | os.O_RDWR) for n in range(int(sys.argv[2]))]
kind = FileSystem(sys.argv[4])
Flusher(directory, kind, directory, durable=sys.argv[3] == "durable").flush(files + files)
"""
KNOWN = FileSystem("ext4")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("files", "durable", "kind", "calls"),
    [
        (0, "durable", "ext4", []),
        (1, "durable", "ext4", ["fsync"]),
        (4, "durable", "ext4", 4 * ["fsync"]),
        (5, "durable", "ext4", ["syncfs"]),
        (50, "durable", "btrfs", ["syncfs"]),
        (5, "durable", "overlay", 5 * ["fsync"]),
        (50, "durable", "fuse.mergerfs", 50 * ["fsync"]),
        (50, "durable", "", 50 * ["fsync"]),
        (4, "not durable", "ext4", []),
        (50, "not durable", "ext4", []),
    ],
)
def test_many_files_share_one_flush_where_it_reports_errors_and_few_wait_for_no_other(
    tmp_path: Path, files: int, durable: str, kind: str, calls: list[str]
) -> None:
    trace = tmp_path / "trace"
    prefix = working("strace", "-f", "-o", str(trace), "-e", "trace=fsync,syncfs")
    script = [sys.executable, "-c", FLUSH, str(tmp_path), str(files), durable, kind]
    assert os.spawnvp(os.P_WAIT, prefix[0], [*prefix, *script]) == 0
    assert re.findall(r"(\w+)(?:\(\d+\)| resumed>\)) += 0", trace.read_text()) == calls


def test_a_flush_that_fails_is_an_error(directory: int) -> None:
    reading, writing = os.pipe()  # which can't be flushed
    with contextlib.closing(Flusher(directory, KNOWN, directory)) as flusher:
        with pytest.raises(OSError, match="Invalid"):
            flusher.flush([directory, reading])
        flusher.flush([directory])
    with contextlib.closing(Flusher(directory, KNOWN, directory, durable=False)) as flusher:
        flusher.flush([reading])
    os.close(reading)
    os.close(writing)


def test_the_start_of_a_write_back_is_a_hint_that_never_fails(directory: int) -> None:
    start_writeback(-1, 0, 100)


def test_a_flusher_that_is_closed_leaves_no_descriptor(directory: int) -> None:
    before = open_descriptors()
    Flusher(directory, KNOWN, directory).close()
    assert open_descriptors() == before


@contextlib.contextmanager
def on_top(layer: str, root: Path, home: Path) -> Iterator[Path]:
    match layer:
        case "bindfs":
            with mounted_by("bindfs", root, home / "top") as top:
                yield top
        case "overlay":
            with overlaid(root, home / "top") as top:
                yield top
        case _:
            yield root


@pytest.mark.parametrize("layer", ["", "bindfs", "overlay"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_that_was_shut_down_fails_a_flush_of_names(
    tmp_path: Path, kind: str, layer: str
) -> None:
    """As the kernel shuts one down whose disk fails. On xfs, fsync of a directory says nothing."""
    with (
        device(kind, tmp_path) as disk,
        on_top(layer, disk.root, tmp_path) as top,
        ExitStack() as opened,
    ):
        below, directory, witness = (
            os.open(path, flags)
            for path, flags in (
                (disk.root, os.O_RDONLY),
                (top, os.O_RDONLY),
                (top / "lock", os.O_RDWR | os.O_CREAT),
            )
        )
        for descriptor in (below, directory, witness):
            opened.callback(os.close, descriptor)
        file_system = file_system_of(directory)
        with contextlib.closing(Flusher(directory, file_system, witness)) as flusher:
            (top / "one").symlink_to("anywhere")
            flusher.flush_names([directory], [], has_others=True, has_links=True)
            (top / "other").symlink_to("anywhere")
            shut_down(below)
            with pytest.raises(OSError, match="Input/output error"):
                flusher.flush_names([directory], [], has_others=True, has_links=True)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_merged_branch_that_was_shut_down_fails_it_although_another_is_alive(
    tmp_path: Path, kind: str
) -> None:
    with device(kind, tmp_path) as disk, ExitStack() as opened:
        alive = tmp_path / "alive"
        for branch in (alive, disk.root):
            (branch / "received").mkdir(parents=True)
        (alive / "received" / "lock").touch()
        top = opened.enter_context(
            mounted_by("mergerfs", f"{alive}:{disk.root}", tmp_path / "top", "-o", "minfreespace=0")
        )
        below = os.open(disk.root, os.O_RDONLY)
        opened.callback(os.close, below)
        directory = os.open(top / "received", os.O_RDONLY)
        opened.callback(os.close, directory)
        witness = os.open(top / "received" / "lock", os.O_RDWR)
        opened.callback(os.close, witness)
        with contextlib.closing(Flusher(directory, file_system_of(directory), witness)) as flusher:
            flusher.flush_names([directory], [], has_others=True)
            shut_down(below)
            with pytest.raises(OSError, match=r"Input/output error|Read-only"):
                flusher.flush_names([directory], [], has_others=True)


def shut_down(directory: int) -> None:
    """XFS_IOC_GOINGDOWN, which ext4 has too: at once, without flushing the log."""
    fcntl.ioctl(directory, 0x8004587D, struct.pack("I", 2))
