"""`xfer send`: from the options to a job, and from its results to an exit code."""

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import typer

from xfer.auth.keys import DEFAULT_KEY_ID, derive_key
from xfer.auth.secret_files import find_key_id, find_secret, no_secret
from xfer.cli import options
from xfer.cli.exits import end_process
from xfer.cli.options import Checksum
from xfer.cli.output.console import is_terminal, say
from xfer.cli.output.report import Report
from xfer.client.connect import Target
from xfer.client.job import Job, send_job
from xfer.client.retries import retry_times
from xfer.client.send import target_at
from xfer.config.addresses import Address, parse_address
from xfer.errors import Cancelled, UsageError, XferError
from xfer.sending.parts import Options
from xfer.source import roots, tree
from xfer.system.process import allow_many_descriptors

if TYPE_CHECKING:
    from xfer.cli.output.progress import Bar

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example: xfer send report.pdf photos/ nas")
def send(
    paths: options.Paths,
    host: options.Host,
    name: options.StreamName = None,
    secret_file: options.SecretFile = None,
    key_id: options.KeyId = None,
    checksum: options.Digest = Checksum.MD5,
    checksum_all: options.ChecksumAll = False,
    retry_for: options.RetryFor = None,
    timeout: options.Timeout = 60.0,
    bwlimit: options.BandwidthLimit = None,
    connections: options.Connections = 1,
    snapshot: options.SnapshotJob = None,
    insecure_plaintext: options.Plaintext = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Send files and directories. Exit code 0 means: verified, and on the receiver's disk."""
    try:
        secret = find_secret(secret_file)
        if secret is None:
            raise no_secret()
        allow_many_descriptors()
        address = parse_address(host)
        roots.check(paths, name)
        _check_host(host, address)
        target = target_at(
            address,
            derive_key(secret),
            key_id=find_key_id(key_id),
            timeout=timeout,
            bwlimit=options.rate("--bwlimit", bwlimit),
            insecure_plaintext=insecure_plaintext,
        )
        patience = retry_times(retry_for, on_terminal=is_terminal())
        job = Job(paths, name, Options(checksum, checksum_all), patience, connections, snapshot)
        bar = None if quiet or not is_terminal() else _bar_for(paths)
        about = {} if target.key_id == DEFAULT_KEY_ID else {"key_id": target.key_id}
        report = Report(bar=bar, as_json=json, quiet=quiet, about=about)
    except (XferError, KeyboardInterrupt) as ended_by:
        error = ended_by if isinstance(ended_by, XferError) else Cancelled("interrupted")
        end_process(Report(bar=None, as_json=json, quiet=quiet).finish(error, host))
    # The process ends at once: to take the interpreter down takes longer than to send a file.
    end_process(_send(target, job, report))


def _check_host(host: str, address: Address) -> None:
    """UsageError if the user seems to have left out the host: a path stands in its place.

    A host may have a name that is a file here, too, and the network may be down.
    """
    if not os.path.lexists(host) and "/" not in host:
        return
    sentence = f"the last argument is the host, and {host} is none: xfer send PATH… HOST"
    try:
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if "/" not in host and getattr(error, "errno", 0) == socket.EAI_AGAIN:
            say(f"the last argument is the host: {host} is a file here, too")
            return
        raise UsageError(sentence) from error


def _bar_for(paths: list[str]) -> "Bar":
    # Scripts have no bar, and should not wait for its modules.
    from xfer.cli.output.progress import Bar  # noqa: PLC0415

    return Bar(None if roots.STDIN in paths else tree.measure(paths), sys.stderr)


def _send(target: Target, job: Job, report: Report) -> int:
    """Send `job`, and report on it. Returns the exit code. SIGTERM counts as Ctrl-C."""
    error: XferError | None = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        send_job(target, job, report)
    except XferError as ended_by:
        error = ended_by
    except KeyboardInterrupt:
        error = Cancelled(f"interrupted: what has no receipt is not stored{_goes_on(job)}")
    return report.finish(error, str(target))


def _goes_on(job: Job) -> str:
    """Standard input cannot be read again: there is nothing to continue with."""
    return "" if roots.STDIN in job.paths else "; the same command continues"
