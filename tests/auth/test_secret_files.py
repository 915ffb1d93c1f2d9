"""Files with secrets: whose they are, who may read them, and how they are reached."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import assert_failed, run
from xfer.auth.identity import load_identity
from xfer.auth.secret_files import read_secret
from xfer.errors import LocalError
from xfer.system import private_files


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("words of a secret\n")
    file.chmod(0o600)
    return file


def test_a_secret_behind_a_link_is_refused(tmp_path: Path, secret: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert read_secret(str(secret)) == "words of a secret"
    with pytest.raises(LocalError, match=r"cannot read the secret in .*link: it is a link"):
        read_secret(str(link))
    done = run(tmp_path, "send", "--secret-file", link, secret, "localhost")
    assert_failed(done, 1, "it is a link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("owner", [0, 12345])
def test_a_secret_of_somebody_elses_is_refused(secret: Path, owner: int) -> None:
    os.chown(secret, owner, -1)
    if owner == os.geteuid():
        assert read_secret(str(secret)) == "words of a secret"
        return
    with pytest.raises(LocalError, match="belongs to somebody else") as caught:
        read_secret(str(secret))
    assert "words" not in caught.value.message


def test_a_secret_that_a_shell_hands_down_is_taken(secret: Path) -> None:
    script = (
        "import sys; from xfer.auth import secret_files as s; print(s.read_secret(sys.argv[1]))"
    )
    command = f"{sys.executable} -c '{script}' <(cat {secret})"
    done = subprocess.run(
        ["bash", "-c", command], check=True, capture_output=True, text=True, timeout=20
    )
    assert done.stdout == "words of a secret\n"


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


def test_a_tls_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    binding = load_identity(str(tmp_path)).binding
    assert load_identity(str(tmp_path)).binding == binding
    (tmp_path / "identity.pem").chmod(0o640)
    with pytest.raises(LocalError, match="others can read the TLS identity"):
        load_identity(str(tmp_path))
