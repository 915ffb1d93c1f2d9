"""Files with secrets: whose they are, who may read them, and how they are reached."""

import os
import re
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import assert_failed, run
from xfer.auth.identity import load_identity
from xfer.auth.keys import derive_key
from xfer.auth.secret_files import SECRET_VARIABLE, create_secret, find_secret, read_secret
from xfer.errors import LocalError


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


def test_a_tls_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    binding = load_identity(str(tmp_path)).binding
    assert load_identity(str(tmp_path)).binding == binding
    (tmp_path / "identity.pem").chmod(0o640)
    with pytest.raises(LocalError, match="others can read the TLS identity"):
        load_identity(str(tmp_path))


def _write_secret(path: Path, text: str | bytes, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


def test_the_nearest_secret_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_secret(None) is None
    _write_secret(home / ".config/xfer/secret", "of the user\n")
    assert find_secret(None) == "of the user"
    monkeypatch.setenv(SECRET_VARIABLE, "")
    assert find_secret(None) == "of the user"
    monkeypatch.setenv(SECRET_VARIABLE, "of the environment")
    assert find_secret(None) == "of the environment"
    assert find_secret(_write_secret(home / "s", "of the option")) == "of the option"


def test_a_named_file_that_is_missing_is_not_passed_over(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "of the environment")
    with pytest.raises(LocalError, match="No such file"):
        find_secret(str(home / "missing"))


def test_an_own_secret_that_is_a_dangling_link_is_not_passed_over(home: Path) -> None:
    own = home / ".config/xfer/secret"
    own.parent.mkdir(parents=True)
    own.symlink_to(home / "missing")
    with pytest.raises(LocalError):
        find_secret(None)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("one line", "one line"),
        ("one line\r\n", "one line"),
        ("first\nsecond\n", "first"),
        (" spaces count ", " spaces count "),
        ("pässwort\n", "pässwort"),
        ("", ""),
    ],
)
def test_the_secret_is_the_first_line(home: Path, text: str, secret: str) -> None:
    assert read_secret(_write_secret(home / "s", text)) == secret


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o602, 0o620, 0o601])
def test_a_secret_that_others_may_open_is_refused(home: Path, mode: int) -> None:
    path = _write_secret(home / "s", "secret words here", mode)
    with pytest.raises(LocalError, match="chmod 600") as caught:
        read_secret(path)
    assert "secret words" not in str(caught.value)


def test_a_secret_may_come_through_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe\n")
    os.close(writing)
    try:
        assert read_secret(f"/dev/fd/{reading}") == "from a pipe"
    finally:
        os.close(reading)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"caf\xe9 au lait, s'il vous pla\xeet"])
def test_a_secret_that_is_not_text_is_refused(home: Path, text: bytes) -> None:
    with pytest.raises(LocalError, match="not text"):
        read_secret(_write_secret(home / "s", text))


def test_a_directory_is_no_secret_and_leaks_no_descriptor(home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LocalError, match="cannot read"):
        read_secret(str(home))
    assert len(os.listdir("/proc/self/fd")) == before


def _run(prefix: list[str], call: str, path: Path) -> str:
    """What `call` of this module says about `path`, run in a process of its own."""
    script = f"import sys; from xfer.auth import secret_files; secret_files.{call}(sys.argv[1])"
    command = [*prefix, sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    return done.stderr


def _without_privileges() -> list[str]:
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may read everything, and setpriv is not installed")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]


@pytest.mark.parametrize("call", ["read_secret", "create_secret"])
def test_permission_denied_is_a_local_error(home: Path, call: str) -> None:
    locked = home / "locked"
    locked.mkdir(mode=0o000)
    try:
        said = _run(_without_privileges(), call, locked / "s")
    finally:
        locked.chmod(0o700)
    assert re.search(
        r"^xfer\.errors\.LocalError: cannot .*: Permission denied$", said, re.MULTILINE
    )


def test_a_new_secret_is_whole_private_and_usable(home: Path) -> None:
    path = home / "made" / "below" / "secret"
    umask = os.umask(0)
    try:
        secret = create_secret(str(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0
    assert path.read_text() == secret + "\n"
    assert read_secret(str(path)) == secret
    assert len(derive_key(secret).secret) == 32


def test_two_secrets_differ(home: Path) -> None:
    assert create_secret(str(home / "1")) != create_secret(str(home / "2"))


def test_a_secret_without_a_directory_lands_in_the_current_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert create_secret("s") == (home / "s").read_text().strip()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link"])
def test_nothing_is_overwritten_by_a_new_secret(home: Path, kind: str) -> None:
    path, target = home / "secret", home / "target"
    match kind:
        case "file":
            path.write_text("mine")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(target)
    if kind == "link":
        target.write_text("mine")
    with pytest.raises(LocalError, match="not overwritten"):
        create_secret(str(path))
    assert path.is_dir() or kind == "dangling link" or path.read_text() == "mine"
    assert target.exists() == (kind == "link")


def test_a_secret_that_cannot_be_written_whole_is_not_left_behind(home: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(LocalError, match="cannot write"):
            create_secret(str(home / "s"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (home / "s").exists()
