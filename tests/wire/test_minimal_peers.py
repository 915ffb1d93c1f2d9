"""The sender and the getter of few lines, which know of xfer only the wire page, and a receiver."""

import ast
import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"
SENDER, GETTER = FIXTURES / "minimal_sender.py", FIXTURES / "minimal_getter.py"
KEY = "xfer-key-" + base64.urlsafe_b64encode(bytes(range(224, 256))).decode().rstrip("=")
PASSPHRASE = "correct horse battery stäple"


@pytest.fixture(params=[KEY, PASSPHRASE], ids=["key", "passphrase"])
def secret(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_secret(tmp_path / "secret", request.param)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def port(secret: Path, store: Path, tmp_path: Path) -> Iterator[int]:
    """The port of a receiver in a process of its own."""
    command = [sys.executable, "-m", "xfer", "receive", "--bind", "127.0.0.1", "--port", "0"]
    private = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "conf")}
    with subprocess.Popen(
        [*command, "--dir", str(store), "--secret-file", str(secret), "--access", "read-write"],
        env=os.environ | private,
        stderr=subprocess.PIPE,
        text=True,
    ) as receiver:
        assert receiver.stderr is not None
        try:
            said = ""
            while not (found := re.search(r"listening on 127\.0\.0\.1:(\d+)\n", said)):
                line = receiver.stderr.readline()
                assert line, f"the receiver did not start: {said}"
                said += line
            yield int(found[1])
        finally:
            receiver.terminate()
            try:
                receiver.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                receiver.kill()


def write_secret(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


def send(path: Path, port: int, secret: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SENDER), str(path), "127.0.0.1", str(port), str(secret)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def get(name: str, port: int, secret: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GETTER), name, "127.0.0.1", str(port), str(secret)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=to)


def stored(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir() if path.name != ".xfer")


@pytest.mark.parametrize("size", [0, 1, 1_048_577])
def test_a_file_arrives(size: int, tmp_path: Path, store: Path, port: int, secret: Path) -> None:
    content = os.urandom(size)
    path = tmp_path / "a file"
    path.write_bytes(content)
    result = send(path, port, secret)
    assert (result.returncode, result.stderr) == (0, "")
    assert ast.literal_eval(result.stdout)["outcome"] == "stored"
    assert stored(store) == ["a file"]
    assert (store / "a file").read_bytes() == content


@pytest.mark.parametrize("size", [0, 1, 3 * 1_048_576 + 1])
def test_a_file_comes_back(size: int, tmp_path: Path, store: Path, port: int, secret: Path) -> None:
    (store / "docs").mkdir()
    (store / "docs" / "a file").write_bytes(content := os.urandom(size))
    result = get("docs/a file", port, secret, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert ast.literal_eval(result.stdout)["file_size"] == size
    assert (tmp_path / "a file").read_bytes() == content
    assert not (tmp_path / "a file.part").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "there is no nothing"), ("docs", "docs is no file")]
)
def test_what_is_no_file_does_not_come(
    name: str, said: str, tmp_path: Path, store: Path, port: int, secret: Path
) -> None:
    (store / "docs").mkdir()
    result = get(name, port, secret, tmp_path)
    assert (result.returncode, said in result.stderr) == (1, True)


@pytest.mark.parametrize("wrong", [KEY.replace("4", "5"), "not that passphrase"])
def test_a_wrong_secret_stores_nothing(
    wrong: str, tmp_path: Path, store: Path, port: int, secret: Path
) -> None:
    path = tmp_path / "a file"
    path.write_bytes(b"content")
    result = send(path, port, write_secret(tmp_path / "wrong", wrong))
    assert result.returncode == 1
    assert "auth_failed" in result.stderr
    assert result.stdout == ""
    assert stored(store) == []


def test_a_refusal_is_told(tmp_path: Path, store: Path, port: int, secret: Path) -> None:
    path = tmp_path / ".xfer"
    path.write_bytes(b"content")
    result = send(path, port, secret)
    assert result.returncode == 1
    assert ast.literal_eval(result.stdout)["code"] == "bad_name"
    assert stored(store) == []


@pytest.mark.parametrize(("peer", "lines"), [(SENDER, 40), (GETTER, 60)])
def test_they_are_small_and_need_python_alone(peer: Path, lines: int) -> None:
    text = peer.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= lines
    imported: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
    assert imported
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
