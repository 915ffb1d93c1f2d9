"""Moments in the past, as people write them: `parse_when` makes a stamp of one.

    2026-11-23  2026-11-23 03:00  yesterday  3d  20261123T030001Z  ──▶  20261123T…999999Z

A stamp is how versions and snapshots are named: a time in UTC that sorts as text. What a
text leaves open is taken at its end: a date is the last microsecond of that day, and a
time without seconds that of its minute, since what is looked for is what there was *then*.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Final

from xfer.errors import UsageError

_TICK: Final = timedelta(microseconds=1)
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:T| +)(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?"
    r"(?: ?(Z|[+-]\d\d(?::?\d\d)?))?",
    re.ASCII | re.IGNORECASE,
)
_STAMP: Final = re.compile(
    r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?Z?", re.ASCII
)
_AGO: Final = re.compile(r"(\d{1,9})([hdw])", re.ASCII)
_UNITS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
)
_DAYS: Final = MappingProxyType({"today": 0, "yesterday": 1})
"""How many days ago; what is meant is the end of that day."""


def parse_when(text: str, now: datetime) -> str:
    """The stamp of the moment that `text` means at `now`: 20261123T235959.999999Z.

    2026-11-23                      the end of that day, in local time
    2026-11-23 03:00, …T03:00:01    local time, or with Z or an offset (+01:00)
    today, yesterday, now           the end of that day, in local time; `now` itself
    12h, 3d, 2w                     so long ago; a day has 24 hours here
    20261123T030001.123456Z         a stamp, in UTC, of which all after the day may be left out

    `now` has a time zone; local time is that of this process (`TZ`). A local time that
    a change of the clock skips or repeats means the later of the two moments that it can be.
    UsageError for any other text, and for a moment outside the years 1 to 9999.
    """
    word = text.strip()
    try:
        moment = _relative(word.lower(), now) or _absolute(word)
    except (ValueError, OverflowError):  # no such day or hour, or outside the calendar
        moment = None
    if moment is None:
        raise UsageError(
            f"{text!r} is no time that can be understood: a date (2026-11-23), a local time "
            "(2026-11-23 03:00; with Z at its end: UTC), yesterday, today, now, how long ago "
            "(12h, 3d, 2w), or the stamp of a snapshot (20261123T030001Z)"
        )
    return _stamp(moment)


def _relative(word: str, now: datetime) -> datetime | None:
    """In UTC, for what is said from `now` on; None where it is not."""
    if word == "now":
        return now.astimezone(UTC)
    if word in _DAYS:
        return _end_of(now.astimezone().date() - timedelta(days=_DAYS[word]))
    if found := _AGO.fullmatch(word):
        return now.astimezone(UTC) - int(found[1]) * _UNITS[found[2]]
    return None


def _absolute(word: str) -> datetime | None:
    """In UTC, for what stands in a calendar; None where it does not look like that."""
    if found := _DATE.fullmatch(word):
        return _end_of(date(*map(int, found.groups())))
    if found := _STAMP.fullmatch(word):
        return _at(found, 23).replace(tzinfo=UTC)
    if found := _TIME.fullmatch(word):
        return _in_utc(_at(found, 0), found[8])
    return None


def _at(found: re.Match[str], hour: int) -> datetime:
    """A moment of a calendar, whichever; `hour` and what is left out below it at its end."""
    year, month, day = map(int, found.group(1, 2, 3))
    hours, minutes, seconds = (
        default if part is None else int(part)
        for part, default in zip(found.group(4, 5, 6), (hour, 59, 59), strict=True)
    )
    fraction = (found[7] or "").ljust(6, "9")
    return datetime(year, month, day, hours, minutes, seconds, int(fraction))


def _in_utc(moment: datetime, offset: str | None) -> datetime:
    """A calendar's moment, of the offset, or of local time where there is none."""
    if offset is None:
        return max(moment.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if offset in "Zz":
        return moment.replace(tzinfo=UTC)
    digits = offset[1:].replace(":", "").ljust(4, "0")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if int(digits[2:]) > 59 or ahead >= timedelta(days=1):
        raise ValueError
    return moment.replace(tzinfo=UTC) + (ahead if offset[0] == "-" else -ahead)


def _end_of(day: date) -> datetime:
    """The last microsecond of a local day, which has 23 or 25 hours where the clock changes.

    Asked for the midnight after it: should that be skipped or come twice, then `timestamp`
    takes the change itself, or the first of the two, and both end the day. (`astimezone`
    does not: it takes the offset of after the change for one that is skipped.)
    """
    if day == date.max:
        return datetime.max.replace(tzinfo=UTC)
    midnight = datetime.combine(day + timedelta(days=1), time.min)
    return datetime.fromtimestamp(midnight.timestamp(), UTC) - _TICK


def _stamp(moment: datetime) -> str:
    """strftime alone writes the year 26 as 26, on some systems."""
    return f"{moment.year:04}{moment:%m%dT%H%M%S.%f}Z"
