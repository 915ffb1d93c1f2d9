"""Two dozen senders at once: every receipt holds, and nothing is left behind."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes import MIB, PATIENCE, Site, environment, receiving, wait_until
from tests.test_limits import alive, assert_same_tree, descriptors

SENDERS: Final = 24
_PR_SET_PDEATHSIG: Final = 1
_CROWD: Final = f"""
import contextlib, ctypes, json, os, signal, sys
from xfer.cli.app import main

sys.argv = ["xfer", "--version"]
with contextlib.suppress(SystemExit):
    main()
children = []
for words, out in json.load(sys.stdin):
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT, 0o600), 1)
        sys.argv = ["xfer", *words]
        main()
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
"""Forks its senders once all is imported: else they would start one after the other."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with receiving(tmp_path_factory.mktemp("busy")) as site:
        yield site


@pytest.fixture(autouse=True)
def _nothing_is_left(busy: Site) -> Iterator[None]:
    """The receiver lives, nothing is half-written, and no descriptor stays open."""
    idle = descriptors(busy)
    with alive(busy):
        yield
    wait_until(lambda: descriptors(busy) == idle)
    assert busy.partials() == []


def send_at_once(site: Site, paths: Sequence[Path], home: Path) -> list[dict[str, Any]]:
    """What each sender says of the first thing it sent. All of them succeed."""
    jobs = []
    for number, path in enumerate(paths):
        words = site.command("--quiet", "--json", "--retry-for", "30", path)
        jobs.append((list(map(str, words)), str(home / f"{number}.json")))
    crowd = subprocess.run(
        [sys.executable, "-c", _CROWD],
        env=environment(site.home),
        input=json.dumps(jobs).encode(),
        capture_output=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert json.loads(crowd.stdout.splitlines()[-1]) == [0] * len(paths), crowd.stderr.decode()
    return [json.loads(Path(said).read_text().splitlines()[0]) for _, said in jobs]


SIZES = [
    pytest.param(1000, id="small"),
    pytest.param(MIB + MIB // 2, id="large", marks=pytest.mark.exhaustive),
]


def assert_none_is_lost(site: Site, home: Path, *, senders: int, size: int) -> None:
    """So many send as many contents of one name at once: each is there, or kept as a version.

    Only one at a time has what is left of a large file: the others are busy, and come again.
    """
    files = [home / str(number) / f"{home.name}.bin" for number in range(senders)]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(random.Random(number).randbytes(size))
    told = send_at_once(site, files, home)
    assert sorted(said["outcome"] for said in told) == ["stored"] + (senders - 1) * ["versioned"]
    kept = [site.stored(files[0]).read_bytes(), *site.versions(files[0])]
    assert sorted(kept) == sorted(file.read_bytes() for file in files)


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
