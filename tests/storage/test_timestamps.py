"""Times that a file system cannot hold: the file that has them is the same all the same."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import MIB, device
from tests.support.processes import Site, receiving
from tests.support.stores import put
from xfer.storage.contract import Metadata
from xfer.storage.local.store import LocalStore
from xfer.storage.posix.timestamps import Timestamps, timestamps_of

SECOND = 10**9
NS = 1_700_000_001_123_456_789


@pytest.mark.parametrize(
    ("step", "held"),
    [(1, NS), (100, NS // 100 * 100), (SECOND, NS // SECOND * SECOND), (2 * SECOND, 17 * 10**17)],
)
def test_a_time_is_cut_to_what_is_held(step: int, held: int) -> None:
    assert Timestamps(step).held(NS) == held
    assert Timestamps(step).held(held) == held


def test_times_before_1970_and_beyond_the_end_are_held_as_the_system_does() -> None:
    timestamps = Timestamps(SECOND, 0, 2**31 * SECOND)
    assert Timestamps(SECOND).held(-1) == -SECOND
    assert [timestamps.held(-1), timestamps.held(2**62)] == [0, 2**31 * SECOND]
    assert timestamps.held(None) is None


@pytest.mark.parametrize("mtime_ns", [NS, -1, 0, 2**31 * SECOND, 2**62, -(2**62)])
def test_what_is_found_out_is_what_a_file_has(tmp_path: Path, mtime_ns: int) -> None:
    descriptor = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    timestamps = timestamps_of(descriptor)
    os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    assert os.fstat(descriptor).st_mtime_ns == timestamps.held(mtime_ns)
    os.close(descriptor)


@pytest.fixture
def whole_seconds(tmp_path: Path) -> Iterator[Path]:
    """ext3 as it was made for years: inodes of 128 bytes, which hold whole seconds, to 2038."""
    with device("ext3-128", tmp_path, 64 * MIB) as disk:
        yield disk.root


def outcomes(site: Site, *arguments: str | Path) -> list[str]:
    done = site.send("--json", *arguments)
    assert done.code == 0, done
    return [record["outcome"] for record in done.records[:-1]]


def test_where_whole_seconds_are_held_what_is_unchanged_is_skipped(
    whole_seconds: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, mtime_ns in {"f": NS, "later": 2**31 * SECOND + NS, "odd": NS + SECOND}.items():
        (tree / name).write_bytes(os.urandom(MIB))
        os.utime(tree / name, ns=(mtime_ns, mtime_ns))
    with receiving(tmp_path / "site", directory=whole_seconds / "received") as site:
        assert outcomes(site, tree) == 4 * ["stored"]
        inodes = {path.stat().st_ino for path in (site.directory / "tree").iterdir()}
        before = site.log.text
        assert outcomes(site, tree) == 4 * ["unchanged"]
        assert "tree/f" not in site.log.text.removeprefix(before), "it was sent again"
        os.utime(tree / "f", ns=(NS + SECOND, NS + SECOND))
        assert sorted(outcomes(site, tree)) == 4 * ["unchanged"]
        assert "tree/f" in site.log.text.removeprefix(before), "it has another time"
        assert {path.stat().st_ino for path in (site.directory / "tree").iterdir()} == inodes


def test_where_whole_seconds_are_held_a_hard_link_with_the_same_is_left_alone(
    whole_seconds: Path,
) -> None:
    root = whole_seconds / "dir"
    root.mkdir()
    with LocalStore(str(root)) as store:
        writer = store.open_writer("default")
        put(writer, "f", b"data", Metadata(0o640, NS))
        os.link(root / "f", root / "other")
        assert put(writer, "f", b"data", Metadata(0o640, NS)) == "unchanged"
        writer.close()
