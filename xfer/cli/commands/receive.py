"""`xfer receive`: files come in, until a signal says that it is enough."""

import logging
import os
from typing import Annotated, Final

import typer
from msgspec import Struct
from typer import Option

from xfer import logs
from xfer.auth.grants import Rights
from xfer.auth.secret_files import find_secret
from xfer.cli import options
from xfer.cli.commands.keygen import first_secret
from xfer.cli.exits import exit_codes
from xfer.cli.options import LogFormat
from xfer.config.defaults import DEFAULT_PORT, MAX_CONNECTIONS, MAX_UNAUTHENTICATED
from xfer.config.locations import default_secret_file
from xfer.daemon import check, foreground, units
from xfer.daemon.systemd import ServiceManager, inherited
from xfer.daemon.units import Unit
from xfer.daemon.workers import Supervisor
from xfer.errors import UsageError
from xfer.server.receiver import Receiver
from xfer.server.settings import ReceiverSettings
from xfer.storage.contract import PARTIAL_DAYS, IfExists, Limits
from xfer.system.process import allow_many_descriptors

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_NOT_IN_A_UNIT: Final = ("check", "print_unit")
_PATHS: Final = ("directory", "secret_file", "keys")


class ReceiveOptions(Struct, frozen=True, kw_only=True):
    """What the command line says: sizes as text, see `settings`."""

    # Where to, and from whom
    directory: Annotated[
        str, Option("--dir", metavar="DIR", help="Where files are stored. Must exist.")
    ]
    bind: Annotated[
        str, Option(metavar="ADDR", help="Listen on this address only; on all without it.")
    ] = ""
    port: Annotated[int, Option(min=0, max=65535, help="0 takes any that is free.")] = DEFAULT_PORT
    secret_file: options.SecretFile = None
    keys: Annotated[
        str | None,
        Option(
            "--keys",
            metavar="FILE",
            help="Instead of one secret: a file with a key for each client, and what it opens. "
            "Read again when it changes, and on SIGHUP.",
        ),
    ] = None

    access: Annotated[
        Rights,
        Option(
            help="What the secret allows: to store, to list and get back, both, or to add new "
            "names only. With --keys, each key's table says it.",
        ),
    ] = Rights.WRITE

    # How files are kept
    if_exists: Annotated[
        IfExists,
        Option(
            help="What to do with other content under a name: keep it as a version in "
            "DIR/.xfer/versions, refuse the new one, or replace it for good."
        ),
    ] = IfExists.VERSION
    partial_days: Annotated[
        float, Option(min=0.0, metavar="DAYS", help="Keep what is left of interrupted files for.")
    ] = PARTIAL_DAYS
    fsync: Annotated[
        bool,
        Option(
            help="Flush to disk before a receipt. Without it a crash can take files that have one."
        ),
    ] = True

    # How much may be stored, and who may come in
    max_file_size: Annotated[
        str | None, Option(metavar="SIZE", help="Take no file that is larger: 500M, 20G, 1.5T.")
    ] = None
    max_files: Annotated[
        int | None,
        Option(min=1, metavar="N", help="One session creates up to N files and directories."),
    ] = None
    quota: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="Everything in DIR, older versions included, has no more than this; "
            "with --keys, everything below each key's directory.",
        ),
    ] = None
    min_free: Annotated[
        str | None, Option(metavar="SIZE", help="Leave so much of the disk free.")
    ] = None
    timeout: options.Timeout = 60.0
    max_unauthenticated: Annotated[
        int, Option(min=1, metavar="N", help="Connections at once that prove nothing (yet).")
    ] = MAX_UNAUTHENTICATED
    max_connections: Annotated[
        int, Option(min=1, metavar="N", help="Senders at once; the next one is told busy.")
    ] = MAX_CONNECTIONS
    min_rate: Annotated[
        str | None,
        Option(metavar="SIZE", help="Give up what flows slower, in bytes a second: 500K, 1M."),
    ] = None
    bwlimit: options.BandwidthLimit = None
    workers: Annotated[
        int,
        Option(min=1, max=256, metavar="N", help="Receive in N processes, to use N processors."),
    ] = 1
    insecure_plaintext: options.Plaintext = False

    # As a service
    log_format: Annotated[
        LogFormat, Option(help="How to log: lines for people, or JSON objects.")
    ] = LogFormat.TEXT
    check: Annotated[
        bool, Option("--check", help="Only say whether everything needed is in place.")
    ] = False
    print_unit: Annotated[Unit | None, Option(help="Only print a systemd unit that does this.")] = (
        None
    )
    quiet: options.Quiet = False

    def settings(self) -> ReceiverSettings:
        """What these options amount to. UsageError for sizes that are none, and what excludes."""
        if self.keys is not None and self.secret_file is not None:
            raise UsageError("a receiver takes --secret-file or --keys, not both")
        if self.keys is not None and self.access is not Rights.WRITE:
            raise UsageError("with --keys, access is said for each key, in the keys file")
        return ReceiverSettings(
            directory=self.directory,
            keys=self.keys,
            access=self.access,
            bind=self.bind,
            port=self.port,
            if_exists=self.if_exists,
            timeout=self.timeout,
            insecure_plaintext=self.insecure_plaintext,
            partial_days=self.partial_days,
            fsync=self.fsync,
            limits=self._limits(),
            max_unauthenticated=self.max_unauthenticated,
            max_connections=self.max_connections,
            min_rate=options.rate("--min-rate", self.min_rate),
            bwlimit=options.rate("--bwlimit", self.bwlimit),
            workers=self.workers,
        )

    def _limits(self) -> Limits:
        limits = Limits(
            options.size("--max-file-size", self.max_file_size),
            self.max_files,
            options.size("--quota", self.quota),
            options.size("--min-free", self.min_free),
        )
        counted = {"--quota": limits.quota, "--min-free": limits.min_free}
        for option, size in counted.items():
            if self.workers > 1 and size is not None:
                raise UsageError(f"{option} needs one worker to count for all: leave out --workers")
        return limits


@app.command(epilog="Example: xfer receive --dir /srv/backup")
@options.takes(ReceiveOptions)
def receive(context: typer.Context, chosen: ReceiveOptions) -> None:
    """Receive files into DIR, from everybody who holds the secret, until stopped."""
    with exit_codes(logs.tell_failure):
        level = logging.WARNING if chosen.quiet else logging.INFO
        logs.start(level, as_json=chosen.log_format is LogFormat.JSON)
        settings = chosen.settings()
        if chosen.print_unit:
            print(units.text_of(chosen.print_unit, settings, _unit_words(context, chosen)), end="")
        elif chosen.check:
            raise typer.Exit(check.run(settings, chosen.secret_file))
        else:
            _serve(settings, chosen)


def _serve(settings: ReceiverSettings, chosen: ReceiveOptions) -> None:
    manager, listening = ServiceManager(), inherited()
    allow_many_descriptors()
    secret = None
    if settings.keys is not None:
        foreground.block_hang_ups()
    elif (secret := find_secret(chosen.secret_file)) is None:
        in_log = chosen.log_format is LogFormat.JSON
        secret = first_secret(settings.directory, in_log=in_log)
    with Receiver.from_settings(settings, secret, listening) as receiver:
        if settings.workers > 1:
            supervisor = Supervisor(receiver, settings)
            foreground.announce(receiver, settings)
            supervisor.run(manager)
        else:
            foreground.handle_signals(receiver, reloads=settings.keys is not None)
            foreground.announce(receiver, settings)
            foreground.serve_until_stopped(receiver, manager)


def _unit_words(context: typer.Context, chosen: ReceiveOptions) -> list[str]:
    """The options that were given, for a service that does the same from anywhere."""
    words = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if not source or source.name != "COMMANDLINE" or option.name in _NOT_IN_A_UNIT:
            continue
        value = context.params[option.name or ""]
        if isinstance(value, bool):
            words.append((option.opts if value else option.secondary_opts)[0])
        else:
            is_path = option.name in _PATHS
            words += [option.opts[0], os.path.abspath(value) if is_path else str(value)]
    if chosen.keys is None and chosen.secret_file is None:
        words += ["--secret-file", default_secret_file()]
    return words
