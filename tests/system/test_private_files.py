"""Private files: changed whole or not at all, and by their owner only."""

import os
from pathlib import Path

import pytest

from xfer.errors import LocalError
from xfer.system import private_files


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("words of a secret\n")
    file.chmod(0o600)
    return file


def test_a_change_that_fails_changes_nothing(secret: Path) -> None:
    def fail(text: str) -> str:
        raise LocalError(f"no, {len(text)}")

    with pytest.raises(LocalError, match="no, 18"):
        private_files.change(str(secret), "the secret", fail)
    private_files.change(str(secret), "the secret", str.upper)
    assert secret.read_text() == "WORDS OF A SECRET\n"
    assert secret.stat().st_mode & 0o777 == 0o600
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
