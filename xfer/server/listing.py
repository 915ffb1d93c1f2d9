"""Answers what there is: one line a name, however many names there are.

Nothing is sorted or kept but what a line needs: a listing of a million names takes
no more memory than one of ten. `done` follows the last line.
"""

from collections.abc import Iterator, Sequence

from xfer.errors import Code, Refused
from xfer.storage.reading import Held, HeldKind, StoreReader
from xfer.wire.channel import Channel
from xfer.wire.messages import Done, ListedName, Listing
from xfer.wire.messages.offers import in_frames


def answer(asked: Sequence[str], channel: Channel, reader: StoreReader) -> None:
    """Send what there is of the names `asked`, and end the session."""
    lines = (line for name in asked or [""] for line in list_name(name, reader))
    for some in in_frames(lines, lambda line: line.file_name + line.target):
        channel.send(Listing(tuple(some)))
        channel.flush()
    channel.send(Done())
    channel.flush()


def list_name(name: str, reader: StoreReader) -> Iterator[ListedName]:
    """The lines for one name. Refused (not_found) where there is nothing."""
    held = reader.look(name)
    if held is None:
        raise Refused(f"there is no {name}", code=Code.NOT_FOUND)
    if held.kind is not HeldKind.DIRECTORY:
        yield _line(held)
        return
    for child in reader.children(name):
        yield _line(child)


def _line(held: Held) -> ListedName:
    return ListedName(held.name, held.kind.value, held.size, held.mtime_ns, held.mode, held.target)
