"""The power fails right after a commit has answered: the snapshot is there, on any file system.

And what a cut takes of a run that is under way is missed, and sent once more.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.snapshots.nas import Nas, lines_of
from tests.support.cut_disks import MAKERS, Disk, disk_of, in_sample
from xfer.storage.snapshots.errors import LinesLost


@pytest.fixture(params=[in_sample(name) for name in MAKERS])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with disk_of(request.param, tmp_path) as made:
        yield made


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Nas]:
    nas = Nas(root)
    try:
        yield nas
    finally:
        nas.close()


def test_what_was_committed_survives(disk: Disk) -> None:
    with opened(disk.directory) as nas:
        files = [nas.file(f"d/{number}", b"%d" % number) for number in range(20)]
        nas.snapshot(nas.directory("d"), *files)
        os.sync()
        done = nas.snapshot(nas.directory("d"), *files[:10], gone_to_versions=True)
        with disk.cut() as after:
            path = after / f".xfer/snapshots/alice/nightly/{done.stamp}.jsonl.gz"
            assert len(lines_of(path)) == 11
            for number in range(10, 20):
                (version,) = (after / f".xfer/versions/d/{number}").iterdir()
                assert version.read_bytes() == b"%d" % number


def test_the_first_snapshot_survives_with_all_directories_above_it(disk: Disk) -> None:
    with opened(disk.directory) as nas:
        done = nas.snapshot(nas.file("a", b"1"))
        with disk.cut() as after:
            path = after / f".xfer/snapshots/alice/nightly/{done.stamp}.jsonl.gz"
            assert [line.name for line in lines_of(path)] == ["a"]


def test_a_run_that_was_cut_is_never_called_complete_and_can_be_sent_once_more(
    disk: Disk, tmp_path: Path
) -> None:
    with opened(disk.directory) as nas:
        files = [nas.file(f"{number}", b"1") for number in range(9)]
        run = nas.record(files)
        with disk.cut() as after:
            shutil.copytree(after, tmp_path / "after", symlinks=True)
    with opened(tmp_path / "after") as nas:
        lines = [nas.skip(line.name) for line in files]  # what has a receipt is there
        with contextlib.suppress(LinesLost):
            assert nas.commit(run, 9).footer.names == 9
        nas.record(lines, run)
        assert nas.commit(run, 9).footer.names == 9
        assert len(nas.manifests()) == 1
