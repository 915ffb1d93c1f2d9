"""The README is true to the letter: its commands run, and print what it shows."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.processes import Log, end, environment
from xfer.auth.keyring import Keyring

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def masked(text: str) -> str:
    """What stays the same from machine to machine."""
    text = re.sub(r"[\d.]+ (B|KiB|MiB|GiB)\b", "SIZE", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z \S+:\d+ ", "TIME PEER ", text)
    return re.sub(r"\d+ bytes|\d+\.\d+ s", "NUMBER", text)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and an `xfer` on the path."""
    tool = tmp_path / "bin" / "xfer"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m xfer "$@"\n')
    tool.chmod(0o755)
    own = environment(tmp_path, None)
    return own | {"PATH": f"{tool.parent}:{os.environ['PATH']}"}


def run(command: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        ["sh", "-c", command], env=env, cwd=cwd, check=False, capture_output=True, timeout=30
    )
    return (done.stdout + done.stderr).decode()


def test_the_session_prints_what_the_readme_shows(env: dict[str, str], tmp_path: Path) -> None:
    there, here, _ = blocks("console")
    (tmp_path / "backup").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("hello world\n")
    (tmp_path / "report.pdf").write_bytes(bytes(181402))
    command = there.splitlines()[0].removeprefix("$ ").replace("/srv/backup", "backup")
    receiver = subprocess.Popen(
        ["sh", "-c", f"exec {command} --bind 127.0.0.1 --port 0"],
        env=env, cwd=tmp_path, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert receiver.stderr
    log = Log(receiver.stderr)
    try:
        host = "127.0.0.1:" + log.wait_for(r"listening on .*:(\d+)")[1]
        for shown in re.split(r"^\$ ", here, flags=re.MULTILINE)[1:]:
            sent, _, printed = shown.partition("\n")
            really = run(sent.replace("nas", host), env, tmp_path)
            assert masked(really.replace(host, "nas:9337")) == masked(printed)
        for line in map(masked, there.splitlines()[-3:]):
            log.wait_for(re.escape(line).replace("TIME\\ PEER", r"\S+ \S+").replace("NUMBER", ".*"))
        check_cron(env, tmp_path, host)
    finally:
        end(receiver)
        log.join()


def check_cron(env: dict[str, str], tmp_path: Path, host: str) -> None:
    (line,) = [block for block in blocks("sh") if "photos.log" in block]
    (tmp_path / "photos").mkdir()
    assert run(line.replace("/srv/", "").replace("nas", host), env, tmp_path) == ""
    assert '"exit_code": 0' in (tmp_path / "photos.log").read_text()
    nowhere = line.replace("/srv/", "").replace("nas", "127.0.0.1:1 --retry-for 0")
    failed = run(nowhere, env, tmp_path)
    assert failed.startswith("backup failed: 4\n")


def test_keygen_as_shown_makes_a_secret(env: dict[str, str], tmp_path: Path) -> None:
    (line,) = [block for block in blocks("sh") if "keygen backup.secret" in block]
    assert "a new secret is in backup.secret" in run(line, env, tmp_path)
    assert (tmp_path / "backup.secret").read_text().startswith("xfer-key-")


def test_keys_as_shown_let_a_client_in(env: dict[str, str], tmp_path: Path) -> None:
    (block,) = [block for block in blocks("sh") if "--keys" in block]
    keygen, receive = block.replace("/srv/", "").splitlines()
    assert "xfer send --key-id alice FILE HOST" in run(keygen, env, tmp_path)
    (tmp_path / "backup").mkdir()
    (tmp_path / "a.txt").write_text("hello world\n")
    secret = tomllib.loads((tmp_path / "clients.toml").read_text())["alice"]["secret"]
    receiver = subprocess.Popen(
        ["sh", "-c", f"exec {receive} --bind 127.0.0.1 --port 0"],
        env=env, cwd=tmp_path, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert receiver.stderr
    log = Log(receiver.stderr)
    try:
        host = "127.0.0.1:" + log.wait_for(r"listening on .*:(\d+)")[1]
        client = env | {"XFER_KEY_ID": "alice", "XFER_SECRET": secret}
        assert "verified and on disk" in run(f"xfer send a.txt {host}", client, tmp_path)
    finally:
        end(receiver)
        log.join()


def test_workers_as_shown_receive(env: dict[str, str], tmp_path: Path) -> None:
    (line,) = [block for block in blocks("sh") if "--workers" in block]
    (tmp_path / "backup").mkdir()
    (tmp_path / "a.txt").write_text("hello world\n")
    command = f"exec {line.strip().replace('/srv/', '')} --bind 127.0.0.1 --port 0"
    env |= {"XFER_SECRET": "a secret that is long enough"}
    receiver = subprocess.Popen(
        ["sh", "-c", command], env=env, cwd=tmp_path, stderr=subprocess.PIPE
    )
    assert receiver.stderr
    log = Log(receiver.stderr)
    try:
        host = "127.0.0.1:" + log.wait_for(r"listening on .*:(\d+)")[1]
        assert "verified and on disk" in run(f"xfer send a.txt {host}", env, tmp_path)
        log.wait_for("4 workers receive")
    finally:
        end(receiver)
        log.join()


def test_the_keys_file_is_one(env: dict[str, str], tmp_path: Path) -> None:
    (example,) = blocks("toml")
    for name, text in (("keys", example), ("bob.secret", "a" * 16), ("bob.before", "b" * 16)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    grants = Keyring(str(tmp_path / "keys")).current()
    assert [len(grant.keys) for grant in grants.values()] == [1, 2]


def test_the_check_prints_what_the_readme_shows(env: dict[str, str], tmp_path: Path) -> None:
    *_, shown = blocks("console")
    command, _, printed = shown.removeprefix("$ ").partition("\n")
    (tmp_path / "backup").mkdir()
    secret = {"XFER_SECRET": "a secret that is long enough"}
    options = "--bind 127.0.0.1 --port 0"
    really = run(f"{command.replace('/srv/', '')} {options}", env | secret, tmp_path)
    own_paths = {"backup": "/srv/backup", str(tmp_path / "state"): "/home/ann/.local/state"}
    for own, generic in own_paths.items():
        really = really.replace(own, generic)

    def without_numbers(text: str) -> str:
        return re.sub(r"[\d.]+ ms|\d+ is free|[\d:TZ-]{20}", "NUMBER", masked(text))

    assert without_numbers(really) == without_numbers(printed)


def test_the_units_are_printed_as_shown(env: dict[str, str], tmp_path: Path) -> None:
    (block,) = [block for block in blocks("sh") if "--print-unit" in block]
    assert run(block, env, tmp_path) == ""
    assert "[Service]" in (tmp_path / "xfer.service").read_text()
    assert "[Socket]" in (tmp_path / "xfer.socket").read_text()


def test_the_library_example_runs(env: dict[str, str], tmp_path: Path) -> None:
    (example,) = blocks("python")
    for directory in ("received", "docs"):
        (tmp_path / directory).mkdir()
    (tmp_path / "docs" / "a.txt").write_text("hello world\n")
    (tmp_path / "example.py").write_text(example)
    printed = run(f"{shlex.quote(sys.executable)} example.py", env, tmp_path).splitlines()
    assert printed == [
        "docs/a.txt 12 6f5902ac237024bdd0c176cb93063dc4 stored",
        "docs 0  stored",
    ]
    assert (tmp_path / "received" / "docs" / "a.txt").read_text() == "hello world\n"


def test_every_command_line_of_the_readme_is_known_here() -> None:
    """The two that set everything up are run by the project's checks; the rest above."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == 2 * ["python3"] + 7 * ["xfer"]
    assert len(blocks("console")) == 3
