"""The receiver under a service manager: its socket, what it reports, its units, its check-up."""

import configparser
import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.processes import (
    PATIENCE,
    Finished,
    Log,
    Site,
    assert_failed,
    end,
    environment,
    finish,
    run,
    start,
    unprivileged,
)

_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[2]))
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
"""What systemd does: the socket becomes descriptor 3, and the variables say whose it is."""


@contextlib.contextmanager
def activated(
    home: Path,
    given: socket.socket,
    *options: str,
    pid_offset: int = 0,
    **variables: str,
) -> Iterator[tuple[subprocess.Popen[bytes], Log]]:
    directory = home / "received"
    directory.mkdir(exist_ok=True)
    words = ["-m", "xfer", "receive", "--dir", str(directory), *options]
    command = [sys.executable, "-c", _ACTIVATE, str(given.fileno()), str(pid_offset), *words]
    env = environment(home) | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "xfer.socket"} | variables
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, pass_fds=[given.fileno()])
    assert process.stderr
    log = Log(process.stderr)
    try:
        yield process, log
    finally:
        end(process)
        log.join()


# Socket activation


@pytest.mark.parametrize(("family", "host"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")])
def test_who_connects_before_the_receiver_has_started_is_served(
    tmp_path: Path, document: Path, family: str, host: str
) -> None:
    with socket.create_server((host, 0), family=getattr(socket, family)) as given:
        port = given.getsockname()[1]
        sending = start(["send", document, f"[{host}]:{port}"], environment(tmp_path))
        with activated(tmp_path, given) as (_, log):
            assert finish(sending).code == 0
            log.wait_for(rf"listening on \S*{host}\S*:{port}\n")
    assert (tmp_path / "received" / document.name).read_bytes() == document.read_bytes()


def test_a_socket_that_is_meant_for_another_process_is_left_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        options = ["--bind", "127.0.0.1", "--port", "0"]
        with activated(tmp_path, given, *options, pid_offset=1) as (_, log):
            own = int(log.wait_for(r"listening on 127\.0\.0\.1:(\d+)\n")[1])
            assert own != given.getsockname()[1]


def test_no_child_inherits_the_socket_or_what_says_so(tmp_path: Path) -> None:
    script = """
import os, subprocess, sys
from xfer.daemon.systemd import ServiceManager, inherited
os.environ["LISTEN_PID"] = str(os.getpid())
ServiceManager()
assert inherited().getsockname()[1] == int(sys.argv[1])
child = "import os; print(sorted(v for v in os.environ if v[:6] in ('LISTEN', 'NOTIFY')), end='')"
child += "; os.path.exists('/proc/self/fd/3') and print(os.readlink('/proc/self/fd/3'))"
subprocess.run([sys.executable, "-c", child], close_fds=False)
"""
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = str(given.getsockname()[1])
        activate = _ACTIVATE.replace("LISTEN_PID", "IGNORED")
        done = subprocess.run(
            [sys.executable, "-c", activate, str(given.fileno()), "0", "-c", script, port],
            env=environment(tmp_path) | {"LISTEN_FDS": "1", "NOTIFY_SOCKET": "@x"},
            pass_fds=[given.fileno()],
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b"[]"), done


def not_listening() -> socket.socket:
    return socket.socket()


def datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@pytest.mark.parametrize("make", [not_listening, datagrams])
def test_a_socket_that_is_no_listening_one_is_a_local_problem(
    tmp_path: Path, make: type[socket.socket]
) -> None:
    with make() as given, activated(tmp_path, given) as (process, log):
        assert process.wait(PATIENCE) == 1
    assert log.text == "xfer: what the service manager gave is no listening TCP socket\n"


def test_two_sockets_are_one_too_many(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as given,
        activated(tmp_path, given, LISTEN_FDS="2") as (process, log),
    ):
        assert process.wait(PATIENCE) == 1
    assert log.text == "xfer: the service manager gave 2 sockets: one is enough\n"


# Notifications


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_hears_when_it_is_ready_and_when_it_stops(
    tmp_path: Path, kind: str
) -> None:
    name = (
        f"@xfer-test-{os.getpid()}-{tmp_path.name}" if kind == "abstract" else str(tmp_path / "n")
    )
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as given,
    ):
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(PATIENCE)
        with activated(tmp_path, given, NOTIFY_SOCKET=name) as (process, log):
            assert manager.recv(100) == b"READY=1"
            log.wait_for("listening on")
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(PATIENCE) == 0


def test_a_service_manager_that_does_not_listen_is_no_reason_to_fail(tmp_path: Path) -> None:
    nobody = str(tmp_path / "nobody")
    with (
        socket.create_server(("127.0.0.1", 0)) as given,
        activated(tmp_path, given, NOTIFY_SOCKET=nobody) as (process, log),
    ):
        log.wait_for("listening on")
        process.terminate()
        assert process.wait(PATIENCE) == 0


# Units


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


# The check-up


def check(
    home: Path, *options: str | Path, prefix: Sequence[str] = (), secret: str | None = "s" * 16
) -> Finished:
    command = ["receive", "--check", "--dir", home, "--bind", "127.0.0.1", "--port", "0", *options]
    return finish(start(command, environment(home, secret), prefix=prefix))


def failures(done: Finished) -> list[str]:
    """What is not in place. Every line says what it is about, and how it is."""
    lines = [line.split() for line in done.out.splitlines()]
    assert {line[0] for line in lines} <= {"ok", "FAILED"}
    assert lines[0][1] in ("secret", "keys")
    assert [line[1] for line in lines[1:]] == [
        "directory", "lock", "disk", "port", "identity", "clock", "descriptors",
    ]  # fmt: skip
    assert done.err == ""
    return [line[1] for line in lines if line[0] == "FAILED"]


def test_a_check_of_what_is_in_place_is_code_0_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert (done.code, failures(done)) == (0, [])
    assert list(tmp_path.iterdir()) == []


def test_a_check_before_the_first_start_says_what_is_missing(tmp_path: Path) -> None:
    done = check(tmp_path, secret=None)
    assert (done.code, failures(done)) == (1, ["secret"])
    assert list(tmp_path.iterdir()) == []


def test_a_check_beside_a_receiver_finds_lock_and_port_taken(nas: Site) -> None:
    done = check(nas.home, "--dir", nas.directory, "--port", str(nas.port))
    assert (done.code, failures(done)) == (1, ["lock", "port"])
    assert nas.process.poll() is None


def test_a_check_finds_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "read-only").mkdir(mode=0o555)
    done = check(tmp_path, "--dir", tmp_path / "read-only", prefix=unprivileged())
    assert (done.code, failures(done)) == (1, ["directory", "disk", "clock"])


def test_a_check_finds_a_secret_that_others_can_read_and_a_short_one(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("xfer-key-" + 43 * "A")
    secret.chmod(0o644)
    done = check(tmp_path, "--secret-file", secret)
    assert (done.code, failures(done)) == (1, ["secret"])
    assert "others can read" in done.out
    assert failures(check(tmp_path, secret="short")) == ["secret"]


def test_a_check_reads_the_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    old, new = (f'[{name}]\nsecret = "xfer-key-{43 * name}"\n' for name in "AB")
    keys.touch(0o600)
    keys.write_text(f"{old}expires = 2020-01-01\n{new}")
    done = check(tmp_path, "--keys", keys, secret=None)
    assert (done.code, failures(done)) == (0, [])
    assert "1 of 2 open" in done.out
    for text, said in ((f"{old}expires = 2020-01-01\n", "has expired"), ("[A]", "has no secret")):
        keys.write_text(text)
        done = check(tmp_path, "--keys", keys, secret=None)
        assert (done.code, failures(done)) == (1, ["keys"])
        assert said in done.out
    both = check(tmp_path, "--keys", keys, "--secret-file", "s")
    assert_failed(both, 2, "--secret-file or --keys, not both")


def test_a_check_finds_a_spoilt_identity_and_one_that_cannot_be_made(tmp_path: Path) -> None:
    state = tmp_path / "state" / "xfer"
    state.mkdir(parents=True)
    state.chmod(0o555)
    assert failures(check(tmp_path, prefix=unprivileged())) == ["identity"]
    state.chmod(0o755)
    (state / "identity.pem").write_text("spoilt")
    assert failures(check(tmp_path)) == ["identity"]
    assert failures(check(tmp_path, "--insecure-plaintext")) == []


def test_a_check_counts_descriptors(tmp_path: Path) -> None:
    prefix = ["prlimit", "--nofile=500:500"]
    assert failures(check(tmp_path, prefix=prefix)) == ["descriptors"]
    assert failures(check(tmp_path, "--max-connections", "10", prefix=prefix)) == []
