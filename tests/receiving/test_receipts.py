"""Receipts: one answer an item, logged; and which parts belong to a refused file."""

import logging

import pytest

from tests.support.channels import Ends
from xfer.errors import Code, Refused
from xfer.logs import Peer
from xfer.outcomes import Outcome
from xfer.receiving.commit_queue import ArrivedItem
from xfer.receiving.committer import CommittedBatch
from xfer.receiving.receipts import ReceiptSender
from xfer.storage.contract import Metadata, NewDirectory
from xfer.wire.channel import Channel
from xfer.wire.messages import FileHeader, Receipt, Refusal

MD5 = 32 * "0"
BUSY = Refused("not now", code=Code.BUSY)


@pytest.fixture
def receipts(ends: Ends) -> ReceiptSender:
    return ReceiptSender(ends[1], Peer("192.0.2.1:50000", "default"), durable=False)


@pytest.fixture
def sender(ends: Ends) -> Channel:
    return ends[0]


def arrived(name: str, size: int = 0, digest: str = "") -> ArrivedItem:
    item = NewDirectory(name, Metadata())  # what kind of item it is, is in no receipt
    return ArrivedItem(item, 0.0, size, {"md5": digest} if digest else {})


def part(offset: int, name: str = "f") -> FileHeader:
    return FileHeader(name, 10, MD5, offset=offset, length=5)


def test_each_item_of_a_batch_gets_its_receipt_or_its_refusal(
    receipts: ReceiptSender, sender: Channel
) -> None:
    batch: CommittedBatch = [
        (arrived("f", 10, MD5), Outcome.STORED),
        (arrived("d"), Outcome.UNCHANGED),
        (arrived("g", 10, MD5), BUSY),
    ]
    receipts.answer(batch)
    answers = [sender.receive() for _ in batch]
    assert sorted(answers, key=repr) == [
        Receipt("d", Outcome.UNCHANGED, durable=False),
        Receipt("f", Outcome.STORED, 10, MD5, durable=False),
        Refusal("g", "busy", "not now", retryable=True),
    ]


def test_every_answer_is_in_the_log_with_its_sender(
    receipts: ReceiptSender, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "xfer.receiver"):
        receipts.answer([(arrived("f", 10, MD5), Outcome.STORED)])
        receipts.refuse("g\n", BUSY)
    receipt, refusal = caplog.messages
    assert receipt.startswith("192.0.2.1:50000 default f: 10 bytes, ")
    assert receipt.endswith(" s, stored")
    assert refusal == "192.0.2.1:50000 default g\\n: refused, not now"


def test_later_parts_of_a_refused_file_belong_to_it_and_a_first_one_is_a_new_try(
    receipts: ReceiptSender,
) -> None:
    receipts.refuse("f", BUSY)
    assert [receipts.has_refused(part(5)) for _ in range(2)] == [True, True]
    assert not receipts.has_refused(part(5, "g"))
    assert not receipts.has_refused(part(0))
    assert not receipts.has_refused(part(5))


def test_after_an_offer_of_it_a_refused_file_may_be_resumed(receipts: ReceiptSender) -> None:
    receipts.refuse("f", BUSY)
    receipts.forget_refusal("f")
    assert not receipts.has_refused(part(5))
