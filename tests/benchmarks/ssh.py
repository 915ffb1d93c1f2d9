"""scp and rsync over an sshd of our own, with keys and configuration of its own."""

import contextlib
import getpass
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks.contender import Contender, Line, Workspace, program
from tests.benchmarks.processes import BenchmarkError, Command, free_port

SCP: Final = "scp"
RSYNC: Final = "rsync over ssh"
_SERVER_CONFIGURATION: Final = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""
_CLIENT_CONFIGURATION: Final = """\
Host receiver
HostName 127.0.0.1
Port {port}
User {user}
IdentityFile {directory}/user_key
IdentitiesOnly yes
UserKnownHostsFile {directory}/known_hosts
GlobalKnownHostsFile none
StrictHostKeyChecking yes
BatchMode yes
ControlMaster no
ControlPath none
LogLevel ERROR
"""


@contextlib.contextmanager
def over_ssh(workspace: Workspace) -> Iterator[list[Contender]]:
    """Each contender logs in for itself, as it would from cron."""
    sshd, ssh, keygen = program("sshd"), program("ssh"), program("ssh-keygen")
    directory = workspace.directory / "ssh"
    directory.mkdir()
    port = free_port()
    for key in ("host_key", "user_key"):
        workspace.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", directory / key])
    known = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}")
    fields = {"directory": directory, "port": port, "user": getpass.getuser()}
    server_file, client_file = directory / "sshd_config", directory / "ssh_config"
    server_file.write_text(_SERVER_CONFIGURATION.format(**fields))
    client_file.write_text(_CLIENT_CONFIGURATION.format(**fields))
    _make_what_sshd_misses(workspace, [sshd, "-t", "-f", server_file])

    login = shlex.join([ssh, "-F", str(client_file)])
    daemon: Command = [sshd, "-D", "-e", "-f", server_file]
    with workspace.start(daemon) as server:
        server.wait_for_port(port)
        yield [
            _client(workspace, SCP, ["scp", "-F", str(client_file), "-r"]),
            _client(workspace, RSYNC, ["rsync", "-a", "-e", login]),
        ]


def _client(workspace: Workspace, name: str, command: list[str]) -> Contender:
    def ready(destination: Path) -> contextlib.AbstractContextManager[Line]:
        installed_as = program(command[0])

        def send(source: Path) -> None:
            workspace.run([installed_as, *command[1:], source, f"receiver:{destination}/"])

        return contextlib.nullcontext(Line(send))

    return Contender(name, ready, skips=name != SCP)


def _make_what_sshd_misses(workspace: Workspace, check: Command) -> None:
    """Root's sshd wants an empty directory that else its service makes at every boot.

    It stays, since another sshd may have come to use it.
    """
    with workspace.start(check) as checked:
        with contextlib.suppress(BenchmarkError):
            checked.succeed(workspace.timeout)
        if missing := re.search(r"Missing privilege separation directory: (\S+)", checked.said):
            Path(missing[1]).mkdir(mode=0o755)
