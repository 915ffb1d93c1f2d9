"""Modes that forbid even the owner to read, enter or write are kept, and are in nobody's way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_stores import mode
from tests.support.processes import Site, receiving, unprivileged

MODES = {"d311": 0o311, "d000": 0, "d600": 0o600, "d400": 0o400, "d555": 0o555}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    if os.geteuid():
        pytest.skip("only root reads what its mode forbids to read")
    top = tmp_path / "tree"
    for name in MODES:
        (top / name / "below").mkdir(parents=True)
        (top / name / "f").write_bytes(b"data")
        (top / name / "below/g").write_bytes(b"data")
        (top / name / "link").symlink_to("f")
    (top / "secret").write_bytes(b"data")
    (top / "secret").chmod(0)
    for name, bits in MODES.items():
        (top / name).chmod(bits)
    return top


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Site]:
    with receiving(tmp_path / "site", prefix=unprivileged()) as site:
        yield site


def outcomes(site: Site, *arguments: str | Path) -> set[str]:
    done = site.send("--json", *arguments)
    assert done.code == 0, done
    return {record["outcome"] for record in done.records[:-1]}


def require_modes(site: Site, modes: dict[str, int]) -> None:
    assert {name: mode(site.directory / "tree" / name) for name in modes} == modes


def test_a_tree_of_such_modes_is_unchanged_the_second_time(nas: Site, tree: Path) -> None:
    assert outcomes(nas, tree) == {"stored"}
    require_modes(nas, MODES | {"secret": 0})
    for options in ([], ["--checksum-all"], []):
        assert outcomes(nas, *options, tree) == {"unchanged"}
    require_modes(nas, MODES | {"secret": 0})
    assert not any((nas.directory / ".xfer/versions").iterdir())


def test_what_changes_in_it_is_stored_and_versioned(nas: Site, tree: Path) -> None:
    assert outcomes(nas, tree) == {"stored"}
    for name in MODES:
        (tree / name / "f").write_bytes(b"other data")
        (tree / name / "new").write_bytes(b"new")
        (tree / name / "link").unlink()
        (tree / name / "link").symlink_to("new")
    assert outcomes(nas, tree) == {"stored", "versioned", "unchanged"}
    require_modes(nas, MODES)
    for name in MODES:
        there = nas.directory / "tree" / name
        assert [(there / "f").read_bytes(), os.readlink(there / "link")] == [b"other data", "new"]
        kept = nas.directory / ".xfer/versions/tree" / name
        assert [path.read_bytes() for path in (kept / "f").iterdir()] == [b"data"]


def test_a_new_mode_of_a_file_that_may_not_be_read_is_set(nas: Site, tree: Path) -> None:
    assert outcomes(nas, tree) == {"stored"}
    for bits in (0o640, 0, 0o200):
        (tree / "secret").chmod(bits)
        assert outcomes(nas, tree) == {"unchanged"}
        require_modes(nas, {"secret": bits})


def test_the_mode_of_a_file_outside_does_not_change_to_read_it(
    nas: Site, tree: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    outside.chmod(0)
    os.link(outside, nas.directory / "secret")
    assert outcomes(nas, tree / "secret") == {"versioned"}
    assert [mode(outside), outside.read_bytes()] == [0, b"data"]
