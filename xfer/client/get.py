"""`xfer.get`: what the package offers to programs that take back what they have sent.

Where what is got comes from is one function, that opens a channel to a sending session: a
receiver's process (`from_receiver`), or a thread of this one over a directory (`from_directory`).
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from xfer import digests
from xfer.client.connect import Target, connect
from xfer.client.get_job import Destination, GetJob, OpenChannel, get_with
from xfer.client.progress import Collector, SendProgress, observer_of
from xfer.client.restored import Asked
from xfer.client.retries import retry_times
from xfer.client.send import Path, key_of, receipts_of, target_at
from xfer.config.addresses import parse_address
from xfer.config.when import parse_when
from xfer.errors import UsageError, XferError
from xfer.outcomes import Outcome
from xfer.sending.giving import asked_names, gift_for, give, listed_snapshot
from xfer.sending.observer import Observer, Result, Results
from xfer.source.stored import not_there
from xfer.source.tree import Kind
from xfer.storage.contract import IfExists
from xfer.storage.local.dry_run import DryWriter
from xfer.storage.local.linked import LinkedName, link_tree
from xfer.storage.local.passing import passing_store
from xfer.storage.local.reader import reading
from xfer.storage.stream import StreamWriter
from xfer.wire.cancel import CancelToken
from xfer.wire.channel import Channel
from xfer.wire.messages import Get
from xfer.wire.messages.requests import EVERYTHING

STDOUT = "-"
_OWNER = "get"
"""Whose partials they are: those of any get into this directory."""


def get_job(job: GetJob, to: str, open_channel: OpenChannel, observer: Observer) -> None:
    """Get what `job` asks for into the directory `to`, or `-` for standard output.

    Raises UsageError or LocalError for what can be known before connecting, else the
    error that ended the last attempt early.
    """
    asked = Asked(job.names)
    if to == STDOUT and job.dry_run:
        raise UsageError("a dry run has nothing to write to standard output")
    if to == STDOUT:
        _get_to_standard_output(asked.only, job, open_channel, observer)
        return
    if job.dry_run:
        _get_in_a_dry_run(job, to, open_channel, observer)
        return
    with passing_store(to, job.if_exists) as store:
        get_with(open_channel, job, Destination(lambda: store.open_writer(_OWNER)), observer)


def _get_in_a_dry_run(job: GetJob, to: str, open_channel: OpenChannel, observer: Observer) -> None:
    with reading(to) as reader:
        writer = DryWriter(reader, to, _OWNER, job.if_exists)
        destination = Destination(lambda: writer, would_become=writer.outcome_of)
        get_with(open_channel, job, destination, observer)


def _get_to_standard_output(
    only: str, job: GetJob, open_channel: OpenChannel, observer: Observer
) -> None:
    sys.stdout.flush()
    writer = StreamWriter(sys.stdout.fileno())
    destination = Destination(lambda: writer, lambda: writer.has_begun, only)
    try:
        get_with(open_channel, job, destination, observer)
    except XferError as error:
        if writer.has_begun and not writer.is_complete:
            error.add("do not use what went to standard output")
        raise


def from_receiver(target: Target, algorithm: str) -> OpenChannel:
    """Connects to a receiver that can give back what it holds."""
    return lambda: connect(target, algorithm, "get")


@contextlib.contextmanager
def from_directory(directory: str) -> Iterator[OpenChannel]:
    """Gives what the store in a directory of this machine holds, whether a receiver uses it or not.

    LocalError when the directory cannot be opened.
    """
    with reading(directory):  # so that what is wrong with it is said at once
        pass

    def serve(end: socket.socket) -> None:
        with contextlib.closing(Channel(end, _FOREVER)) as channel:
            try:
                request = channel.expect(Get)
                asked = asked_names(request, channel)
                with reading(directory) as reader:  # one for each thread: it has directories open
                    give(gift_for(request, asked, channel, reader), channel, Results())
            except XferError as error:  # the other end has been told, or is gone
                channel.end_with(error)

    def open_channel() -> Channel:
        own, others = socket.socketpair()
        threading.Thread(target=serve, args=(others,), daemon=True).start()
        channel = Channel(own, _FOREVER)
        channel.mark_authenticated()
        return channel

    yield open_channel


def link_job(job: GetJob, directory: str, to: str, observer: Observer) -> None:
    """Make what `job` asks for in `to`, of hard links to the files of a store on this machine.

    Raises UsageError for names that can't be, LocalError and Refused for what ends it early.
    """
    asked = Asked(job.names)

    def beat(done: int, size: int) -> None:
        observer.waiting("", done, size)

    with reading(directory) as reader:
        past = reader.past(job.at)
        observer.chosen([*map(listed_snapshot, past.chosen)])
        for name in asked.names:
            wanted = "" if name == EVERYTHING else name
            is_there = False
            for linked in link_tree(past, wanted, to, beat):
                is_there = True
                observer.finished(_result_of(linked))
            if wanted and not is_there:
                error = not_there(reader, job.at, beat, name)
                observer.finished(Result(name.rpartition("/")[2], Kind.FILE, error=error))


def _result_of(linked: LinkedName) -> Result:
    held = linked.held
    algorithm, digest = held.digest or ("", "")
    if linked.error:
        return Result(linked.name, Kind(held.kind), error=linked.error)
    return Result(linked.name, Kind(held.kind), held.size, algorithm, digest, Outcome.STORED)


_FOREVER = 24 * 3600.0
"""Seconds: nothing on this machine goes away without a word."""


def get(
    names: str | Iterable[str],
    host: str | None = None,
    *,
    directory: Path | None = None,
    at: str | None = None,
    to: Path = ".",
    if_exists: str = IfExists.REFUSE,
    secret: str | None = None,
    key_id: str | None = None,
    checksum: str = digests.DEFAULT,
    checksum_all: bool = False,
    timeout: float = 60.0,
    retry_for: float | None = None,
    bwlimit: int = 0,
    insecure_plaintext: bool = False,
    connections: int = 1,
    dry_run: bool = False,
    progress: Observer | Callable[[SendProgress], object] | None = None,
    cancel: CancelToken | None = None,
) -> list[Result]:
    """Get what the receiver at `host` holds under these names, and all below them, into `to`.

    With `at` (a date, a time, "yesterday", "3d", or a stamp), all is as it was then, by the
    newest complete snapshots at or before that moment.

    `directory`, in place of `host`, is one that a receiver on this machine uses or has used.
    Each name arrives under its last component; `"."` is everything. Returns a result for
    each file, directory and link: verified, and on this machine's stable storage. Other
    content in the way is refused, unless `if_exists` is "version" (it is kept in
    `to`/.xfer/versions) or "replace". What is there already is "unchanged", so that
    the same call again finishes what was interrupted. A `dry_run` only says what would
    become of each: outcomes are "would_restore", "would_version", "would_resume". All other
    arguments are as of `send`, and so are the errors that are raised.
    """
    if (host is None) is (directory is None):
        raise UsageError("to get from: one host, or one directory")
    wanted = [names] if isinstance(names, str) else list(names)
    patience = retry_times(retry_for)
    stamp = "" if at is None else parse_when(at, datetime.now(UTC))
    job = GetJob(
        wanted,
        stamp,
        IfExists(if_exists),
        checksum,
        checksum_all,
        patience,
        connections,
        cancel,
        dry_run,
    )
    collector = Collector(observer_of(progress))
    with contextlib.ExitStack() as opened:
        if host is None:
            open_channel = opened.enter_context(from_directory(os.fspath(directory or "")))
        else:
            target = target_at(
                parse_address(host),
                *key_of(secret, key_id),
                timeout=timeout,
                bwlimit=bwlimit,
                insecure_plaintext=insecure_plaintext,
                cancel=cancel,
            )
            open_channel = from_receiver(target, checksum)
        try:
            get_job(job, os.fspath(to), open_channel, collector)
        except XferError:
            if collector.raised:
                raise collector.raised from None
            raise
    return receipts_of(collector, "restored")
