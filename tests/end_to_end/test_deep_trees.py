"""Trees deeper than either side may have descriptors, with paths longer than the system takes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Finished, Site, environment, finish, receiving, start
from tests.support.resources import limited

pytestmark = pytest.mark.timeout(400)
LEVELS = 1100
DESCRIPTORS = limited("nofile", 1024)
Level = tuple[list[str], int, int]
"""The names in a directory, its mode and its time."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True, timeout=100)


def make_tree(top: Path, component: str, levels: int) -> None:
    """Directories in one another, a file at the bottom and in every hundredth."""
    top.mkdir()
    directory = os.open(top, os.O_RDONLY)
    for level in range(levels + 1):
        if level % 100 == 0 or level == levels:
            write(directory, "f", b"%d" % level)
        if level < levels:
            os.mkdir(component, 0o755 - level % 2, dir_fd=directory)
            below = os.open(component, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
    os.close(directory)


def write(directory: int, name: str, content: bytes) -> None:
    descriptor = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
    os.write(descriptor, content)
    os.close(descriptor)


def levels_of(top: Path, component: str) -> Iterator[Level]:
    directory = os.open(top, os.O_RDONLY)
    while True:
        names, status = sorted(os.listdir(directory)), os.fstat(directory)
        yield names, status.st_mode, status.st_mtime_ns
        if component not in names:
            os.close(directory)
            return
        below = os.open(component, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below


def sent(site: Site, *arguments: str | Path) -> Finished:
    command = site.command("--json", *arguments)
    process = start(command, environment(site.home), prefix=DESCRIPTORS)
    return finish(process, patience=200)


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--connections", "2"), marks=pytest.mark.exhaustive)]
)
def test_a_tree_deeper_than_there_are_descriptors_goes_and_is_unchanged_then(
    home: Path, options: tuple[str, ...]
) -> None:
    top = home / "deep"
    make_tree(top, "d", LEVELS)
    with receiving(home, "--insecure-plaintext", "--quota", "1G", prefix=DESCRIPTORS) as site:
        first, second = sent(site, *options, top), sent(site, *options, top)
        assert "internal" not in site.log.text
        assert "not counted" not in site.log.text
    assert (first.code, first.records[-1]["stored"]) == (0, 12), first.err
    assert (second.code, second.records[-1]["unchanged"]) == (0, 12), second.err
    assert {record["outcome"] for record in second.records[:-1]} == {"unchanged"}
    assert list(levels_of(site.stored(top), "d")) == list(levels_of(top, "d"))


@pytest.mark.exhaustive
def test_older_content_is_kept_at_any_depth(home: Path) -> None:
    top = home / "deep"
    make_tree(top, "d", LEVELS)
    with receiving(home, "--insecure-plaintext", prefix=DESCRIPTORS) as site:
        assert sent(site, top).code == 0
        subprocess.run(["rm", "-rf", str(top)], check=True, timeout=100)
        make_tree(top, "d", LEVELS)
        again = sent(site, "--checksum-all", top)
        assert (again.code, again.records[-1]["unchanged"]) == (0, 12), again.err
        subprocess.run(["rm", "-rf", str(top)], check=True, timeout=100)
        make_tree(top, "d", LEVELS)
        (top / "f").write_text("newer")
        bottom = os.open(top, os.O_RDONLY)
        for _ in range(LEVELS):
            below = os.open("d", os.O_RDONLY, dir_fd=bottom)
            os.close(bottom)
            bottom = below
        write(bottom, "f", b"newer")
        os.close(bottom)
        changed = sent(site, top)
    assert (changed.code, changed.records[-1]["versioned"]) == (0, 2), changed.err


def test_a_name_that_is_too_long_is_told_and_the_rest_goes(home: Path) -> None:
    top, component = home / "deep", 200 * "d"
    make_tree(top, component, 22)
    with receiving(home, "--insecure-plaintext", prefix=DESCRIPTORS) as site:
        told = sent(site, top)
    assert (told.code, told.records[-1]["failed"]) == (7, 1), told.err
    assert "unsafe name: it is longer than 4096 bytes" in told.err
    assert len(list(levels_of(site.stored(top), component))) == 21
