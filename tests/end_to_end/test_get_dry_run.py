"""`xfer get --dry-run`: what the real one would do, and nothing is touched."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.faults import PLAINTEXT
from tests.support.processes import Finished, Site, assert_failed, receiving, run
from tests.support.stores import leave_partial
from xfer.storage.local.store import LocalStore

TIME = 1_700_000_000_000_000_000


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Site]:
    with receiving(tmp_path, "--access", "read-write", PLAINTEXT) as site:
        docs = site.directory / "docs"
        (docs / "empty").mkdir(parents=True)
        for name, content in (("new", b"new"), ("same", b"same"), ("other", b"longer")):
            (docs / name).write_bytes(content)
            os.utime(docs / name, ns=(TIME, TIME))
        (docs / "link").symlink_to("new")
        yield site


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """It has same as it is, and something else under the name other."""
    docs = tmp_path / "out/docs"
    docs.mkdir(parents=True)
    for name, content in (("same", b"same"), ("other", b"short")):
        (docs / name).write_bytes(content)
        os.utime(docs / name, ns=(TIME, TIME))
    return tmp_path / "out"


def got(nas: Site, out: Path, *options: str) -> Finished:
    return run(nas.home, "get", "docs", PLAINTEXT, "--to", out, *options, nas.host)


def outcomes(done: Finished) -> dict[str, str]:
    return {one["file_name"]: one["outcome"] for one in done.records[:-1]}


def state(root: Path) -> list[tuple[str, int, int, int]]:
    found = []
    for path in [*sorted(root.rglob("*")), root]:
        status = path.lstat()
        found.append((str(path), status.st_mode, status.st_mtime_ns, status.st_ctime_ns))
    return found


@pytest.mark.parametrize(
    ("options", "other", "code"),
    [
        ([], "failed", 7),
        (["--if-exists", "version"], "would_version", 0),
        (["--if-exists", "replace"], "would_restore", 0),
    ],
)
def test_it_says_what_the_real_one_does(
    nas: Site, out: Path, options: list[str], other: str, code: int
) -> None:
    before = state(out), state(nas.directory)
    dry = got(nas, out, "--dry-run", "--json", *options)
    assert (state(out), state(nas.directory)) == before
    assert dry.code == code, dry
    would = outcomes(dry)
    assert would == {
        "docs": "unchanged", "docs/empty": "would_restore", "docs/link": "would_restore",
        "docs/new": "would_restore", "docs/other": other, "docs/same": "unchanged",
    }  # fmt: skip
    real = got(nas, out, "--json", *options)
    assert real.code == code
    words = {"would_restore": "restored", "would_version": "restored"}
    really = outcomes(real)
    del would["docs"], really["docs"]  # of which the time changes
    assert really == {name: words.get(outcome, outcome) for name, outcome in would.items()}


def test_what_is_left_of_an_interrupted_one_would_be_resumed(nas: Site, out: Path) -> None:
    (nas.directory / "docs/big").write_bytes(os.urandom(2 * 1024 * 1024))
    with LocalStore(str(out)) as store, closing(store.open_writer("get")) as writer:
        leave_partial(writer, "docs/big", bytes(1024 * 1024))
    dry = got(nas, out, "-n", "--json", "--if-exists", "version")
    assert outcomes(dry)["docs/big"] == "would_resume"


def test_it_is_told_in_words(nas: Site, out: Path) -> None:
    dry = got(nas, out, "-n", "--if-exists", "version")
    assert dry.code == 0
    assert "1 would be restored, 1 would be restored over older content" in dry.err
    assert "nothing changed in" in dry.err


def test_standard_output_has_no_dry_run(nas: Site) -> None:
    done = run(nas.home, "get", "docs/new", PLAINTEXT, "-n", "--to", "-", nas.host)
    assert_failed(done, 2, "a dry run has nothing to write to standard output")


def test_a_target_that_is_not_there_is_told(nas: Site, tmp_path: Path) -> None:
    assert_failed(got(nas, tmp_path / "nowhere", "-n"), 1, "nowhere")
