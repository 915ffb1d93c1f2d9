"""`xfer list`: what is there."""

import contextlib
import signal
from collections.abc import Sequence
from datetime import UTC, datetime

import typer

from xfer.cli import options
from xfer.cli.exits import end_process
from xfer.cli.output.console import is_terminal
from xfer.cli.output.list_report import ListReport, NobodyReads
from xfer.cli.target import target_named
from xfer.client.list import FindLines, from_directory, from_receiver, wanted_names, wanted_of
from xfer.client.listing import ListJob
from xfer.client.retries import retry_times
from xfer.config.when import parse_when
from xfer.errors import Cancelled, UsageError, XferError
from xfer.source.directory_sizes import Unlisted

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("list", epilog="Example: xfer list docs nas")
def list_names(
    names: options.ListedAndHost = None,
    from_dir: options.FromDirectory = None,
    recursive: options.Recursive = False,
    itself: options.Itself = False,
    versions: options.Versions = False,
    snapshots: options.Snapshots = False,
    at: options.At = None,
    secret_file: options.SecretFile = None,
    key_id: options.KeyId = None,
    retry_for: options.RetryFor = None,
    timeout: options.Timeout = 60.0,
    bwlimit: options.BandwidthLimit = None,
    insecure_plaintext: options.Plaintext = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List what a receiver has.

    A line has kind, size in bytes, time (UTC), mode and name. Of a directory it is what
    is in it, and its size that of all files below.
    """
    report = ListReport(sums_directories=not recursive, as_json=json, quiet=quiet)
    error: XferError | None = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stamp = "" if at is None else parse_when(at, datetime.now(UTC))
        wanted = wanted_of(recursive, itself, versions, snapshots, stamp)
        if from_dir is not None:
            asked: Sequence[str] = names or ()
            find = from_directory(from_dir)
        else:
            *asked, host = names or [""]
            if not host:
                raise UsageError("the last argument is the host: xfer list NAME... HOST, or --dir")
            target = target_named(
                host,
                secret_file=secret_file,
                key_id=key_id,
                timeout=timeout,
                bwlimit=bwlimit,
                insecure_plaintext=insecure_plaintext,
            )
            find = from_receiver(target)
        patience = retry_times(retry_for, on_terminal=is_terminal())
        _print_all(find, ListJob(wanted_names(asked), wanted, patience), report)
    except XferError as ended_by:
        error = ended_by
    except KeyboardInterrupt:
        error = Cancelled("interrupted")
    end_process(report.finish(error))


def _print_all(find: FindLines, job: ListJob, report: ListReport) -> None:
    """As long as somebody reads it."""
    with contextlib.suppress(NobodyReads):
        for found in find(job, report):
            if isinstance(found, Unlisted):
                report.unlisted(found)
            else:
                report.listed(found)
