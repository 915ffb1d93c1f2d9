"""`xfer get`: what was sent comes back."""

import contextlib
import signal
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from xfer.cli import options
from xfer.cli.exits import end_process
from xfer.cli.options import Checksum
from xfer.cli.output.console import is_terminal
from xfer.cli.output.report import Report
from xfer.cli.output.summary import DRY, GOT, STREAMED
from xfer.cli.target import target_named
from xfer.client.get import STDOUT, from_directory, from_receiver, get_job, link_job
from xfer.client.get_job import GetJob, OpenChannel
from xfer.client.retries import retry_times
from xfer.config.when import parse_when
from xfer.errors import Cancelled, UsageError, XferError
from xfer.storage.contract import IfExists
from xfer.system.process import allow_many_descriptors

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    short_help="Get back what a receiver has.",
    epilog="Example: xfer get docs/report.pdf nas --to ~/restored",
)
def get(
    names: options.NamesAndHost,
    directory: options.FromDirectory = None,
    at: options.At = None,
    to: options.To = ".",
    link: options.Link = False,
    if_exists: Annotated[
        IfExists,
        typer.Option(
            help="What to do with other content that is there: leave it, keep it as a version in "
            ".xfer/versions, or replace it for good."
        ),
    ] = IfExists.REFUSE,
    secret_file: options.SecretFile = None,
    key_id: options.KeyId = None,
    checksum: options.Digest = Checksum.MD5,
    checksum_all: options.ChecksumAll = False,
    retry_for: options.RetryFor = None,
    timeout: options.Timeout = 60.0,
    bwlimit: options.BandwidthLimit = None,
    connections: options.Connections = 1,
    insecure_plaintext: options.Plaintext = False,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Get back what a receiver holds. Exit code 0 means: verified, and on this machine's disk."""
    bar = None
    if not quiet and is_terminal():
        from xfer.cli.output.progress import Bar  # noqa: PLC0415 (scripts have none)

        bar = Bar(None, sys.stderr)
    words = STREAMED if to == STDOUT else DRY if dry_run else GOT
    report = Report(bar=bar, as_json=json, quiet=quiet, words=words)
    error: XferError | None = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as opened:
            _check(directory, at, to, link=link, json=json, dry_run=dry_run)
            allow_many_descriptors()
            patience = retry_times(retry_for, on_terminal=is_terminal())
            if directory is not None:
                open_channel: OpenChannel = opened.enter_context(from_directory(directory))
            else:
                names, host = _split(names)
                target = target_named(
                    host,
                    secret_file=secret_file,
                    key_id=key_id,
                    timeout=timeout,
                    bwlimit=bwlimit,
                    insecure_plaintext=insecure_plaintext,
                )
                open_channel = from_receiver(target, checksum)
            stamp = "" if at is None else parse_when(at, datetime.now(UTC))
            job = GetJob(
                names,
                stamp,
                if_exists,
                checksum,
                checksum_all,
                patience,
                connections,
                dry_run=dry_run,
            )
            if link and directory is not None:
                link_job(job, directory, to, report)
            else:
                get_job(job, to, open_channel, report)
    except XferError as ended_by:
        error = ended_by
    except KeyboardInterrupt:
        error = Cancelled("interrupted; the same command continues")
    end_process(report.finish(error, "standard output" if to == STDOUT else to))


def _check(
    directory: str | None, at: str | None, to: str, *, link: bool, json: bool, dry_run: bool
) -> None:
    """UsageError for options that exclude, or need, each other."""
    if json and to == STDOUT:
        raise UsageError("standard output is either the file or --json")
    if link and (directory is None or at is None or to == STDOUT):
        raise UsageError("--link goes with --dir, --at and a directory --to, on the store's disk")
    if link and dry_run:
        raise UsageError("--link takes no room, and has no dry run")


def _split(arguments: list[str]) -> tuple[list[str], str]:
    """The names and the host, which is last. UsageError where one of them is missing."""
    if len(arguments) < 2:
        raise UsageError("the last argument is the host: xfer get NAME... HOST, or --dir DIR")
    return arguments[:-1], arguments[-1]
