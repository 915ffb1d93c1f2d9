"""`xfer.list`: what the package offers to programs that look at what they have sent.

Where the lines come from is one function: a receiver's process (`from_receiver`), or this
one, which reads a directory itself (`from_directory`).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from xfer import digests
from xfer.client.connect import Target, connect
from xfer.client.listing import ListJob, list_with
from xfer.client.restored import normalized
from xfer.client.retries import retry_times
from xfer.client.send import Path, key_of, target_at
from xfer.config.addresses import parse_address
from xfer.config.when import parse_when
from xfer.errors import Incomplete, UsageError
from xfer.sending.giving import listed_snapshot
from xfer.sending.observer import Observer, Result, only_error
from xfer.source.any_listing import AnyFound, lines_of
from xfer.source.directory_sizes import Unlisted
from xfer.source.listing import ALL, Listed, Wanted
from xfer.source.tree import Kind
from xfer.storage.local.reader import reading
from xfer.storage.reading import SnapshotInfo
from xfer.wire.cancel import CancelToken
from xfer.wire.keepalive import HEARTBEAT_SECONDS

_TOLD: Final = 1000
"""Failures that an error names, of however many there were."""
FindLines = Callable[[ListJob, Observer], Iterator[AnyFound]]
"""Finds the lines of a job. Raises XferError where it ends early."""


def from_receiver(target: Target) -> FindLines:
    """From a receiver that can say what it holds."""
    return lambda job, observer: list_with(
        lambda: connect(target, digests.DEFAULT, "list"), job, observer
    )


def from_directory(directory: str) -> FindLines:
    """From the store in a directory of this machine, whether a receiver uses it or not."""

    def find(job: ListJob, observer: Observer) -> Iterator[AnyFound]:
        told_at = time.monotonic()

        def at_work(name: str, done: int) -> None:
            nonlocal told_at
            if time.monotonic() - told_at > HEARTBEAT_SECONDS:
                told_at = time.monotonic()
                observer.waiting(name, done, 0)

        def tell_chosen(snapshots: Sequence[SnapshotInfo]) -> None:
            observer.chosen([*map(listed_snapshot, snapshots)])

        with reading(directory) as reader:
            lines = lines_of(reader, job.wanted, at_work, tell_chosen)
            for name in job.names:
                yield from lines("" if name == ALL else name)

    return find


def wanted_of(recursive: bool, itself: bool, older: bool, snapshots: bool, at: str) -> Wanted:
    """What these options ask for. UsageError where they exclude each other."""
    if recursive and itself:
        raise UsageError("either --recursive or --directory: all that is below it, or itself only")
    if older + snapshots + bool(at) > 1:
        raise UsageError("either older contents, or snapshots, or what there was at a time")
    if snapshots and (recursive or itself):
        raise UsageError("snapshots have nothing below them to list: see --at")
    return Wanted(recursive, itself, older, snapshots, at)


def wanted_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names as they travel, all that there is if there are none. UsageError for impossible."""
    return tuple(map(normalized, names)) or (ALL,)


def list(  # noqa: A001 (what `xfer.list` does is what is called so)
    names: str | Iterable[str] = (),
    host: str | None = None,
    *,
    directory: Path | None = None,
    recursive: bool = False,
    itself: bool = False,
    versions: bool = False,
    snapshots: bool = False,
    at: str | None = None,
    secret: str | None = None,
    key_id: str | None = None,
    timeout: float = 60.0,
    retry_for: float | None = None,
    bwlimit: int = 0,
    insecure_plaintext: bool = False,
    cancel: CancelToken | None = None,
) -> Iterator[Listed | SnapshotInfo]:
    """What the receiver at `host` holds under these names: one `Listed` after the other.

    `directory`, in place of `host`, is one that a receiver on this machine uses or has used.
    Of a name that is a directory it is what is in it, in order; with `recursive` all below
    it, and with `itself` only the directory. Without names, or of `"."`, it is all that there
    is to see. With `versions`, the older contents of these names and of all below them. `at` is
    as of `get`: what there was then. With `snapshots`, it is an `xfer.SnapshotInfo` for each.
    Nothing is held but the line that comes next. Wrong usage is raised at once, and the
    rest when lines are asked for: after the last line an error for what could not be listed,
    Refused (`not_found`) where there was nothing of all that was named, or `Incomplete`.
    All other arguments are as of `send`.
    """
    if (host is None) is (directory is None):
        raise UsageError("to list: one host, or one directory")
    asked = wanted_names([names] if isinstance(names, str) else names)
    stamp = "" if at is None else parse_when(at, datetime.now(UTC))
    wanted = wanted_of(recursive, itself, versions, snapshots, stamp)
    job = ListJob(asked, wanted, retry_times(retry_for), cancel)
    if host is None:
        return _raising(from_directory(os.fspath(directory or ""))(job, Observer()))
    target = target_at(
        parse_address(host),
        *key_of(secret, key_id),
        timeout=timeout,
        bwlimit=bwlimit,
        insecure_plaintext=insecure_plaintext,
        cancel=cancel,
    )
    return _raising(from_receiver(target)(job, Observer()))


def _raising(found: Iterator[AnyFound]) -> Iterator[Listed | SnapshotInfo]:
    """The lines, and then an error for what could not be listed."""
    failed: dict[str, Result] = {}
    count = listed = 0
    for line in found:
        if isinstance(line, Unlisted):
            count += 1
            if len(failed) < _TOLD:
                failed[line.name] = Result(line.name, Kind.FILE, error=line.error)
        else:
            listed += 1
            yield line
    if count:
        failures = [*failed.values()]
        errors = [failure.error for failure in failures if failure.error]
        summary = f"{count} of {count + listed} could not be listed"
        raise only_error(listed > 0, errors) or Incomplete(summary, (), failures)
