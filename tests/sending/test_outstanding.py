"""What has no answer yet: each name ends once, and only with a receipt for what was sent."""

import os

import pytest

from xfer.errors import CorruptData, LocalError, Refused
from xfer.outcomes import Outcome
from xfer.sending.observer import Result, Results
from xfer.sending.outstanding import Outstanding
from xfer.source.tree import Entry, Kind
from xfer.wire.keepalive import StallLimit
from xfer.wire.messages import Receipt

MD5 = "900150983cd24fb0d6963f7d28e17f72"


class Kept(Results):
    def __init__(self) -> None:
        self.results: list[Result] = []

    def finished(self, result: Result) -> None:
        self.results.append(result)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def outstanding(kept: Kept) -> Outstanding:
    """A file `a` of which all was sent, a file `b` that was offered, a directory `d`."""
    outstanding = Outstanding(kept, StallLimit())
    for name, kind in (("a", Kind.FILE), ("b", Kind.FILE), ("d", Kind.DIRECTORY)):
        outstanding.add(entry(name, kind))
    outstanding.complete("a", 3, "md5", MD5)
    return outstanding


def entry(name: str, kind: Kind = Kind.FILE) -> Entry:
    return Entry(kind, name, name, os.stat(__file__))


def test_a_receipt_for_what_was_sent_is_a_result(kept: Kept, outstanding: Outstanding) -> None:
    outstanding.confirm(Receipt("a", Outcome.STORED, 3, md5=MD5))
    outstanding.confirm(Receipt("d", Outcome.STORED, durable=False))
    assert kept.results == [
        Result("a", Kind.FILE, 3, "md5", MD5, "stored"),
        Result("d", Kind.DIRECTORY, outcome="stored", durable=False),
    ]
    assert "a" not in outstanding
    assert len(outstanding) == 1


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt("a", Outcome.STORED, 3, md5=MD5[::-1]),
        Receipt("a", Outcome.STORED, 4, md5=MD5),
        Receipt("a", Outcome.STORED),
        Receipt("b", Outcome.STORED, 0),
        Receipt("c", Outcome.STORED),
    ],
    ids=["digest", "size", "neither", "not sent yet", "another name"],
)
def test_a_receipt_that_does_not_match_is_corrupt_and_no_result(
    kept: Kept, outstanding: Outstanding, receipt: Receipt
) -> None:
    with pytest.raises(CorruptData):
        outstanding.confirm(receipt)
    assert kept.results == []
    assert len(outstanding) == 3


def test_each_name_ends_once(kept: Kept, outstanding: Outstanding) -> None:
    assert outstanding.fail("b", Refused("no"))
    assert not outstanding.fail("b", LocalError("unreadable"))
    outstanding.complete("b", 3, "md5", MD5)
    outstanding.skip(entry("b"), durable=True)
    with pytest.raises(CorruptData):
        outstanding.confirm(Receipt("b", Outcome.STORED, 3, md5=MD5))
    (result,) = kept.results
    assert (result.name, str(result.error), result.with_session) == ("b", "no", False)


def test_what_is_skipped_is_unchanged(kept: Kept, outstanding: Outstanding) -> None:
    outstanding.skip(entry("b"), durable=False)
    size = os.stat(__file__).st_size
    by_time = Result("b", Kind.FILE, size, outcome="unchanged", durable=False, by_time=True)
    assert kept.results == [by_time]


def test_what_was_offered_with_its_digest_is_not_unchanged_by_time_alone(
    kept: Kept, outstanding: Outstanding
) -> None:
    outstanding.add(entry("c"), ("md5", "0"))
    outstanding.skip(entry("c"), durable=True)
    (result,) = kept.results
    assert (result.by_time, result.algorithm, result.digest) == (False, "md5", "0")


def test_a_result_says_that_the_receiver_had_other_content(
    kept: Kept, outstanding: Outstanding
) -> None:
    for name in ("a", "b", "gone"):
        outstanding.mark_differing(name)
    outstanding.confirm(Receipt("a", Outcome.VERSIONED, 3, md5=MD5))
    outstanding.fail("b", Refused("no"))
    outstanding.confirm(Receipt("d", Outcome.STORED))
    assert [result.differed for result in kept.results] == [True, True, False]


def test_the_end_of_the_session_is_the_end_of_everything(
    kept: Kept, outstanding: Outstanding
) -> None:
    outstanding.fail_all(LocalError("ended"))
    assert [(r.name, str(r.error), r.with_session) for r in kept.results] == [
        (name, "ended", True) for name in ("a", "b", "d")
    ]
    assert len(outstanding) == 0
