"""The receiver under a service manager: the socket that it gets, and what it reports."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import (
    PATIENCE,
    Log,
    end,
    environment,
    finish,
    start,
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
