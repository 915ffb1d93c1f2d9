"""Names in open directories: made where there was none, replaced in one step, kept as versions."""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xfer.storage.posix.links import (
    NameAt,
    link,
    link_or_rename,
    remove,
    replace,
    symlink,
)
from xfer.storage.posix.versions import link_version


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """Open, with a file `ready` in it and another, `taken`."""
    for name in ("ready", "taken"):
        (tmp_path / name).write_text(name)
    (tmp_path / "versions").mkdir()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def versions(tmp_path: Path, directory: int) -> Iterator[int]:
    descriptor = os.open(tmp_path / "versions", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_link_replaces_nothing(tmp_path: Path, directory: int) -> None:
    link(b"ready", directory, NameAt(directory, b"new"))
    for make in (link, link_or_rename):
        with pytest.raises(FileExistsError):
            make(b"ready", directory, NameAt(directory, b"taken"))
    with pytest.raises(FileExistsError):
        symlink(b"ready", NameAt(directory, b"taken"))
    assert [(tmp_path / n).read_text() for n in ("new", "taken", "ready")] == [
        "ready",
        "taken",
        "ready",
    ]


def test_what_could_be_linked_has_its_old_name_still(tmp_path: Path, directory: int) -> None:
    assert link_or_rename(b"ready", directory, NameAt(directory, b"new"))
    assert (tmp_path / "ready").samefile(tmp_path / "new")


def test_a_replaced_name_has_the_new_content_and_no_directory_is_replaced(
    tmp_path: Path, directory: int
) -> None:
    with pytest.raises(IsADirectoryError):
        replace(b"ready", directory, NameAt(directory, b"versions"))
    replace(b"ready", directory, NameAt(directory, b"taken"))
    assert (tmp_path / "taken").read_text() == "ready"
    assert not (tmp_path / "ready").exists()


def test_each_version_has_a_name_of_its_own_and_they_sort_by_time(
    tmp_path: Path, directory: int, versions: int
) -> None:
    taken = NameAt(directory, b"taken")
    for number in range(50):
        (tmp_path / "taken").unlink()
        (tmp_path / "taken").write_text(f"{number}")
        link_version(taken, versions)
    kept = sorted((tmp_path / "versions").iterdir())
    assert [path.read_text() for path in kept] == [f"{number}" for number in range(50)]


class StoppedClock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "StoppedClock":
        return cls(2026, 1, 1, tzinfo=tz)


def test_a_clock_that_stands_still_keeps_no_version_out(
    tmp_path: Path, directory: int, versions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datetime, "datetime", StoppedClock)
    for _ in range(3):
        link_version(NameAt(directory, b"taken"), versions)
    kept = sorted(path.name for path in (tmp_path / "versions").iterdir())
    assert kept == [f"20260101T000000.00000{number}Z" for number in range(3)]


def test_a_link_is_kept_as_a_link(tmp_path: Path, directory: int, versions: int) -> None:
    symlink(b"nowhere", NameAt(directory, b"link"))
    link_version(NameAt(directory, b"link"), versions)
    (kept,) = (tmp_path / "versions").iterdir()
    assert os.readlink(kept) == "nowhere"


def test_a_name_has_the_status_of_what_it_is_and_none_if_it_is_nothing(directory: int) -> None:
    symlink(b"ready", NameAt(directory, b"link"))
    status = NameAt(directory, b"link").status()
    assert status
    assert status.st_size == len("ready")
    assert status.st_ino == os.stat("link", dir_fd=directory, follow_symlinks=False).st_ino
    assert NameAt(directory, b"missing").status() is None


def test_what_is_gone_already_is_removed(tmp_path: Path, directory: int) -> None:
    for _ in range(2):
        remove(b"ready", directory)
    assert not (tmp_path / "ready").exists()
