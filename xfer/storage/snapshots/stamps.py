"""Stamps: moments in UTC to the microsecond, as versions, snapshots and their lines have them.

    20261123T030002.123456Z

All have the same length, so that they compare as text as they do in time.
"""

import datetime
import re
from typing import Final

from xfer.errors import Code, Refused

PATTERN: Final = r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z"
_STAMP: Final = re.compile(
    r"(?!0000)[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|1[0-9]|2[0-8]|(29|3[01]))"
    r"T(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]\.[0-9]{6}Z"
)
"""Its group is a day that not every month has."""
_FORMAT: Final = "%Y%m%dT%H%M%S.%fZ"
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


def now() -> str:
    """The stamp of this moment, by this machine's clock."""
    return stamp_of(datetime.datetime.now(datetime.UTC))


def stamp_of(moment: datetime.datetime) -> str:
    """The stamp of a moment that knows its time zone."""
    text = moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.replace("-", "").replace(":", "") + "Z"


def moment_of(stamp: str) -> datetime.datetime:
    """The moment of a stamp. ValueError where there was no such moment: the 31st of a February."""
    return datetime.datetime.strptime(stamp, _FORMAT).replace(tzinfo=datetime.UTC)


def is_stamp(text: str) -> bool:
    """Whether `text` is the stamp of a moment. Quick: a directory can have many thousands."""
    found = _STAMP.fullmatch(text)
    if not found or found[1] is None:
        return found is not None
    try:
        moment_of(text)
    except ValueError:
        return False
    return True


def next_after(stamp: str) -> str:
    """The stamp of now, or if the clock is not past `stamp`, the one a microsecond after that.

    Refused (storage) when none comes after it.
    """
    try:
        return max(now(), stamp_of(moment_of(stamp) + _MICROSECOND))
    except OverflowError:
        raise Refused(f"no snapshot can follow one of {stamp}", code=Code.STORAGE) from None
