"""A get: the same conversation as a send, the other way round, until all that is asked for is here.

    this process                          the receiver's process
    connect, Get ──────────────────────▶  SendSession over what the store holds
    Session into a store of its own  ◀──  offers, files, done

So what arrives is verified, resumed and placed as it is on a receiver, by the same classes.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from msgspec import Struct, field

from xfer import digests
from xfer.client.restored import Asked, Restored, WouldBecome
from xfer.client.retries import Attempts, RetryFor
from xfer.errors import XferError
from xfer.logs import Peer
from xfer.receiving.session import Session
from xfer.sending.observer import Observer
from xfer.storage.contract import IfExists, StoreWriter
from xfer.system.stop import StopSignal
from xfer.wire.cancel import CancelToken
from xfer.wire.channel import Channel
from xfer.wire.messages import Get
from xfer.wire.messages.offers import in_frames

OpenChannel = Callable[[], Channel]
"""Opens a channel to a side that answers `get`. Raises XferError when that fails."""


class GetJob(Struct, frozen=True):
    """What to get, and how. `at` is a stamp, empty for what is there now.

    Up to `connections` share the work.
    """

    names: list[str]
    at: str = ""
    if_exists: IfExists = IfExists.REFUSE
    algorithm: str = digests.DEFAULT
    compare_contents: bool = False
    retry_for: RetryFor = field(default_factory=RetryFor)
    connections: int = 1
    cancel: CancelToken | None = None
    dry_run: bool = False


class Destination(Struct, frozen=True):
    """Where to: `open_writer` for each session; after `has_begun`, nothing is tried again."""

    open_writer: Callable[[], StoreWriter]
    has_begun: Callable[[], bool] = lambda: False
    only: str | None = None
    """The one file that it takes, if it takes one only."""
    would_become: WouldBecome | None = None
    """In a dry run: see `Restored`."""


def get_with(
    open_channel: OpenChannel, job: GetJob, destination: Destination, observer: Observer
) -> None:
    """Get what `job` asks for, telling `observer` once of each name.

    Raises the error that ended the last attempt early.
    """
    asked = Asked(job.names)
    restored = Restored(asked, observer, destination.only, destination.would_become)
    attempts = Attempts(job.retry_for, observer, job.cancel)
    ended_by: XferError | None = None

    def opened() -> Channel:
        channel = open_channel()
        attempts.reached()
        return channel

    def attempt() -> XferError | None:
        nonlocal ended_by
        restored.start_attempt()
        ended_by = _Attempt(opened, asked, job, destination, restored).run()
        return ended_by or restored.first_failure

    attempts.run(attempt, lambda: restored.made_progress, lambda: not destination.has_begun())
    restored.tell_failures()
    if ended_by:
        raise ended_by


class _Attempt:
    """One attempt: with several connections, each gets its share, and then one gets the rest.

    The rest are the directories, each of which comes after all that is in it, and what
    the connections that failed left.
    """

    def __init__(
        self,
        open_channel: OpenChannel,
        asked: Asked,
        job: GetJob,
        destination: Destination,
        restored: Restored,
    ) -> None:
        self._open_channel = open_channel
        self._asked = asked
        self._job = job
        self._destination = destination
        self._restored = restored
        self._lock = threading.Lock()
        """Guards the channels, which the threads of all connections add."""
        self._channels: set[Channel] = set()

    def run(self) -> XferError | None:
        """Returns what ended the attempt early, if anything did."""
        shares = 1 if self._destination.only else self._job.connections
        try:
            if shares > 1:
                self._get_shares(shares)
            self._get(0, 1)
            self._restored.require_all()
        except XferError as error:
            return error
        return None

    def _get_shares(self, shares: int) -> None:
        """Raises what ended the first of them early, once all have ended."""
        with ThreadPoolExecutor(shares) as threads:
            parts = [threads.submit(self._get, share, shares) for share in range(shares)]
            try:
                for part in parts:
                    part.result()
            except BaseException:
                with self._lock:
                    for channel in self._channels:
                        channel.abort()
                raise

    def _get(self, share: int, shares: int) -> None:
        """One session: ask, and receive what comes. Raises what ended it early, once it is told."""
        with contextlib.ExitStack() as opened:
            channel = opened.enter_context(contextlib.closing(self._open_channel()))
            writer = opened.enter_context(contextlib.closing(self._destination.open_writer()))
            never = opened.enter_context(contextlib.closing(StopSignal()))
            with self._lock:
                self._channels.add(channel)
            try:
                for message in _request(self._asked, self._job, share, shares):
                    channel.send(message)
                channel.flush()
                Session(channel, writer, never, _GIVER, self._restored).run()
            except XferError as error:
                channel.end_with(error)
                raise
            finally:
                with self._lock:
                    self._channels.discard(channel)


def _request(asked: Asked, job: GetJob, share: int, shares: int) -> Iterator[Get]:
    """The messages that ask for everything, in as many as the names take."""
    groups = list(in_frames(asked.names, str))
    for number, names in enumerate(groups, 1):
        more = number < len(groups)
        yield Get(
            tuple(names),
            job.at,
            job.algorithm,
            job.compare_contents,
            share,
            shares,
            job.dry_run,
            more,
        )


# Its sessions log as those of a receiver do: for a program that wants that, and nobody else.
logging.getLogger("xfer").addHandler(logging.NullHandler())

_GIVER: Final = Peer("the receiver")
"""Whom this side's log would name, if it had one."""
