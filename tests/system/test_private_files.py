"""Private files: made for their owner only, whole or not at all, and changed in one step."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from xfer.errors import LocalError
from xfer.system import private_files


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_change_that_fails_changes_nothing(secret: Path) -> None:
    def fail(text: str) -> str:
        raise LocalError(f"no, {len(text)}")

    with pytest.raises(LocalError, match="no, 18"):
        private_files.change(str(secret), "the secret", fail)
    private_files.change(str(secret), "the secret", str.upper)
    assert secret.read_text() == "WORDS OF A SECRET\n"
    assert mode(secret) == 0o600
    assert os.listdir(secret.parent) == ["secret"]


def test_a_file_that_others_can_read_is_not_changed(secret: Path) -> None:
    secret.chmod(0o644)
    with pytest.raises(LocalError, match="others can read the secret"):
        private_files.change(str(secret), "the secret", str.upper)
    assert secret.read_text() == "words of a secret\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_who_changes_a_file_as_root_does_not_take_it_away(secret: Path) -> None:
    os.chown(secret, 0, 12345)
    private_files.change(str(secret), "the secret", str.upper)
    assert (secret.stat().st_uid, secret.stat().st_gid) == (0, 12345)


def test_changes_at_once_are_made_one_after_the_other(tmp_path: Path) -> None:
    file = tmp_path / "new"
    with ThreadPoolExecutor(8) as threads:
        for done in [
            threads.submit(private_files.change, str(file), "it", lambda text: text + "x")
            for _ in range(40)
        ]:
            done.result()
    assert file.read_text() == 40 * "x"
    assert os.listdir(tmp_path) == ["new"]


def test_of_many_that_create_a_missing_file_one_is_first_and_all_go_on(tmp_path: Path) -> None:
    file = tmp_path / "state" / "made"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: private_files.create_if_missing(str(file), f"{n}"), range(8)))
    made = file.read_text()
    private_files.create_if_missing(str(file), "later")
    assert (made in set("01234567"), file.read_text(), mode(file)) == (True, made, 0o600)
    assert os.listdir(file.parent) == ["made"]


def test_what_cannot_be_created_leaves_no_draft(tmp_path: Path) -> None:
    """A lone surrogate is no text that a file could hold."""
    with pytest.raises(UnicodeEncodeError):
        private_files.create_if_missing(str(tmp_path / "made"), "\udcff")
    (tmp_path / "directory").mkdir()
    private_files.create_if_missing(str(tmp_path / "directory"), "text")
    assert os.listdir(tmp_path) == ["directory"]
