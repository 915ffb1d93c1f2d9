"""The power fails after `unchanged`: what is called that is there, whoever has put it there.

Other programs flush nothing, and a receiver that was told to (--no-fsync) does not either.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cut_disks import Disk, enlarge, write_journal_home
from tests.support.cut_disks import thin_disk as thin_disk_named
from tests.support.processes import Finished, environment, finish, receiving, start, wait_until


def tree(root: Path, files: int, size: int) -> Path:
    for number in range(files):
        directory = root / "tree" / f"{number % 7}" / "deep"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}").write_bytes(os.urandom(size))
    return root / "tree"


def called_unchanged(records: list[dict[str, Any]]) -> list[str]:
    *receipts, _ = records
    return [
        one["file_name"]
        for one in receipts
        if one["type"] == "file" and one["outcome"] == "unchanged"
    ]


def lost(names: list[str], source: Path, after: Path) -> list[str]:
    """Those that do not have the content that they have at their source."""
    return [name for name in names if not is_same(source.parent / name, after / name)]


def is_same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--checksum-all",), marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("files", [pytest.param(1, marks=pytest.mark.exhaustive), 60])
def test_what_another_program_stored_is_flushed_before_it_is_called_unchanged(
    disk: Disk, tmp_path: Path, files: int, options: tuple[str, ...]
) -> None:
    """Files alone: the receipt of a directory would flush it, and on most disks all else."""
    sources = [tmp_path / f"{number}" for number in range(files)]
    with receiving(tmp_path, directory=disk.directory) as site:
        for source in sources:
            source.write_bytes(os.urandom(3000))
            shutil.copy2(source, disk.directory)
        done = site.send("--json", *options, *sources)
        assert (done.code, len(called_unchanged(done.records))) == (0, files), done
        with disk.cut() as after:
            assert lost(called_unchanged(done.records), sources[0], after) == []


def test_what_was_stored_without_a_flush_is_flushed_by_the_next_start(
    disk: Disk, tmp_path: Path
) -> None:
    source = tree(tmp_path, 60, 3000)
    with receiving(tmp_path, "--no-fsync", directory=disk.directory) as site:
        assert site.send(source).code == 0
    with receiving(tmp_path, directory=disk.directory) as site:
        done = site.send("--json", source)
        assert (done.code, len(called_unchanged(done.records))) == (0, 60), done
        with disk.cut() as after:
            assert lost(called_unchanged(done.records), source, after) == []


# A disk that fails to write: the failure is told once, and then the files look right


def test_what_another_program_stored_in_vain_is_stored_again(
    thin_disk: Disk, tmp_path: Path
) -> None:
    source = too_much(tmp_path)
    make_room_for_names(tmp_path, thin_disk)
    with receiving(tmp_path, directory=thin_disk.directory) as site:
        shutil.copytree(source, thin_disk.directory / "tree", dirs_exist_ok=True)
        os.sync()  # tells nobody
        enlarge(tmp_path)
        site.send(source)  # may be told of it instead of those who wrote in vain
        assert_all_there(site.send("--json", source), source, thin_disk)


@pytest.mark.parametrize("name", ["overlayfs", "bindfs"])
def test_so_it_is_where_the_disk_below_cannot_be_seen(tmp_path: Path, name: str) -> None:
    """From inside a container, there is no flush of all that reports errors."""
    source = too_much(tmp_path)
    hidden = 'mount -t tmpfs none "$0" && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", hidden, str(tmp_path / "volume")]
    with thin_disk_named(name, tmp_path) as disk:
        make_room_for_names(tmp_path, disk)
        with receiving(tmp_path, directory=disk.directory, prefix=prefix) as site:
            shutil.copytree(source, disk.directory / "tree", dirs_exist_ok=True)
            os.sync()
            enlarge(tmp_path)
            assert_all_there(site.send("--json", source), source, disk)


def test_what_another_flush_was_told_of_is_remembered_by_the_next_receiver(
    thin_disk: Disk, tmp_path: Path
) -> None:
    source = too_much(tmp_path)
    make_room_for_names(tmp_path, thin_disk)
    with receiving(tmp_path, directory=thin_disk.directory) as site:
        shutil.copytree(source, thin_disk.directory / "tree", dirs_exist_ok=True)
        others = [tmp_path / f"{number}" for number in range(10)]
        for other in others:
            other.touch()
        site.send("--retry-for", "0", *others)
    start_and_stop(tmp_path, thin_disk.directory)
    enlarge(tmp_path)
    start_and_stop(tmp_path, thin_disk.directory)  # what failed since then is told, too
    with receiving(tmp_path, directory=thin_disk.directory) as site:
        assert_all_there(site.send("--json", source), source, thin_disk)


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--checksum-all",), marks=pytest.mark.exhaustive)]
)
def test_what_was_stored_in_vain_is_stored_again_by_the_next_receiver(
    thin_disk: Disk, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """And in the end nothing is doubtful."""
    source = too_much(tmp_path)
    make_room_for_names(tmp_path, thin_disk)
    with receiving(tmp_path, "--no-fsync", directory=thin_disk.directory) as site:
        assert site.send(source).code == 0
    start_and_stop(tmp_path, thin_disk.directory)
    enlarge(tmp_path)
    start_and_stop(tmp_path, thin_disk.directory)  # what failed since then is told, too
    with receiving(tmp_path, directory=thin_disk.directory) as site:
        assert_all_there(site.send("--json", *options, source), source, thin_disk)
        wait_until(lambda: len(called_unchanged(site.send("--json", source).records)) == 60)


def too_much(home: Path) -> Path:
    """More than a thin disk can write."""
    (home / "tree").mkdir()
    for number in range(60):
        (home / "tree" / f"{number}").write_bytes(os.urandom(200_000))
    return home / "tree"


def make_room_for_names(home: Path, disk: Disk) -> None:
    """So that it is content alone that cannot be written: directories do not grow any more."""
    start_and_stop(home, disk.directory)
    (disk.directory / "tree").mkdir()
    for directory in (disk.directory / "tree", disk.directory / ".xfer" / "partials"):
        names = [directory / f"{number:060}" for number in range(200)]
        for name in names:
            name.touch()
        for name in names:
            name.unlink()
    write_journal_home(home)


def start_and_stop(home: Path, directory: Path) -> None:
    """A start on a disk that fails says so, where the file system does."""
    command = ["receive", "--dir", directory, "--bind", "127.0.0.1", "--port", "0"]
    process = start(list(map(str, command)), environment(home))
    assert process.stderr
    for line in process.stderr:
        if re.search(rb"the disk fails|listening", line):
            break
    process.terminate()
    finish(process)


def assert_all_there(done: Finished, source: Path, disk: Disk) -> None:
    assert done.code == 0, done
    names = [one["file_name"] for one in done.records if one["type"] == "file"]
    assert len(names) == 60
    with disk.cut() as after:
        assert lost(names, source, after) == []
