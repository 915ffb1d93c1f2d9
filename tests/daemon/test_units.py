"""The units that `--print-unit` prints: systemd takes them, and they do what was asked for."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import (
    Log,
    assert_failed,
    end,
    environment,
    run,
)


def print_units(home: Path, directory: str, *options: str) -> dict[str, Path]:
    units = {}
    for unit in ("service", "socket"):
        done = run(home, "receive", "--dir", directory, *options, "--print-unit", unit)
        assert (done.code, done.err) == (0, "")
        units[unit] = home / f"xfer.{unit}"
        units[unit].write_text(done.out)
    return units


def parsed(unit: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    parser.read(unit)
    return parser


@pytest.mark.parametrize("directory", ["/srv/backup", '/srv/my 100% "own" $HOME;'])
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path, directory: str) -> None:
    units = print_units(tmp_path, directory)
    marks = re.compile(r"@[A-Z]+@")
    assert not any(marks.search(unit.read_text()) for unit in units.values())
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not here to be asked")
    checked = subprocess.run(
        [tool, "verify", *map(str, units.values())], capture_output=True, text=True, check=False
    )
    complaints = [line for line in checked.stderr.splitlines() if str(tmp_path) in line]
    assert (checked.returncode, complaints) == (0, [])


def test_the_service_is_hardened(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not here to be asked")
    service = print_units(tmp_path, "/srv/backup")["service"]
    words = [tool, "security", "--offline=true", "--threshold=30", "--no-pager", str(service)]
    judged = subprocess.run(words, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout


def test_the_command_of_the_unit_serves(tmp_path: Path, document: Path) -> None:
    (tmp_path / "received").mkdir()
    assert run(tmp_path, "keygen", tmp_path / "secret").code == 0
    options = ["--bind", "127.0.0.1", "--port", "0", "--secret-file", str(tmp_path / "secret")]
    service = parsed(print_units(tmp_path, str(tmp_path / "received"), *options)["service"])
    command = shlex.split(service["Service"]["ExecStart"])
    process = subprocess.Popen(
        command, env=environment(tmp_path, None), cwd="/", stderr=subprocess.PIPE
    )
    assert process.stderr
    log = Log(process.stderr)
    try:
        port = log.wait_for(r"listening on 127\.0\.0\.1:(\d+)\n")[1]
        secret = str(tmp_path / "secret")
        sent = run(
            tmp_path, "send", "--secret-file", secret, document, f"127.0.0.1:{port}", secret=None
        )
        assert sent.code == 0
    finally:
        end(process)
        log.join()


def test_the_unit_has_every_option_that_was_given(tmp_path: Path) -> None:
    options = ["--quota", "20G", "--no-fsync", "--min-rate", "1K", "--keys", "clients.toml", "-q"]
    printed = print_units(tmp_path, "/srv", *options)["service"].read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", printed, re.MULTILINE)
    keys = os.path.abspath("clients.toml")
    assert shlex.split(command)[4:] == [
        "--dir", "/srv", "--keys", keys, "--no-fsync", "--quota", "20G", "--min-rate", "1K",
        "--quiet",
    ]  # fmt: skip


def test_a_unit_is_reloaded_where_there_are_keys_to_reload(tmp_path: Path) -> None:
    for options, reloads in ((["--keys", "k"], "/bin/kill -HUP $MAINPID"), ([], None)):
        unit = parsed(print_units(tmp_path, "/srv", *options)["service"])
        assert unit["Service"].get("ExecReload") == reloads


def test_the_socket_listens_where_the_receiver_would(tmp_path: Path) -> None:
    assert parsed(print_units(tmp_path, "/srv")["socket"])["Socket"]["ListenStream"] == "9337"
    units = print_units(tmp_path, "/srv", "--bind", "::1", "--port", "9000")
    assert parsed(units["socket"])["Socket"]["ListenStream"] == "[::1]:9000"


def test_a_name_that_a_unit_cannot_hold_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "receive", "--dir", "a\nExecStartPre=x", "--print-unit", "service")
    assert_failed(done, 1, "systemd's units cannot hold this name")
