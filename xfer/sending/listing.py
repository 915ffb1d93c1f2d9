"""Answers what there is: one line a name, however many names there are.

    Lister ──▶ lines ──▶ Listing, Listing, … Listing(last) of each name, then Done
          └──▶ at work ──▶ Working, where adding up takes longer than a moment

Nothing is kept but what a line needs, or some names to sort (see `source.in_order`): a
list of a million takes no more memory than one of ten thousand.
"""

import time
from collections.abc import Sequence
from typing import Final

from xfer.sending.giving import listed_snapshot
from xfer.source.any_listing import lines_of
from xfer.source.directory_sizes import Unlisted
from xfer.source.listing import Listed, Wanted
from xfer.storage.reading import SnapshotInfo, StoreReader
from xfer.wire.channel import Channel
from xfer.wire.keepalive import HEARTBEAT_SECONDS
from xfer.wire.messages import Done, List, ListedName, Listing, Refusal, Working
from xfer.wire.messages.offers import in_frames

_LINES: Final = 100
"""That wait for others, to travel together."""


def answer(request: List, asked: Sequence[str], channel: Channel, reader: StoreReader) -> int:
    """Send what `request` wants to know of the names `asked`; how many lines that were."""
    outgoing = _Outgoing(channel)
    wanted = Wanted(
        request.recursive,
        request.itself,
        request.what == "versions",
        request.what == "snapshots",
        request.at,
    )
    lines = lines_of(reader, wanted, outgoing.at_work, outgoing.tell_chosen)
    for name in asked or [""]:
        for found in lines(name):
            if isinstance(found, Unlisted):
                outgoing.refuse(found)
            elif isinstance(found, SnapshotInfo):
                outgoing.tell_chosen([found])
            else:
                outgoing.add(found)
        outgoing.end_name()
    channel.send(Done())
    channel.flush()
    return outgoing.sent


class _Outgoing:
    """Sends lines, some together, and signs of life between them. One thread uses it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lines: list[ListedName] = []
        self._sent_at = time.monotonic()
        self.sent = 0
        """Lines so far."""

    def add(self, line: Listed) -> None:
        self._lines.append(
            ListedName(
                line.name, line.kind.value, line.size, line.mtime_ns, line.mode, line.target,
                line.replaced,
            )
        )  # fmt: skip
        if len(self._lines) >= _LINES:
            self._send()

    def tell_chosen(self, snapshots: Sequence[SnapshotInfo]) -> None:
        for snapshot in snapshots:
            self._channel.send(Listing(snapshots=(listed_snapshot(snapshot),)))
            self.sent += 1

    def refuse(self, failed: Unlisted) -> None:
        error = failed.error
        self._send()
        self._channel.send(Refusal(failed.name, error.code, error.message, error.retryable))

    def end_name(self) -> None:
        """There are no more lines of this name."""
        self._send()
        self._channel.send(Listing((), last=True))

    def at_work(self, directory: str, done: int) -> None:
        """Say so, and what there is to say, unless something was sent just now."""
        if time.monotonic() - self._sent_at > HEARTBEAT_SECONDS / 2:
            self._send()
            self._channel.send(Working(directory, done))
            self._channel.flush()

    def _send(self) -> None:
        for some in in_frames(self._lines, lambda line: line.file_name + line.target):
            self._channel.send(Listing(tuple(some)))
        self._channel.flush()
        self.sent += len(self._lines)
        self._lines.clear()
        self._sent_at = time.monotonic()
