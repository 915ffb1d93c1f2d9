"""`parse_when`: which stamp a person's word for a moment means."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfer.config.when import parse_when
from xfer.errors import UsageError

NOW = datetime(2026, 11, 24, 20, 30, 15, 123456, tzinfo=UTC)
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
HAVANA = "CST5CDT,M3.2.0/0,M11.1.0/1"
"""Where the clock changes at midnight: from 0 to 1 in spring, from 1 to 0 in autumn."""
ZONES = ["UTC0", BERLIN, HAVANA, "<+1345>-13:45", "<-12>12"]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


def parsed_in(zone: str, text: str, now: datetime = NOW) -> str:
    os.environ["TZ"] = zone
    time.tzset()
    return parse_when(text, now)


def moment(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2026-11-23", "20261123T225959.999999Z"),
        ("2026-07-01", "20260701T215959.999999Z"),
        ("today", "20261124T225959.999999Z"),
        ("Yesterday", "20261123T225959.999999Z"),
        ("now", "20261124T203015.123456Z"),
        ("3d", "20261121T203015.123456Z"),
        ("12h", "20261124T083015.123456Z"),
        ("2W", "20261110T203015.123456Z"),
        ("0d", "20261124T203015.123456Z"),
        ("2026-11-23 03:00", "20261123T020059.999999Z"),
        (" 2026-11-23T03:00 ", "20261123T020059.999999Z"),
        ("2026-11-23 03:00:01", "20261123T020001.999999Z"),
        ("2026-11-23 03:00:01.5", "20261123T020001.599999Z"),
        ("2026-11-23 03:00Z", "20261123T030059.999999Z"),
        ("2026-11-23T03:00:01+01:00", "20261123T020001.999999Z"),
        ("2026-11-23 03:00 -0530", "20261123T083059.999999Z"),
        ("2026-11-23 03:00+02", "20261123T010059.999999Z"),
        ("20261123T030001.123456Z", "20261123T030001.123456Z"),
        ("20261123T030001.12", "20261123T030001.129999Z"),
        ("20261123T030001Z", "20261123T030001.999999Z"),
        ("20261123T0300", "20261123T030059.999999Z"),
        ("20261123T03", "20261123T035959.999999Z"),
        ("20261123", "20261123T235959.999999Z"),
    ],
)
def test_what_people_write_is_understood(text: str, stamp: str) -> None:
    assert parsed_in(BERLIN, text) == stamp


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, "2026-03-29", 23),
        (BERLIN, "2026-10-25", 25),
        (BERLIN, "2026-11-23", 24),
        (HAVANA, "2026-03-07", 24),  # ends with the hour that is skipped
        (HAVANA, "2026-03-08", 23),
        (HAVANA, "2026-10-31", 24),  # ends before the hour that comes twice
        (HAVANA, "2026-11-01", 25),
    ],
)
def test_a_day_ends_where_the_next_one_begins(zone: str, day: str, hours: int) -> None:
    before = str(date.fromisoformat(day) - timedelta(days=1))
    lasts = moment(parsed_in(zone, day)) - moment(parsed_in(zone, before))
    assert lasts == timedelta(hours=hours)


def test_a_time_that_comes_twice_or_never_is_the_later_one() -> None:
    assert parsed_in(BERLIN, "2026-10-25 02:30") == "20261025T013059.999999Z"
    assert parsed_in(BERLIN, "2026-03-29 02:30") == "20260329T013059.999999Z"


def test_leap_days_are_days_in_leap_years_only() -> None:
    assert parsed_in("UTC0", "2024-02-29") == "20240229T235959.999999Z"
    for none in ("2026-02-29", "1900-02-29", "20260229T030001Z", "2026-02-29 03:00"):
        with pytest.raises(UsageError):
            parse_when(none, NOW)


@pytest.mark.parametrize("zone", ZONES)
def test_the_first_and_the_last_year_are_years(zone: str) -> None:
    assert parsed_in(zone, "9999-12-31") <= "99991231T235959.999999Z"
    assert parsed_in(zone, "0001-01-05").startswith("000101")
    assert parsed_in(zone, "99991231") == "99991231T235959.999999Z"
    for none in ("0000-12-31", "10000-01-01", "00000101", "999999999d", "999999999w"):
        with pytest.raises(UsageError, match="no time that can be understood"):
            parse_when(none, NOW)


@pytest.mark.parametrize(
    "text",
    ["", " ", "tomorrow", "last week", "3", "d", "-3d", "+3d", "3 d", "3m", "1.5d", "2026",
     "2026-11", "2026-11-31", "2026-13-01", "2026-11-23 24:00", "2026-11-23 03", "03:00",
     "2026-11-23 03:60", "2026-11-23 03:00+25:00", "2026-11-23 03:00+01:60", "2026-11-23Z",
     "20261123T030001.1234567Z", "20261123T", "20261123T25", "2026/11/23", "23.11.2026",
     "\u0662\u0660\u0662\u0666-11-23", "2026-11-23\n03:00", "3d\x00", "9" * 40 + "d"],
)  # fmt: skip
def test_anything_else_gets_a_sentence_that_shows_what_is(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parsed_in(BERLIN, text)
    assert all(form in raised.value.message for form in ("2026-11-23 03:00", "3d", "yesterday"))
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=200, deadline=None)
@given(day=st.dates(date(2, 1, 1), date(9998, 12, 31)))
def test_days_follow_each_other_in_every_zone(zone: str, day: date) -> None:
    """The end of a day is the last moment whose local date is that day."""
    end = moment(parsed_in(zone, day.isoformat()))
    assert end.astimezone().date() == day
    assert (end + timedelta(microseconds=1)).astimezone().date() > day


@settings(max_examples=300, deadline=None)
@given(stamp=st.datetimes(), length=st.integers(8, 23))
def test_a_stamp_means_itself_and_its_beginning_the_last_one_with_that(
    stamp: datetime, length: int
) -> None:
    text = f"{stamp.year:04}{stamp:%m%dT%H%M%S.%f}Z"
    assert parse_when(text, NOW) == text
    begun = text[:length].rstrip("T.Z")
    if len(begun) in (8, 11, 13, 15, *range(17, 23)):
        end = parse_when(begun, NOW)
        assert end.startswith(begun)
        assert end >= text


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=30) | st.from_regex(r"[0-9T:Z. +\-hdw]{1,30}", fullmatch=True))
def test_any_text_is_a_moment_or_a_wrong_usage(text: str) -> None:
    try:
        stamp = parse_when(text, NOW)
    except UsageError:
        return
    assert moment(stamp)
    assert parse_when(stamp, NOW) == stamp


@settings(max_examples=200, deadline=None)
@given(seconds=st.integers(-(2**33), 2**33), zone=st.sampled_from(ZONES))
def test_a_local_time_is_found_again(seconds: int, zone: str) -> None:
    """But for the hour that comes twice, of which it is the later."""
    then = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    os.environ["TZ"] = zone
    time.tzset()
    found = moment(parse_when(f"{then.astimezone():%Y-%m-%d %H:%M:%S}", NOW))
    assert found - then in (timedelta(microseconds=999999), timedelta(hours=1, microseconds=999999))
