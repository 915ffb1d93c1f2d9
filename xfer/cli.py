"""The command line: `xfer keygen`, `receive`, `send` and `demo`.

Each command imports what it needs when it runs: a small file is sent sooner
than all of the package is loaded.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, NoReturn

import typer

from xfer import __version__, options
from xfer.auth.secret_files import SECRET_VARIABLE, find_key_id, find_secret
from xfer.config.addresses import parse_address
from xfer.config.defaults import DEFAULT_PORT, MAX_CONNECTIONS, MAX_UNAUTHENTICATED, RETRY_SECONDS
from xfer.config.locations import default_secret_file
from xfer.console import is_terminal, say
from xfer.errors import Cancelled, LocalError, UsageError, XferError
from xfer.options import Checksum, LogFormat
from xfer.storage.contract import PARTIAL_DAYS, IfExists
from xfer.system.process import allow_many_descriptors, collect_seldom, keep_out_of_core_files

app = typer.Typer(
    help="Send files to a machine of yours: encrypted, verified, never half-written.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script. Ends the process with the exit code of the command."""
    keep_out_of_core_files()
    collect_seldom()
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
    file: options.NewSecretFile = None,
    key_id: options.NewKeyId = None,
    keys: options.NewKeysFile = None,
) -> None:
    """Make a new secret in FILE, which must not exist. Give the other machine a copy.

    With --id NAME --keys FILE: add a key for one more client to a receiver's keys.
    """
    from xfer import handover

    with _exit_codes():
        if key_id is not None or keys is not None:
            handover.add_key(file, key_id, keys)
        else:
            handover.new_secret(file)


@app.command(epilog="Example: xfer receive --dir /srv/backup")
def receive(
    context: typer.Context,
    directory: options.Directory,
    bind: options.Bind = "",
    port: options.Port = DEFAULT_PORT,
    secret_file: options.SecretFile = None,
    keys: options.KeysFile = None,
    if_exists: options.WhatExists = IfExists.VERSION,
    partial_days: options.PartialDays = PARTIAL_DAYS,
    fsync: options.Fsync = True,
    max_file_size: options.MaxFileSize = None,
    max_files: options.MaxFiles = None,
    quota: options.Quota = None,
    min_free: options.MinFree = None,
    timeout: options.Timeout = 60.0,
    max_unauthenticated: options.MaxUnauthenticated = MAX_UNAUTHENTICATED,
    max_connections: options.MaxConnections = MAX_CONNECTIONS,
    min_rate: options.MinRate = None,
    bwlimit: options.BandwidthLimit = None,
    workers: options.Workers = 1,
    insecure_plaintext: options.Plaintext = False,
    log_format: options.Log = LogFormat.TEXT,
    check: options.Check = False,
    print_unit: options.PrintUnit = None,
    quiet: options.Quiet = False,
) -> None:
    """Receive files into DIR, from everybody who holds the secret, until stopped."""
    import logging

    from xfer import handover, logs
    from xfer.daemon import check as checkup
    from xfer.daemon import foreground, units
    from xfer.daemon.systemd import ServiceManager, inherited
    from xfer.server.admission import Rules
    from xfer.server.receiver import Receiver

    with _exit_codes(logs.tell_failure):
        in_json = log_format is LogFormat.JSON
        logs.start(logging.WARNING if quiet else logging.INFO, as_json=in_json)
        if keys is not None and secret_file is not None:
            raise UsageError("a receiver takes --secret-file or --keys, not both")
        limits = options.limits(max_file_size, max_files, quota, min_free)
        rate, most = options.rate("--min-rate", min_rate), options.rate("--bwlimit", bwlimit)
        options.require_one_worker_for(workers, limits)
        if print_unit:
            words = options.for_a_unit(context)
            if keys is None and secret_file is None:
                words += ["--secret-file", default_secret_file()]
            place = units.Place(directory, words, bind, port, reloads=keys is not None)
            print(units.text_of(print_unit, place), end="")
            return
        if check:
            rules = Rules(max_unauthenticated, max_connections)
            plan = checkup.Plan(
                directory, secret_file, keys, bind, port, insecure_plaintext, fsync, rules, workers
            )
            raise typer.Exit(checkup.run(plan))
        manager, listening = ServiceManager(), inherited()
        allow_many_descriptors()
        secret = None
        if keys is not None:
            foreground.hold_hang_ups()
        elif (secret := find_secret(secret_file)) is None:
            secret = handover.first_secret(directory, in_log=in_json)
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
            max_unauthenticated=max_unauthenticated,
            max_connections=max_connections,
            min_rate=rate,
            bwlimit=most,
            listening=listening,
        )
        with receiver:
            if workers > 1:
                from xfer.daemon.workers import Crew

                crew = Crew(receiver, workers, reloads=keys is not None)
                foreground.announce(receiver, directory, insecure_plaintext=insecure_plaintext)
                crew.run(manager)
                return
            foreground.heed_signals(receiver, reloads=keys is not None)
            foreground.announce(receiver, directory, insecure_plaintext=insecure_plaintext)
            foreground.until_stopped(receiver, manager)


@app.command(epilog="Example: xfer send report.pdf photos/ nas")
def send(
    paths: options.Paths,
    host: options.Host,
    name: options.StreamName = None,
    secret_file: options.SecretFile = None,
    key_id: options.KeyId = None,
    checksum: options.Digest = Checksum.MD5,
    checksum_all: options.ChecksumAll = False,
    retry_for: options.RetryFor = RETRY_SECONDS,
    timeout: options.Timeout = 60.0,
    bwlimit: options.BandwidthLimit = None,
    connections: options.Connections = 1,
    insecure_plaintext: options.Plaintext = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Send files and directories. Exit code 0 means: verified, and on the receiver's disk."""
    from xfer.auth.keys import DEFAULT_KEY_ID, derive_key
    from xfer.client.connect import Target
    from xfer.client.job import Job, send_job
    from xfer.progress import Bar
    from xfer.report import Report
    from xfer.sending.session import Options
    from xfer.source import tree
    from xfer.wire.bandwidth import Bandwidth

    with _exit_codes():
        secret = find_secret(secret_file)
        if secret is None:
            raise LocalError(
                "no secret: copy the receiver's to "
                f"{default_secret_file()} (chmod 600), or set {SECRET_VARIABLE}"
            )
        allow_many_descriptors()
        address = parse_address(host)
        tree.check(paths, name)
        key = derive_key(secret)
        known_as = find_key_id(key_id)
        rate = options.rate("--bwlimit", bwlimit)
        target = Target(
            address.host, address.port, key, timeout, insecure_plaintext, known_as,
            Bandwidth(rate) if rate else None,
        )  # fmt: skip
        job = Job(paths, name, Options(checksum, checksum_all), retry_for, connections)
        bar = None
        if is_terminal() and not quiet:
            bar = Bar(None if tree.STDIN in paths else tree.measure(paths), sys.stderr)
        about = {} if known_as == DEFAULT_KEY_ID else {"key_id": known_as}
        report = Report(bar=bar, as_json=json, quiet=quiet, about=about)
        error: XferError | None = None
        try:
            send_job(target, job, report)
        except XferError as ended_by:
            error = ended_by
        except KeyboardInterrupt:
            error = Cancelled("interrupted: what has no receipt is not stored")
        _end(report.finish(error, str(target)))


@app.command(epilog="Example: xfer demo README.md photos/")
def demo(
    paths: options.DemoPaths = None,
) -> None:
    """Both sides on this machine: a receiver on loopback, a send, the receipts."""
    from xfer import demonstration

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


def _end(exit_code: int) -> NoReturn:
    """At once: to take the interpreter down in good order takes longer than to send a file."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or full
            stream.flush()
    os._exit(exit_code)


def _say_error(error: XferError) -> None:
    say(error.message)
