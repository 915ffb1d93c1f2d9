"""The command line: `xfer keygen`, `receive`, `send` and `demo`."""

import contextlib
import logging
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from types import FrameType
from typing import Annotated

import typer

from xfer import (
    __version__,
    auth,
    config,
    demonstration,
    handover,
    options,
    private,
    retry,
    tree,
)
from xfer.api import Receiver
from xfer.connection import Target
from xfer.console import is_terminal, say
from xfer.errors import Cancelled, LocalError, UsageError, XferError
from xfer.progress import Bar
from xfer.report import Report
from xfer.retry import RETRY_SECONDS, Job
from xfer.sender import Options
from xfer.storage import IfExists
from xfer.storage.local import PARTIAL_DAYS

app = typer.Typer(
    help="Send files to a machine of yours: encrypted, verified, never half-written.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Checksum(StrEnum):
    MD5 = "md5"
    BLAKE3 = "blake3"


SecretFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Read the secret from FILE, which only you may be able to read. Without it: "
        "XFER_SECRET, else xfer/secret in your configuration directory.",
    ),
]
Plaintext = Annotated[
    bool,
    typer.Option(
        "--insecure-plaintext",
        help="Leave TLS out (both sides): whoever is on the way can read and change everything.",
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Give up when nothing moves for so long.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]


def main() -> None:
    """The console script. Ends the process with the exit code of the command."""
    private.keep_out_of_core_files()
    app(prog_name="xfer")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"xfer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: xfer keygen ~/.config/xfer/secret")
def keygen(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Where to; your configuration directory if left out."),
    ] = None,
    key_id: options.NewKeyId = None,
    keys: options.NewKeysFile = None,
) -> None:
    """Make a new secret in FILE, which must not exist. Give the other machine a copy.

    With --id NAME --keys FILE: add a key for one more client to a receiver's keys.
    """
    with _exit_codes():
        if key_id is not None or keys is not None:
            handover.add_key(file, key_id, keys)
            return
        target = file or config.default_secret_file()
        config.create_secret(target)
        say(f"a new secret is in {target}; copy that file to the other machine")


@app.command(epilog="Example: xfer receive --dir /srv/backup")
def receive(
    directory: Annotated[
        str, typer.Option("--dir", metavar="DIR", help="Where files are stored. Must exist.")
    ],
    bind: Annotated[
        str, typer.Option(metavar="ADDR", help="Listen on this address only; on all without it.")
    ] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes any that is free.")
    ] = config.DEFAULT_PORT,
    secret_file: SecretFile = None,
    keys: options.KeysFile = None,
    if_exists: Annotated[
        IfExists,
        typer.Option(
            help="What to do with other content under a name: keep it as a version in "
            "DIR/.xfer/versions, refuse the new one, or replace it for good."
        ),
    ] = IfExists.VERSION,
    partial_days: Annotated[
        float,
        typer.Option(min=0.0, metavar="DAYS", help="Keep what is left of interrupted files for."),
    ] = PARTIAL_DAYS,
    fsync: Annotated[
        bool,
        typer.Option(
            help="Flush to disk before a receipt. Without it a crash can take files that have one."
        ),
    ] = True,
    max_file_size: options.MaxFileSize = None,
    max_files: options.MaxFiles = None,
    quota: options.Quota = None,
    min_free: options.MinFree = None,
    timeout: Timeout = 60.0,
    insecure_plaintext: Plaintext = False,
    quiet: Quiet = False,
) -> None:
    """Receive files into DIR, from everybody who holds the secret, until stopped."""
    with _exit_codes():
        if keys is not None and secret_file is not None:
            raise UsageError("a receiver takes --secret-file or --keys, not both")
        limits = options.limits(max_file_size, max_files, quota, min_free)
        _log_to_standard_error(logging.WARNING if quiet else logging.INFO)
        _allow_many_descriptors()
        if keys is None:
            secret = config.find_secret(secret_file)
            secret = handover.first_secret(directory) if secret is None else secret
        else:
            secret = None
            # Before there is any other thread, which would be ended by it.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        receiver = Receiver(
            directory,
            secret=secret,
            keys=keys,
            bind=bind,
            port=port,
            if_exists=if_exists,
            timeout=timeout,
            insecure_plaintext=insecure_plaintext,
            partial_days=partial_days,
            fsync=fsync,
            limits=limits,
        )
        with receiver:
            if keys is not None:
                _reload_on_hang_up(receiver)
            _stop_on_signals(receiver)
            _announce(receiver, directory, insecure_plaintext)
            receiver.serve_forever()
            say("stopping: what is arriving may finish")


@app.command(epilog="Example: xfer send report.pdf photos/ nas")
def send(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, directories, or - with --name.")
    ],
    host: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Where `xfer receive` runs.")],
    name: Annotated[
        str | None, typer.Option(help="What standard input (-) is to be stored as.")
    ] = None,
    secret_file: SecretFile = None,
    key_id: options.KeyId = None,
    checksum: Annotated[
        Checksum, typer.Option(help="blake3 is faster; the receiver needs it too.")
    ] = Checksum.MD5,
    checksum_all: Annotated[
        bool,
        typer.Option("--checksum-all", help="Skip files by content, not by size and time."),
    ] = False,
    retry_for: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="Try again until nothing has got any further for so long; 0 for never.",
        ),
    ] = RETRY_SECONDS,
    timeout: Timeout = 60.0,
    insecure_plaintext: Plaintext = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each file, then a summary.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Send files and directories. Exit code 0 means: verified, and on the receiver's disk."""
    with _exit_codes():
        secret = config.find_secret(secret_file)
        if secret is None:
            raise LocalError(
                "no secret: copy the receiver's to "
                f"{config.default_secret_file()} (chmod 600), or set {config.SECRET_VARIABLE}"
            )
        _allow_many_descriptors()
        address = config.parse_address(host)
        tree.check(paths, name)
        key = auth.derive_key(secret)
        known_as = config.find_key_id(key_id)
        target = Target(address.host, address.port, key, timeout, insecure_plaintext, known_as)
        job = Job(paths, name, Options(checksum, checksum_all), retry_for)
        bar = None
        if is_terminal() and not quiet:
            bar = Bar(None if tree.STDIN in paths else tree.measure(paths), sys.stderr)
        report = Report(bar=bar, as_json=json, quiet=quiet)
        error: XferError | None = None
        try:
            retry.send(target, job, report)
        except XferError as ended_by:
            error = ended_by
        except KeyboardInterrupt:
            error = Cancelled("interrupted: what has no receipt is not stored")
        raise typer.Exit(report.finish(error, str(target)))


@app.command(epilog="Example: xfer demo README.md photos/")
def demo(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="What to send; xfer's own source if left out."),
    ] = None,
) -> None:
    """Both sides on this machine: a receiver on loopback, a send, the receipts."""
    with _exit_codes():
        demonstration.run(paths or [demonstration.own_source()])


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn what a command raises into a sentence and the exit code of the design."""
    try:
        yield
    except XferError as error:
        say(error.message)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(Cancelled.exit_code) from error


def _stop_on_signals(receiver: Receiver) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # whoever asks twice does not want to wait
        receiver.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _reload_on_hang_up(receiver: Receiver) -> None:
    """SIGHUP is blocked everywhere, and waited for in a thread: a handler may take no lock."""

    def wait() -> None:
        while signal.sigwait([signal.SIGHUP]):
            receiver.reload_keys()

    threading.Thread(target=wait, daemon=True).start()


def _announce(receiver: Receiver, directory: str, insecure_plaintext: bool) -> None:
    host, port = receiver.address
    if removed := receiver.leftovers.removed:
        say(f"removed {removed} unfinished file(s) of a receiver that was killed")
    if resumable := receiver.leftovers.resumable:
        say(f"{resumable} interrupted file(s) will resume when sent again")
    shown = f"[{host}]" if ":" in host else host
    how = "in PLAINTEXT" if insecure_plaintext else "over TLS 1.3"
    say(f"receiving into {directory} {how}, listening on {shown}:{port}")
    reached_as = socket.gethostname() if host in ("::", "0.0.0.0") else shown  # noqa: S104
    at_port = "" if port == config.DEFAULT_PORT else f":{port}"
    option = " --insecure-plaintext" if insecure_plaintext else ""
    say(f"on the other machine: xfer send{option} FILE {reached_as}{at_port}")


def _allow_many_descriptors() -> None:
    """Descriptors bound how many can connect; the soft limit is for programs that select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _log_to_standard_error(level: int) -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(asctime)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
    )
