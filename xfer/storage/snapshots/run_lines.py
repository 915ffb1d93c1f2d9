"""Reads what a run has confirmed, in the order of a manifest: each name once, as confirmed last.

    the sessions' files ──> sort keys, each with when it was confirmed ──> Sorter ──> lines

A line that is not as it was written is one that a power cut or a kill has taken: it is left out.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from xfer import names
from xfer.storage.snapshots.checked_lines import whole
from xfer.storage.snapshots.lines import MAX_LINE, Decoder, NameLine
from xfer.storage.snapshots.runs import Batch, Session, sessions

_READ_BYTES: Final = 256 * 1024
_RECORDED: Final = Decoder[Batch | NameLine](Batch | NameLine)
_NAMES: Final = Decoder[NameLine](NameLine)
_SLASH: Final = b"\x01"
_END: Final = b"\0"
"""Ends a key: it is less than all that a name may have in it, and so is a "/" made next to it."""


def sortable(run: int) -> Iterator[bytes]:
    """All that a run has confirmed, from its open directory, for a Sorter. OSError."""
    boots: dict[str, int] = {}
    for session in sessions(run):
        boot = boots.setdefault(session.boot, len(boots))
        yield from _in_session(run, session, boot)


def latest(items: Iterable[bytes]) -> Iterator[NameLine]:
    """The last line of each name, in the order of a manifest, of what `sortable` gave, sorted."""
    for _, same in groupby(items, key=_key):
        for item in same:
            last = item
        yield _NAMES.line(last.split(_END, 2)[2])


def _key(item: bytes) -> bytes:
    return item.partition(_END)[0]


def _in_session(run: int, session: Session, boot: int) -> Iterator[bytes]:
    at = count = 0
    for block in _blocks(run, session.file):
        for line, recorded in _decoded(block):
            if isinstance(recorded, Batch):
                at = recorded.at
            elif names.is_safe(recorded.name):
                count += 1
                key = names.to_bytes(recorded.name).replace(b"/", _SLASH)
                yield b"%b\0%04x%016x%012x\0%b" % (key, boot, at, count, line)


def _blocks(run: int, file: str) -> Iterator[bytes]:
    """Blocks of whole lines; half a line at the end is left out."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=run)
    rest = b""
    with open(descriptor, "rb", buffering=0) as opened:
        while (read := opened.read(_READ_BYTES)) and len(rest) <= MAX_LINE:
            lines, _, rest = (rest + read).rpartition(b"\n")
            yield lines


def _decoded(block: bytes) -> Iterator[tuple[bytes, Batch | NameLine]]:
    """Each line with what it says."""
    lines = list(whole(block))
    try:
        recorded = _RECORDED.block(b"\n".join(lines))
    except ValueError:
        recorded = []
    if len(recorded) == len(lines):
        yield from zip(lines, recorded, strict=True)
    else:
        yield from ((line, one) for line in lines if (one := _readable(line)))


def _readable(line: bytes) -> Batch | NameLine | None:
    try:
        return _RECORDED.line(line)
    except ValueError:
        return None
