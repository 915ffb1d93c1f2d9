"""Modes and times: kept as they were sent, and no reason to lose any bytes."""

from pathlib import Path

import pytest

from tests.support.apart import commit_apart
from tests.support.local_stores import MTIME, mode
from tests.support.stores import commit, put
from xfer.storage.contract import Metadata, NewDirectory, StoreWriter


@pytest.mark.parametrize(
    ("sent", "kept"), [(0o600, 0o600), (0o444, 0o444), (0, 0), (0o7777, 0o777), (0o4755, 0o755)]
)
def test_permission_bits_and_time_are_kept_but_no_set_id_or_sticky(
    root: Path, writer: StoreWriter, sent: int, kept: int
) -> None:
    put(writer, "f", b"data", Metadata(sent, MTIME))
    commit(writer, [NewDirectory("d", Metadata(sent, MTIME))])
    for name in ("f", "d"):
        assert mode(root / name) == kept
        assert (root / name).stat().st_mtime_ns == MTIME


@pytest.mark.parametrize("mtime_ns", [0, -1, 2**31 * 10**9, 2**63, -(2**70), 2**100])
def test_no_time_is_a_reason_to_lose_the_bytes(
    root: Path, writer: StoreWriter, mtime_ns: int
) -> None:
    assert put(writer, "f", b"data", Metadata(None, mtime_ns)) == "stored"
    assert (root / "f").read_bytes() == b"data"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_without_a_mode_the_umask_decides(root: Path, umask: int) -> None:
    assert commit_apart(root, {"d/f": "data"}, umask=umask) == ["stored"]
    assert (mode(root / "d/f"), mode(root / "d")) == (0o666 & ~umask, 0o777 & ~umask)
    assert mode(root / ".xfer") == 0o700
