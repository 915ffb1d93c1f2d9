"""What a client asks for in place of sending: files that are stored, or what there is.

    Get    the roles swap: from here on this side is the sender, see `sending.giving`
    List   see `sending.listing`

Whether the client's key allows it was checked before.
"""

import logging
import traceback
from collections.abc import Sequence
from typing import Final

from xfer import logs
from xfer.config.sizes import counted
from xfer.errors import XferError
from xfer.logs import Peer
from xfer.names import printable
from xfer.outcomes import Outcome
from xfer.sending import listing
from xfer.sending.giving import asked_names, gift_for, give, require_possible
from xfer.sending.observer import Result, Results
from xfer.storage.reading import StoreReader
from xfer.wire.channel import Channel
from xfer.wire.messages import Get, List
from xfer.wire.messages.requests import EVERYTHING

log = logging.getLogger("xfer.receiver")

Request = Get | List
FEATURES: Final = ("get", "list", "snapshots")
"""What the welcome says that can be asked for."""


def answer(request: Request, channel: Channel, reader: StoreReader, peer: Peer) -> None:
    """Do what was asked for, and end the session. Raises what the client has not been told yet."""
    if isinstance(request, List):
        _list(request, channel, reader, peer)
        return
    asked = asked_names(request, channel)
    require_possible(request, asked)
    gift = gift_for(request, asked, channel, reader)
    given = _Given(peer)
    try:
        give(gift, channel, given)
    except XferError as error:
        log.warning(
            "%s: %s", peer, printable(error.message),
            extra=logs.about("ended", peer, code=error.code),
        )  # fmt: skip
        _let_go(error)
    given.tell(asked)


def _list(request: List, channel: Channel, reader: StoreReader, peer: Peer) -> None:
    asked = asked_names(request, channel)
    lines = listing.answer(request, asked, channel, reader)
    channel.drain()
    log.info(
        "%s: listed %s: %s", peer, _in_words(asked), counted(lines, "line"),
        extra=logs.about("listed", peer, lines=lines),
    )  # fmt: skip


def _in_words(asked: Sequence[str]) -> str:
    what = ", ".join(printable(name or EVERYTHING) for name in asked[:3])
    return what + (f" and {len(asked) - 3} more" if len(asked) > 3 else "")


def _let_go(error: BaseException | None) -> None:
    """Free the session that `error` ended, and its buffers, now.

    It is in a circle: both threads of the session know the error, whose traceback knows
    what they called. A receiver would keep it until circles are looked for, which is rare.
    """
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class _Given(Results):
    """Logs what was given back. Both threads of the session tell it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        # Written by whichever thread has the result, of which each name has one; a count that
        # two threads change at once may miss one in a log line.
        self._files = self._bytes = self._unchanged = self._failed = 0

    def finished(self, result: Result) -> None:
        if result.error:
            self._failed += 1
            log.warning(
                "%s %s: not given, %s", self._peer, printable(result.name), result.error.message,
                extra=logs.about("not_given", self._peer, file_name=result.name,
                                 code=result.error.code),
            )  # fmt: skip
        elif result.outcome == Outcome.UNCHANGED:
            self._unchanged += 1
        elif result.digest:  # a file: links and directories have none
            self._files += 1
            self._bytes += result.size

    def tell(self, asked: list[str]) -> None:
        """One line for the session."""
        log.info(
            "%s: gave %s: %s, %d bytes; %d unchanged, %d failed",
            self._peer, _in_words(asked), counted(self._files, "file"), self._bytes,
            self._unchanged, self._failed,
            extra=logs.about("given", self._peer, files=self._files, bytes=self._bytes,
                             unchanged=self._unchanged, failed=self._failed),
        )  # fmt: skip
