"""Batches fit into one offer each, and few of them are on offer at once."""

import os
from pathlib import Path

from xfer.errors import LocalError
from xfer.sending.batches import (
    OFFERS_AHEAD,
    OPEN_DIRECTORIES,
    InOrder,
    count_directories,
    in_offers,
)
from xfer.source import tree
from xfer.source.tree import Entry, Kind, Unsendable
from xfer.wire.messages import Offer, OfferedFile, encode
from xfer.wire.messages.offers import MAX_OFFERED

MAX_FRAME = 64 * 1024


def file(name: str) -> Entry:
    return Entry(Kind.FILE, name, name, os.stat(__file__))


def test_everything_comes_in_its_order_and_each_batch_fits_into_one_offer() -> None:
    entries = [file(f"{number:04}" + "é" * (number % 2000)) for number in range(3000)]
    batches = list(InOrder(entries))
    assert [entry for batch in batches for entry in batch] == entries
    for batch in batches:
        offer = Offer(tuple(OfferedFile(entry.name, 1) for entry in batch))
        assert len(offer.files) <= MAX_OFFERED
        assert len(encode(offer)) <= MAX_FRAME


def test_a_few_batches_are_offered_ahead() -> None:
    batches = InOrder([])
    offered = [[file("a")]]
    assert not batches.is_full(offered * OFFERS_AHEAD)
    assert batches.is_full(offered * (OFFERS_AHEAD + 1))


def test_what_is_on_offer_holds_few_directories_open(tmp_path: Path) -> None:
    for number in range(OPEN_DIRECTORIES + 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").touch()
    entries = [
        entry
        for entry in tree.walk([str(tmp_path)])
        if isinstance(entry, Entry) and entry.kind is Kind.FILE
    ]
    batches = InOrder([])
    assert count_directories([entries]) == OPEN_DIRECTORIES + 1
    assert not batches.is_full([entries[1:]])
    assert batches.is_full([entries])


def test_what_cannot_be_sent_is_in_a_batch_like_the_rest() -> None:
    unsendable = Unsendable("b", "b", LocalError("no"))
    assert list(in_offers([file("a"), unsendable])) == [[file("a"), unsendable]]
