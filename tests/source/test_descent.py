"""Walking trees that are deeper than a process may have descriptors."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sources import open_descriptors, read
from xfer.errors import LocalError
from xfer.source.readers import FileSource
from xfer.source.tree import Entry, Kind, Unsendable, walk

FEW = 50
"""Descriptors, for a walk and the entry that it is at."""


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """d/d/d/…, 300 levels, with a file `z` in each: it is found on the way back."""
    top = tmp_path / "top"
    top.mkdir()
    directory = os.open(top, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
        os.close(os.open("z", os.O_CREAT, dir_fd=directory))
    os.close(directory)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True, timeout=20)


def test_few_directories_are_open_however_deep_the_walk_is(top: Path) -> None:
    before = open_descriptors()
    files, most = 0, 0
    for found in walk([str(top)]):
        assert isinstance(found, Entry)
        if found.kind is Kind.FILE:
            files += 1
            with FileSource(found):
                most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert (files, most <= FEW) == (300, True), most
    del found
    assert open_descriptors() == before


def _by_a_link(level: Path) -> None:
    level.rename(level.with_name("moved"))
    level.symlink_to("moved")


def _by_another(level: Path) -> None:
    level.rename(level.with_name("moved"))
    level.mkdir()
    (level / "z").write_text("not what was walked")


def _by_nothing(level: Path) -> None:
    level.rename(level.with_name("moved"))


@pytest.mark.parametrize("replace", [_by_a_link, _by_another, _by_nothing])
def test_what_has_replaced_a_directory_meanwhile_is_not_read_and_the_rest_goes(
    top: Path, replace: Callable[[Path], None]
) -> None:
    entries = walk([str(top)])
    assert next(entries).name.count("/") == 301
    replace(top / "d/d/d")
    left = list(entries)
    unsendable = [found for found in left if isinstance(found, Unsendable)]
    assert {found.name.count("/") for found in unsendable} == set(range(3, 269))
    assert all(isinstance(found.error, LocalError) for found in unsendable)
    files = [entry for entry in left if isinstance(entry, Entry) and entry.kind is Kind.FILE]
    assert all(read(FileSource(file)) == b"" for file in files)
    rest = ["top/d/d/z", "top/d/d", "top/d/z", "top/d", "top"]
    assert [entry.name for entry in left[-5:]] == rest
