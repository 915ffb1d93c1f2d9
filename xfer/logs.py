"""The receiver's log on standard error: lines for people, or JSON for machines.

A log call has a sentence, and `extra=about(…)` for the fields of its JSON object.
Parts of either may come from peers, so every character that could steer a
terminal, or begin another line, is escaped.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from msgspec import Struct

from xfer.errors import XferError
from xfer.names import printable

_THROTTLE_SECONDS: Final = 5.0
_PIPE_BYTES: Final = 4096
_ABOUT_BYTES: Final = 150
"""What a JSON line has at most beside its sentence and, in the fields, the same text again."""
_said = logging.getLogger("xfer.said")


class Peer(Struct, frozen=True):
    """The other side of a connection. `key_id` is empty until it has proved a key.

    `host` is what its machine calls itself, empty if it has not said so.
    """

    address: str
    key_id: str = ""
    host: str = ""

    def __str__(self) -> str:
        return f"{self.address} {self.key_id}".rstrip()


def start(level: int, *, as_json: bool) -> None:
    """Log to standard error from here on, what is at least of this `level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsJson() if as_json else _AsText())
    logging.basicConfig(handlers=[handler], level=level)
    # A line for each file: leave out what no line shows (see "Optimization" in Python's
    # logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def about(event: str, peer: Peer | None = None, **fields: object) -> dict[str, object]:
    """The `extra` of a log call: the fields of its JSON object beside the sentence."""
    who = {} if peer is None else {"peer": peer.address}
    if peer and peer.key_id:
        who["key_id"] = peer.key_id
    return {"fields": {"event": event} | who | fields}


class Line(Struct, frozen=True):
    """One of several lines of one event: its sentence, and its own fields in JSON."""

    sentence: str
    fields: Mapping[str, object]


def info_each(log: logging.Logger, event: str, peer: Peer, lines: Iterable[Line]) -> None:
    """Log many lines with few writes: one by one, they took longer than storing their files.

    A write has no more than a pipe takes in one piece (PIPE_BUF), since several
    workers may write to one pipe.
    """
    shared = about(event, peer)
    group: list[Line] = []
    room = _PIPE_BYTES
    for line in lines:
        size = 2 * len(line.sentence) + _ABOUT_BYTES
        if group and size > room:
            _info(log, shared, group)
            group, room = [], _PIPE_BYTES
        group.append(line)
        room -= size
    if group:
        _info(log, shared, group)


def _info(log: logging.Logger, shared: dict[str, object], lines: list[Line]) -> None:
    log.info("%s", "\n".join(line.sentence for line in lines), extra=shared | {"lines": lines})


def tell(message: str, event: str, level: int = logging.INFO, **fields: object) -> None:
    """Log something about the receiver as a whole, in the text format as a sentence of ours."""
    _said.log(level, "%s", message, extra=about(event, None, **fields))


def tell_failure(error: XferError) -> None:
    """Log why the receiver ends."""
    _said.error("%s", error.message, extra=about("failed", code=error.code))


class ThrottledWarning:
    """A warning that is logged every few seconds at most. Any thread may call it."""

    def __init__(self, log: logging.Logger, event: str, seconds: float = _THROTTLE_SECONDS) -> None:
        self._log = log
        self._event = event
        self._seconds = seconds
        self._counting = threading.Lock()  # guards what follows
        self._again_at = 0.0
        self._times = 0

    def warn(self, message: str) -> None:
        """Log `message`, with how often it happened since the last time."""
        with self._counting:
            self._times += 1
            if time.monotonic() < self._again_at:
                return
            times, self._times = self._times, 0
            self._again_at = time.monotonic() + self._seconds
        more = f" ({times} times since this was said last)" if times > 1 else ""
        self._log.warning("%s%s", message, more, extra=about(self._event, times=times))


class _AsText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        second = _second(int(record.created))
        if lines := _lines(record):
            return "\n".join(f"{second} {printable(line.sentence)}" for line in lines)
        message = printable(record.getMessage())
        if record.name == _said.name:
            return f"xfer: {message}"
        line = f"{second} {message}"
        return "\n".join([line, *_traceback(self, record)]) if record.exc_info else line


@lru_cache(1)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if lines := _lines(record):
            return "\n".join(self._format(record, line.sentence, line.fields) for line in lines)
        return self._format(record, record.getMessage(), {})

    def _format(self, record: logging.LogRecord, sentence: str, own: Mapping[str, object]) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
        }
        line |= getattr(record, "fields", {"event": "other"})
        line |= own
        line["message"] = printable(sentence)
        if traceback := _traceback(self, record):
            line["traceback"] = traceback
        return json.dumps(line)  # all that is not ASCII is escaped, lone surrogates too


def _lines(record: logging.LogRecord) -> Sequence[Line]:
    return getattr(record, "lines", ())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    if not record.exc_info:
        return []
    return [printable(line) for line in formatter.formatException(record.exc_info).split("\n")]
