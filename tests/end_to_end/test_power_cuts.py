"""The power fails right after the last receipt, on file systems that people use: nothing is lost.

Unlike `test_power_loss`, which replays system calls against a disk that forgets,
these are real file systems: on some of them a call that flushes elsewhere does not.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.cut_disks import Disk, enlarge
from tests.support.processes import MIB, HandSender, receiving, wait_until


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
        enlarge(tmp_path)
        done = site.send("--json", "--retry-for", "10", file)
        assert done.code == 0, done
        with thin_disk.cut() as after:
            assert is_there(done.records[0], after)
