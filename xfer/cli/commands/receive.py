"""`xfer receive`: files come in, until a signal says that it is enough."""

import logging

import typer

from xfer import logs
from xfer.auth.secret_files import find_secret
from xfer.cli import options
from xfer.cli.commands import keygen
from xfer.cli.exits import exit_codes
from xfer.cli.options import LogFormat
from xfer.config.defaults import DEFAULT_PORT, MAX_CONNECTIONS, MAX_UNAUTHENTICATED
from xfer.config.locations import default_secret_file
from xfer.daemon import check as checkup
from xfer.daemon import foreground, units
from xfer.daemon.systemd import ServiceManager, inherited
from xfer.daemon.workers import Supervisor
from xfer.errors import UsageError
from xfer.server.admission import ConnectionLimits
from xfer.server.receiver import Receiver
from xfer.storage.contract import PARTIAL_DAYS, IfExists
from xfer.system.process import allow_many_descriptors

app = typer.Typer(add_completion=False, rich_markup_mode=None)


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
    with exit_codes(logs.tell_failure):
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
            at_once = ConnectionLimits(max_unauthenticated, max_connections)
            plan = checkup.Plan(
                directory,
                secret_file,
                keys,
                bind,
                port,
                insecure_plaintext,
                fsync,
                at_once,
                workers,
            )
            raise typer.Exit(checkup.run(plan))
        manager, listening = ServiceManager(), inherited()
        allow_many_descriptors()
        secret = None
        if keys is not None:
            foreground.hold_hang_ups()
        elif (secret := find_secret(secret_file)) is None:
            secret = keygen.first_secret(directory, in_log=in_json)
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
                supervisor = Supervisor(receiver, workers, reloads=keys is not None)
                foreground.announce(receiver, directory, insecure_plaintext=insecure_plaintext)
                supervisor.run(manager)
                return
            foreground.heed_signals(receiver, reloads=keys is not None)
            foreground.announce(receiver, directory, insecure_plaintext=insecure_plaintext)
            foreground.until_stopped(receiver, manager)
