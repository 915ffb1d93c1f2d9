"""The command line: `xfer keygen`, `receive`, `send` and `demo`."""

import contextlib
import logging
import resource
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated

import typer

from xfer import (
    __version__,
    auth,
    checkup,
    config,
    demonstration,
    logs,
    retry,
    serving,
    tree,
    units,
)
from xfer.admission import MAX_CONNECTIONS, MAX_UNAUTHENTICATED, Limits
from xfer.api import Receiver
from xfer.connection import Target
from xfer.console import say
from xfer.errors import Cancelled, LocalError, XferError
from xfer.listening import inherited
from xfer.logs import LogFormat
from xfer.progress import Bar
from xfer.report import Report
from xfer.retry import RETRY_SECONDS, Job
from xfer.sender import Options
from xfer.service import ServiceManager
from xfer.storage import IfExists
from xfer.storage.local import PARTIAL_DAYS
from xfer.units import Place, Unit

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
) -> None:
    """Make a new secret in FILE, which must not exist. Give the other machine a copy."""
    with _exit_codes():
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
    timeout: Timeout = 60.0,
    max_unauthenticated: Annotated[
        int, typer.Option(min=1, metavar="N", help="Connections at once that prove nothing (yet).")
    ] = MAX_UNAUTHENTICATED,
    max_connections: Annotated[
        int, typer.Option(min=1, metavar="N", help="Senders at once; the next one is told busy.")
    ] = MAX_CONNECTIONS,
    min_rate: Annotated[
        int,
        typer.Option(min=0, metavar="BYTES", help="Give up what flows slower, in bytes a second."),
    ] = 0,
    insecure_plaintext: Plaintext = False,
    log_format: Annotated[
        LogFormat, typer.Option(help="How to log: lines for people, or JSON objects.")
    ] = LogFormat.TEXT,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether everything needed is in place.")
    ] = False,
    print_unit: Annotated[
        Unit | None, typer.Option(help="Only print a systemd unit that does this.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Receive files into DIR, from everybody who holds the secret, until stopped."""
    with _exit_codes(logs.tell_failure):
        logs.start(log_format, logging.WARNING if quiet else logging.INFO)
        if print_unit:
            place = Place(directory, secret_file or config.default_secret_file(), bind, port)
            print(units.text_of(print_unit, place), end="")
            return
        if check:
            limits = Limits(max_unauthenticated, max_connections)
            plan = checkup.Plan(
                directory, secret_file, bind, port, insecure_plaintext, fsync, limits
            )
            raise typer.Exit(checkup.run(plan))
        manager, listening = ServiceManager(), inherited()
        _allow_many_descriptors()
        secret = config.find_secret(secret_file)
        if secret is None:
            for_a_person = serving.is_terminal() and log_format is LogFormat.TEXT
            secret = serving.first_secret(directory, for_a_person=for_a_person)
        receiver = Receiver(
            directory,
            secret=secret,
            bind=bind,
            port=port,
            if_exists=if_exists,
            timeout=timeout,
            insecure_plaintext=insecure_plaintext,
            partial_days=partial_days,
            fsync=fsync,
            max_unauthenticated=max_unauthenticated,
            max_connections=max_connections,
            min_rate=min_rate,
            listening=listening,
        )
        with receiver:
            serving.announce(receiver, directory, insecure_plaintext=insecure_plaintext)
            serving.until_stopped(receiver, manager)


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
        target = Target(address.host, address.port, key, timeout, insecure_plaintext)
        job = Job(paths, name, Options(checksum, checksum_all), retry_for)
        bar = None
        if serving.is_terminal() and not quiet:
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
def _exit_codes(tell: Callable[[XferError], None] | None = None) -> Iterator[None]:
    """Turn what a command raises into a sentence and the exit code of the design."""
    try:
        yield
    except XferError as error:
        (tell or _say_error)(error)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(Cancelled.exit_code) from error


def _say_error(error: XferError) -> None:
    say(error.message)


def _allow_many_descriptors() -> None:
    """Descriptors bound how many can connect; the soft limit is for programs that select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
