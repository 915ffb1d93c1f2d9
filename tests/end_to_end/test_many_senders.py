"""Two dozen senders at once: every receipt holds, and nothing is left behind."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.crowds import SIZES, assert_none_is_lost, send_at_once
from tests.support.processes import Site, receiving, wait_until
from tests.support.resources import alive, descriptors, descriptors_at_rest
from tests.support.trees import assert_same_tree

SENDERS: Final = 24


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with receiving(tmp_path_factory.mktemp("busy")) as site:
        yield site


@pytest.fixture(autouse=True)
def _nothing_is_left(busy: Site) -> Iterator[None]:
    """The receiver lives, nothing is half-written, and no descriptor stays open."""
    idle = descriptors_at_rest(busy)
    with alive(busy):
        yield
    wait_until(lambda: descriptors(busy) == idle)
    assert busy.partials() == []


@pytest.mark.parametrize("size", SIZES)
def test_of_one_name_no_content_with_a_receipt_is_lost(
    busy: Site, tmp_path: Path, size: int
) -> None:
    assert_none_is_lost(busy, tmp_path, senders=SENDERS, size=size)


def test_one_content_is_kept_however_many_send_it(busy: Site, document: Path) -> None:
    told = send_at_once(busy, SENDERS * [document], document.parent)
    assert "stored" in {said["outcome"] for said in told}
    kept = [busy.stored(document).read_bytes(), *busy.versions(document)]
    assert set(kept) == {document.read_bytes()}


def test_different_names_do_not_meet(busy: Site, tmp_path: Path) -> None:
    files = [tmp_path / f"{tmp_path.name}-{number}" for number in range(SENDERS)]
    for number, file in enumerate(files):
        file.write_bytes(os.urandom(number * 150_000))
    told = send_at_once(busy, files, tmp_path)
    assert [said["outcome"] for said in told] == SENDERS * ["stored"]
    assert all(busy.stored(file).read_bytes() == file.read_bytes() for file in files)


def test_trees_that_overlap_become_one(busy: Site, tmp_path: Path) -> None:
    """What they have in common is stored, and of what they have not each has its place."""
    name = f"{tmp_path.name}-tree"
    trees = [tmp_path / str(number) / name for number in range(SENDERS)]
    union = tmp_path / "union"
    for number, tree in enumerate(trees):
        make_tree(tree, number)
        make_tree(union, number)
    send_at_once(busy, trees, tmp_path)
    contested = busy.stored(name) / "contested"
    versions = (busy.directory / ".xfer" / "versions" / name / "contested").iterdir()
    kept = sorted(path.read_text() for path in (contested, *versions))
    assert kept == sorted(f"what {number} says" for number in range(SENDERS))
    (union / "contested").write_bytes(contested.read_bytes())
    assert_same_tree(union, busy.stored(name))


def make_tree(root: Path, number: int) -> None:
    """A file of its own, one that a neighbour has too, some that all have, and a contested one."""
    contents = {f"all/{each}/file": f"{each}" * 1000 for each in range(10)} | {
        f"own/{number}/file": f"{number}",
        f"shared/{number // 2}/file": f"{number // 2}",
        "contested": f"what {number} says",
    }
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
