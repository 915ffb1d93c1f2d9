"""The README is true to the letter: its commands run, and print what it shows."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.benchmarks import options
from tests.support.processes import Log, end, environment, receiving
from xfer.auth.keyring import Keyring
from xfer.cli.commands import get, keygen, receive, send
from xfer.cli.commands import list as list_command
from xfer.errors import RETRYABLE, XferError

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *(ROOT / page for page in ("tests/README.md", "tests/benchmarks/README.md")),
         ROOT / "fixtures/wire/README.md"]  # fmt: skip
MOST_LINES = 250
"""Who reads it has two minutes."""


def inline(start: str) -> list[str]:
    """The commands that stand in a sentence and begin like this."""
    text = re.sub(r"^```.*?^```", "", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [
        code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", text) if code.startswith(start)
    ]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def masked(text: str) -> str:
    """What stays the same from machine to machine."""
    text = re.sub(r"[\d.]+ (B|KiB|MiB|GiB)\b", "SIZE", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z \S+:\d+ ", "TIME PEER ", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z(?= \d)", "TIME", text)
    text = re.sub(r"\d{8}T\d{6}\.\d{6}Z", "STAMP", text)
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


@contextlib.contextmanager
def receiving_as_shown(command: str, env: dict[str, str], cwd: Path) -> Iterator[tuple[str, Log]]:
    """The address and the log of a receiver that a command of the README starts in `cwd`."""
    command = f"exec {command.strip().replace('/srv/', '')} --bind 127.0.0.1 --port 0"
    receiver = subprocess.Popen(["sh", "-c", command], env=env, cwd=cwd, stderr=subprocess.PIPE)
    assert receiver.stderr
    log = Log(receiver.stderr)
    try:
        yield "127.0.0.1:" + log.wait_for(r"listening on .*:(\d+)")[1], log
    finally:
        end(receiver)
        log.join()


def test_the_session_prints_what_the_readme_shows(env: dict[str, str], tmp_path: Path) -> None:
    there, here = blocks("console")
    (tmp_path / "backup").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("hello world\n")
    (tmp_path / "report.pdf").write_bytes(bytes(181402))
    command = there.splitlines()[0].removeprefix("$ ")
    with receiving_as_shown(command, env, tmp_path) as (host, log):
        for shown in re.split(r"^\$ ", here, flags=re.MULTILINE)[1:]:
            sent, _, printed = shown.partition("\n")
            really = run(sent.replace("nas", host), env, tmp_path)
            assert masked(really.replace(host, "nas:9337")) == masked(printed)
        for line in map(masked, there.splitlines()[-3:]):
            log.wait_for(re.escape(line).replace("TIME\\ PEER", r"\S+ \S+").replace("NUMBER", ".*"))
        check_cron(env, tmp_path, host)


def check_cron(env: dict[str, str], tmp_path: Path, host: str) -> None:
    (line,) = [block for block in blocks("sh") if "photos.log" in block]
    (tmp_path / "photos").mkdir()
    assert run(line.replace("/srv/", "").replace("nas", host), env, tmp_path) == ""
    assert '"exit_code": 0' in (tmp_path / "photos.log").read_text()
    nowhere = line.replace("/srv/", "").replace("nas", "127.0.0.1:1 --retry-for 0")
    failed = run(nowhere, env, tmp_path)
    assert failed.startswith("backup failed: 4\n")


def test_keygen_as_shown_makes_a_secret(env: dict[str, str], tmp_path: Path) -> None:
    (line,) = inline("xfer keygen")
    assert "a new secret is in backup.secret" in run(line, env, tmp_path)
    assert (tmp_path / "backup.secret").read_text().startswith("xfer-key-")


def test_keys_as_shown_let_a_client_in(env: dict[str, str], tmp_path: Path) -> None:
    (block,) = [block for block in blocks("sh") if "--keys" in block]
    keygen, receive = block.replace("/srv/", "").splitlines()
    assert "xfer send --key-id alice FILE HOST" in run(keygen, env, tmp_path)
    (tmp_path / "backup").mkdir()
    (tmp_path / "a.txt").write_text("hello world\n")
    secret = tomllib.loads((tmp_path / "clients.toml").read_text())["alice"]["secret"]
    with receiving_as_shown(receive, env, tmp_path) as (host, _):
        client = env | {"XFER_KEY_ID": "alice", "XFER_SECRET": secret}
        assert "on disk at" in run(f"xfer send a.txt {host}", client, tmp_path)


def test_workers_as_shown_receive(env: dict[str, str], tmp_path: Path) -> None:
    (line,) = [line for line in inline("xfer receive") if "--workers" in line]
    (tmp_path / "backup").mkdir()
    (tmp_path / "a.txt").write_text("hello world\n")
    env |= {"XFER_SECRET": "a secret that is long enough"}
    with receiving_as_shown(line, env, tmp_path) as (host, log):
        assert "on disk at" in run(f"xfer send a.txt {host}", env, tmp_path)
        log.wait_for("4 workers receive")


def test_the_keys_file_is_one(env: dict[str, str], tmp_path: Path) -> None:
    (example,) = blocks("toml")
    for name, text in (("keys", example), ("bob.secret", "a" * 16), ("bob.before", "b" * 16)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    grants = Keyring(str(tmp_path / "keys")).current()
    assert [len(grant.keys) for grant in grants.values()] == [1, 2]


CHECKED = """\
ok      secret       is there, and nobody else can read it
ok      directory    backup can be written; SIZE are free
ok      lock         no receiver has ever used the directory
ok      disk         a flush takes NUMBER
ok      port         NUMBER
ok      identity     the first start will make one in STATE/xfer
ok      clock        it is NUMBER
ok      descriptors  2148 may be needed at once, and so many are allowed
exit code 0
"""


def test_the_check_says_that_all_is_in_place(env: dict[str, str], tmp_path: Path) -> None:
    line, *_ = service_commands()
    (tmp_path / "backup").mkdir()
    own = env | {"XFER_SECRET": "a secret that is long enough"}
    printed = run(f"{line} --bind 127.0.0.1 --port 0 && echo exit code $?", own, tmp_path)
    printed = masked(printed).replace(str(tmp_path / "state"), "STATE")
    assert re.sub(r"[\d.]+ ms|\d+ is free|[\d:TZ-]{20}", "NUMBER", printed) == CHECKED
    assert not list((tmp_path / "backup").iterdir())


def test_the_readme_names_all_that_is_checked() -> None:
    (listed,) = re.findall(r"everything is in place: ([^.]+)\.", README.read_text())
    checked = re.findall(r"^ok +(\w+)", CHECKED, re.MULTILINE)
    assert all(name in listed for name in checked)
    assert len(checked) == len(listed.split(","))


def test_the_units_are_printed_as_shown(env: dict[str, str], tmp_path: Path) -> None:
    _, *lines = service_commands()
    assert run("\n".join(lines), env, tmp_path) == ""
    assert "[Service]" in (tmp_path / "xfer.service").read_text()
    assert "[Socket]" in (tmp_path / "xfer.socket").read_text()


def service_commands() -> list[str]:
    (block,) = [block for block in blocks("sh") if "--print-unit" in block]
    return block.replace("/srv/", "").splitlines()


def test_json_is_printed_as_shown(tmp_path: Path) -> None:
    (block,) = blocks("json")
    (tmp_path / "docs").mkdir()
    for name in ("docs/a.txt", "x.txt"):
        (tmp_path / name).write_text("hello world\n")
    with receiving(tmp_path / "there", "--if-exists", "refuse") as site:
        (site.directory / "x.txt").write_text("other content\n")
        done = site.send("--json", tmp_path / "docs", tmp_path / "x.txt")
    shown, printed = by_kind(map(json.loads, block.splitlines())), by_kind(done.records)
    for kind, line in shown.items():
        assert printed[kind] | {"seconds": 0} == line | {"seconds": 0}
    assert done.code == shown["summary"]["exit_code"]


def by_kind(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By type and outcome."""
    return {line["type"] + line.get("outcome", ""): line for line in lines}


def test_the_exit_codes_are_those_of_the_errors() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| .* \|(.*)\|$", README.read_text(), re.MULTILINE))
    kinds: set[type[XferError]] = {kind for kind in every(XferError) if "exit_code" in vars(kind)}
    assert set(map(int, rows)) == {0} | {kind.exit_code for kind in kinds}
    for kind in kinds - {XferError}:
        answer = rows[str(kind.exit_code)].strip()
        decides_itself = answer == "see `retryable`"
        assert decides_itself or (answer == "yes") is (kind.default_code in RETRYABLE)


def every(kind: type[XferError]) -> Iterator[type[XferError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from every(derived)


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
    assert [line.split()[0] for line in lines] == 2 * ["python3"] + 6 * ["xfer"]
    assert len(blocks("console")) == 2
    run_above = {"xfer keygen backup.secret", "xfer receive --dir /srv/backup --workers 4"}
    only_named = {"xfer send --connections N", "xfer receive --no-fsync", "xfer receive"}
    placeholders = {"xfer COMMAND --help", "xfer list [NAME…] HOST", "xfer get NAME… HOST"}
    placeholders |= {"xfer send --snapshot JOB", "xfer get"}
    assert set(inline("xfer ")) == run_above | only_named | placeholders


def test_every_option_that_the_readme_names_is_one() -> None:
    parameters = [
        parameter
        for command in (keygen, receive, send, get, list_command)
        for parameter in typer.main.get_command(command.app).params
    ]
    known = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    commands = [line for block in blocks("sh") for line in block.splitlines() if "xfer " in line]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(commands[1:] + inline(""))))
    assert named <= known | {"--help", "--now"}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MOST_LINES


def test_the_packages_that_the_readme_names_are_there() -> None:
    opening = README.read_text().partition("\n## ")[0]
    named = {path.rstrip("/") for path in re.findall(r"`([a-z]+/)`", opening)} - {"xfer"}
    named |= {path.partition("/")[0] for path in re.findall(r"`([a-z]+/\w+\.py)`", opening)}
    packages = {file.parent.name for file in (ROOT / "xfer").glob("*/__init__.py")}
    assert named == packages - {"system", "config"}
    assert all(
        (ROOT / "xfer" / path).exists() for path in re.findall(r"`([a-z]+/\w+\.py)`", opening)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
        assert not heading or heading in [title.lower().replace(" ", "-") for title in headings], (
            target
        )


def test_the_commands_that_measure_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "tests/benchmarks/README.md").read_text()
    shown = re.findall(r"^\.venv/bin/python -m tests\.benchmarks(.*)$", page, re.MULTILINE)
    assert len(shown) >= 4
    for words in shown:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *shlex.split(words, comments=True)])
        options.parse()
