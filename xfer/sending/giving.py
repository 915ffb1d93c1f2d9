"""Giving back: a sending session over what a store holds, because the other side asked for it.

The roles of `send` the other way round: whoever has connected is the receiver now, and is
told in a `refusal` what of the things that it asked for cannot be sent.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from xfer import digests, names
from xfer.errors import Code, Refused
from xfer.sending.batches import InOrder
from xfer.sending.observer import ProgressSink, Results
from xfer.sending.parts import Options
from xfer.sending.session import SendSession
from xfer.source.readers import Source
from xfer.source.stored import not_there, open_past, open_stored, walk_past, walk_stored
from xfer.source.tree import Entry, Found, Kind
from xfer.storage.reading import SnapshotInfo, StoreReader
from xfer.wire.channel import Channel, expected
from xfer.wire.messages import Get, List, ListedSnapshot, Listing, Working
from xfer.wire.messages.requests import EVERYTHING

Opener = Callable[[Entry], Source]
Request = TypeVar("Request", Get, List)
_ROOM_FOR_NAMES: Final = 4 * 1024 * 1024
"""What all names of one request may take, in characters: as much as two of the longest command
lines that Linux has."""
_NAME_COST: Final = 64
_MESSAGE_COST: Final = 256
"""Beside the characters of names, so that empty names and messages have an end as well."""


def asked_names(request: Request, channel: Channel) -> list[str]:
    """All names that are asked for, which may take several messages; "" for everything.

    Refused (bad_name) for one that no store can have, and (too_large) for more than are
    worth the memory.
    """
    asked: dict[str, None] = {}
    room = _ROOM_FOR_NAMES
    while True:
        room -= sum(map(len, request.names), _MESSAGE_COST + _NAME_COST * len(request.names))
        if room < 0:
            raise Refused("so many names at once: ask in several goes", code=Code.TOO_LARGE)
        for name in request.names:
            asked["" if name == EVERYTHING else names.check(name)] = None
        if not request.more:
            return list(asked)
        request = expected(channel.receive(), type(request))


def require_possible(request: Get, asked: Sequence[str]) -> None:
    """Refused for what this side cannot do.

    That is a kind of digest that it cannot make (unsupported), and to give two things
    under one name (bad_name): no receipt could say which of them it is for.
    """
    if request.digest not in digests.available():
        raise Refused(f"there are no {request.digest} digests here", code=Code.UNSUPPORTED)
    own: dict[str, str] = {}
    for name in asked:
        other = own.setdefault(name.rpartition("/")[2], name)
        if other != name or (not name and len(asked) > 1):
            sentence = f"{other or EVERYTHING} and {name or EVERYTHING} cannot be given together"
            raise Refused(sentence, code=Code.BAD_NAME)


class Gift(Struct, frozen=True):
    """What is to be given, and how."""

    entries: Iterable[Found]
    options: Options


def gift_for(request: Get, asked: Sequence[str], channel: Channel, reader: StoreReader) -> Gift:
    """What `request` asks for. It says on the channel which snapshots that is of, if it is.

    Refused (not_found) where there is no snapshot of the moment that it asks for.
    """
    beat = partial(tell_at_work, channel)
    missing = partial(not_there, reader, request.at, beat)
    if request.at:
        past = reader.past(request.at)
        for snapshot in past.chosen:
            channel.send(Listing(snapshots=(listed_snapshot(snapshot),)))
        opener: Opener = partial(open_past, past, beat)
        entries = (entry for name in asked for entry in walk_past(past, name, missing))
    else:
        opener = partial(open_stored, reader)
        entries = (entry for name in asked for entry in walk_stored(reader, name, missing))
    options = Options(
        request.digest,
        request.compare_contents,
        is_asked=True,
        dry_run=request.dry_run,
        open_source=opener,
    )
    return Gift(_share(entries, request), options)


def give(gift: Gift, channel: Channel, results: Results) -> None:
    """Send all of it. Closes the channel.

    Raises what ended the session early; the other side has been told then.
    """
    SendSession(channel, gift.options, ProgressSink(), results).run(InOrder(gift.entries))


def listed_snapshot(info: SnapshotInfo) -> ListedSnapshot:
    """A snapshot as it travels."""
    listed = ListedSnapshot(
        info.key_id, info.job, info.stamp, info.is_complete, info.is_held, info.is_damaged
    )
    if info.counts is None:
        return listed
    counts = info.counts
    return replace(
        listed,
        names=counts.names,
        files=counts.files,
        bytes=counts.size,
        new=counts.new,
        changed=counts.changed,
        gone=counts.gone,
    )


def tell_at_work(channel: Channel, done: int, size: int) -> None:
    """Tell the other side that something is read for it: so many bytes of so many."""
    channel.send(Working("", done, size))
    channel.flush()


def _share(entries: Iterable[Found], request: Get) -> Iterator[Found]:
    """The part of it that this connection gives, where several share the work.

    No directories then: each has to come after all that is in it, and is got in the end
    over one connection.
    """
    for entry in entries:
        if request.shares == 1 or _belongs(entry, request):
            yield entry


def _belongs(entry: Found, request: Get) -> bool:
    if isinstance(entry, Entry) and entry.kind is Kind.DIRECTORY:
        return False
    fingerprint = names.fingerprint(names.to_bytes(entry.name))
    return int.from_bytes(fingerprint[:8], "big") % request.shares == request.share
