"""The directory of a store: one receiver uses it, and what is its own in it is private."""

import os
from pathlib import Path

import pytest

from tests.support.apart import commit_apart
from tests.support.local_stores import mode, open_descriptors, partials
from tests.support.tools import without
from xfer.errors import Code, LocalError
from xfer.storage.local.kept import Leftovers
from xfer.storage.local.store import LocalStore


def test_one_receiver_at_a_time_uses_a_directory(root: Path) -> None:
    with LocalStore(str(root)), pytest.raises(LocalError, match="another receiver"):
        LocalStore(str(root))
    LocalStore(str(root)).close()


def test_a_directory_that_is_missing_or_a_file_is_a_local_error(root: Path) -> None:
    (root / "file").touch()
    for path in (root / "missing", root / "file"):
        with pytest.raises(LocalError):
            LocalStore(str(path))
    assert os.listdir(root) == ["file"]


def test_an_unwritable_directory_is_a_local_error(root: Path) -> None:
    prefix = without("dac_override", "dac_read_search")
    root.chmod(0o555)
    assert commit_apart(root, {"f": "data"}, prefix) == [Code.LOCAL]
    root.chmod(0o000)
    assert commit_apart(root, {"f": "data"}, prefix) == [Code.LOCAL]
    root.chmod(0o700)
    assert os.listdir(root) == []


def test_the_state_directory_is_private_whatever_it_was(root: Path) -> None:
    (root / ".xfer/versions").mkdir(parents=True, mode=0o755)
    (root / ".xfer").chmod(0o777)
    LocalStore(str(root)).close()
    assert [mode(root / ".xfer" / n) for n in (".", "partials", "versions")] == [0o700] * 3


@pytest.mark.parametrize("planted", [".xfer", ".xfer/partials", ".xfer/versions", ".xfer/lock"])
@pytest.mark.parametrize("to_directory", [True, False])
def test_a_planted_link_in_place_of_state_is_refused(
    tmp_path: Path, root: Path, planted: str, to_directory: bool
) -> None:
    outside = tmp_path / "outside"
    if to_directory:
        outside.mkdir(mode=0o755)
    (root / planted).parent.mkdir(exist_ok=True)
    (root / planted).symlink_to(outside)
    with pytest.raises(LocalError):
        LocalStore(str(root))
    assert outside.exists() == to_directory
    assert not to_directory or (os.listdir(outside), mode(outside)) == ([], 0o755)


def test_a_refused_directory_leaks_no_descriptor(root: Path) -> None:
    (root / ".xfer").mkdir()
    (root / ".xfer/versions").touch()
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(LocalError):
            LocalStore(str(root))
    assert open_descriptors() == before


def test_what_a_killed_receiver_left_is_removed_and_counted(root: Path) -> None:
    LocalStore(str(root)).close()
    for name in ("1", "2"):
        (root / ".xfer/partials" / name).write_bytes(b"half")
    (root / ".xfer/partials/3").symlink_to(root)
    with LocalStore(str(root)) as store:
        assert store.leftovers == Leftovers(removed=3, resumable=0)
    assert partials(root) == []
    with LocalStore(str(root)) as store:
        assert store.leftovers == Leftovers(removed=0, resumable=0)


def test_a_leftover_that_cannot_be_removed_is_a_local_error_and_frees_the_lock(root: Path) -> None:
    (root / ".xfer/partials/d/e").mkdir(parents=True)
    before = open_descriptors()
    with pytest.raises(LocalError):
        LocalStore(str(root))
    assert open_descriptors() == before
