"""The contenders that xfer is compared with: rsync's daemon, tar, md5sum, and what `ssh` has."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.contender import Contender, Line, Unavailable, Workspace, program
from tests.benchmarks.processes import Command, free_port
from tests.benchmarks.ssh import RSYNC, SCP, over_ssh

_RSYNC_DAEMON: Final = "rsync daemon"
FLUSHED_RSYNC: Final = "flushed rsync daemon"
_TAR: Final = "tar through nc"
_MD5SUM: Final = "md5sum"
_RSYNCD_CONFIGURATION: Final = """\
address = 127.0.0.1
use chroot = no
munge symlinks = no
reverse lookup = no
log file = {directory}/rsyncd.log
{identity}
[destinations]
path = {destinations}
read only = no
auth users = benchmark
secrets file = {directory}/rsyncd.secrets
"""


@contextlib.contextmanager
def rsync_daemon(workspace: Workspace) -> Iterator[list[Contender]]:
    """`rsync -a` to a daemon that asks for a secret: unencrypted, and no digest is compared."""
    rsync = program("rsync")
    secret = secrets.token_hex()
    password_file = _write_private(workspace.directory / "rsync.password", secret)
    _write_private(workspace.directory / "rsyncd.secrets", f"benchmark:{secret}\n")
    configuration = _write_private(
        workspace.directory / "rsyncd.conf",
        _RSYNCD_CONFIGURATION.format(
            directory=workspace.directory,
            destinations=workspace.destinations,
            # Only root's daemon would become somebody else.
            identity=f"uid = {os.getuid()}\ngid = {os.getgid()}" if not os.geteuid() else "",
        ),
    )
    port = free_port()

    def contender(name: str, *options: str) -> Contender:
        def ready(destination: Path) -> contextlib.AbstractContextManager[Line]:
            url = f"rsync://benchmark@127.0.0.1:{port}/destinations/{destination.name}/"

            def send(source: Path) -> None:
                words: Command = ["-a", *options, "--password-file", password_file, source, url]
                workspace.run([rsync, *words])

            return contextlib.nullcontext(Line(send))

        return Contender(name, ready)

    daemon = [rsync, "--daemon", "--no-detach", f"--config={configuration}", f"--port={port}"]
    with workspace.start(daemon) as server:
        server.wait_for_port(port)
        yield [contender(_RSYNC_DAEMON), contender(FLUSHED_RSYNC, "--fsync")]


@contextlib.contextmanager
def tar_through_nc(workspace: Workspace) -> Iterator[list[Contender]]:
    """The floor: nothing but reading, a connection and writing."""
    tar, nc = program("tar"), program("nc")
    with workspace.start([nc, "-h"]) as asked:
        asked.succeed(workspace.timeout)
        if "OpenBSD" not in asked.said:
            raise Unavailable("nc is not OpenBSD's, and others know other options")

    @contextlib.contextmanager
    def ready(destination: Path) -> Iterator[Line]:
        port = str(free_port())
        listen = [nc, "-d", "-l", "-v", "127.0.0.1", port]
        with (
            workspace.start(listen, is_read=True) as listener,
            workspace.start([tar, "-xf", "-", "-C", destination], reads=listener) as unpacker,
        ):
            listener.wait_for("(?i)listening on")

            def send(source: Path) -> None:
                pack: Command = [tar, "-C", source.parent, "-cf", "-", source.name]
                connect = [nc, "-N", "127.0.0.1", port]
                with (
                    workspace.start(pack, is_read=True) as packer,
                    workspace.start(connect, reads=packer) as connector,
                ):
                    # The others only fail after this one.
                    for child in (connector, packer, listener, unpacker):
                        child.succeed(workspace.timeout)

            yield Line(send)

    yield [Contender(_TAR, ready, skips=False)]


@contextlib.contextmanager
def md5sum(workspace: Workspace) -> Iterator[list[Contender]]:
    """What the digest alone takes: no connection, nothing written."""
    find, digest = program("find"), program("md5sum")

    def ready(_destination: Path) -> contextlib.AbstractContextManager[Line]:
        def send(source: Path) -> None:
            workspace.run([find, source, "-type", "f", "-exec", digest, "{}", "+"])

        return contextlib.nullcontext(Line(send))

    yield [Contender(_MD5SUM, ready, skips=False, stores=False)]


Peer = Callable[[Workspace], contextlib.AbstractContextManager[list[Contender]]]
"""Starts what its contenders share, and ends it. Unavailable if it cannot be had here."""

PEERS: Final[Mapping[tuple[str, ...], Peer]] = {
    (_RSYNC_DAEMON, FLUSHED_RSYNC): rsync_daemon,
    (SCP, RSYNC): over_ssh,
    (_TAR,): tar_through_nc,
    (_MD5SUM,): md5sum,
}
"""By the names of the contenders of each."""


def _write_private(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file
