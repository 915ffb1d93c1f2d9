"""Offers and plans: what is asked about, and which answers fit."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from xfer.errors import ConnectionLost, CorruptData
from xfer.sending.observer import Results
from xfer.sending.offers import Offers
from xfer.sending.outstanding import Outstanding
from xfer.sending.parts import PART_BYTES, Options, PartReader
from xfer.source.tree import Entry, Kind
from xfer.system.background import BackgroundThread
from xfer.wire.keepalive import Heartbeat, StallLimit
from xfer.wire.messages import Plan, PlannedFile

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"  # RFC 1321, A.5


def offers_with(options: Options) -> Offers:
    background = BackgroundThread()
    reader = PartReader(options, background, Heartbeat(background, lambda _: None))
    return Offers(options, reader, Outstanding(Results(), StallLimit()))


@pytest.fixture
def offers() -> Offers:
    return offers_with(Options())


def entry(name: str, path: Path | str = __file__, kind: Kind = Kind.FILE) -> Entry:
    return Entry(kind, name, str(path), os.stat(path))


def offered(offers: Offers, batch: Sequence[Entry]) -> list[list[str]]:
    """The names in each offer: of directories, or of files."""
    return [
        list(offer.directories) or [file.file_name for file in offer.files]
        for offer in offers.offers_for(batch)
    ]


def planned(*names: str) -> Plan:
    return Plan(tuple(PlannedFile(name, "send") for name in names))


def test_files_are_offered_and_other_things_just_sent(offers: Offers) -> None:
    batch = [entry("file"), entry("d", ".", Kind.DIRECTORY), entry("link", kind=Kind.SYMLINK)]
    assert offered(offers, batch) == [["file"]]
    assert offers.plan_for("d") is None
    assert offers.plan_for("link") is None


def test_a_top_directory_is_asked_about_once(offers: Offers) -> None:
    assert offered(offers, [entry("top/a")]) == [["top"], ["top/a"]]
    assert offered(offers, [entry("top/b/c")]) == [["top/b/c"]]


def test_a_small_file_below_what_is_absent_is_not_offered_and_a_large_one_is(
    offers: Offers, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, PART_BYTES)
    offered(offers, [entry("top/a"), entry("other/a")])
    offers.add_plan(Plan((), ("top",)))
    batch = [entry("top/small"), entry("top/large", large), entry("other/small")]
    assert offered(offers, batch) == [["top/large", "other/small"]]
    assert offers.plan_for("top/small") is None


def test_after_a_refusal_everything_is_offered(offers: Offers) -> None:
    offered(offers, [entry("top/a")])
    offers.add_plan(Plan((), ("top",)))
    offers.offer_all()
    assert offered(offers, [entry("top/b")]) == [["top/b"]]


def test_an_offer_holds_size_time_and_mode_and_the_digest_if_contents_count(
    tmp_path: Path,
) -> None:
    path = tmp_path / "empty"
    path.touch(0o640)
    os.utime(path, ns=(0, 1_000_000_000))
    for options, digest in ((Options(), None), (Options(compare_contents=True), EMPTY_MD5)):
        (offer,) = offers_with(options).offers_for([entry("empty", path)])
        (file,) = offer.files
        assert (file.file_size, file.mtime_ns, file.mode) == (0, 1_000_000_000, 0o640)
        assert file.digest == digest


def test_plans_are_waited_for_and_come_in_the_order_of_the_offers(offers: Offers) -> None:
    offered(offers, [entry("a"), entry("b")])
    offered(offers, [entry("c")])

    def answer() -> None:
        for names in (["a"], ["b", "c"]):
            offers.add_plan(planned(*names))

    answering = threading.Timer(0.05, answer)
    answering.start()
    assert [offers.plan_for(name) for name in "abc"] == list(planned(*"abc").files)
    answering.join()


@pytest.mark.parametrize(
    "plan",
    [planned("b"), planned("a", "a"), planned("a", "c"), Plan((), ("top",))],
    ids=["another order", "twice", "another file", "a directory"],
)
def test_a_plan_for_what_was_not_offered_is_corrupt(offers: Offers, plan: Plan) -> None:
    offered(offers, [entry("a"), entry("b")])
    with pytest.raises(CorruptData):
        offers.add_plan(plan)


def test_who_waits_for_a_plan_is_told_that_none_will_come(offers: Offers) -> None:
    offered(offers, [entry("a"), entry("b")])
    offers.add_plan(planned("a"))
    offers.end(ConnectionLost("gone"))
    assert offers.plan_for("a") == PlannedFile("a", "send")
    with pytest.raises(ConnectionLost, match="gone"):
        offers.plan_for("b")
