"""Plans: each row of the planner's table, on a real store; a refusal comes before its plan."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.channels import Ends
from tests.support.stores import leave_partial, put
from xfer.logs import Peer
from xfer.receiving.planner import Planner
from xfer.receiving.receipts import ReceiptSender
from xfer.receiving.rehash import Rehasher
from xfer.receiving.uploads import MIN_RESUME_BYTES, Uploads
from xfer.storage.contract import Metadata, StoredFile, StoreWriter
from xfer.wire.channel import Channel
from xfer.wire.messages import Offer, OfferedFile, PlannedFile, Refusal

MTIME_NS = 1_700_000_000_123_456_789
METADATA = Metadata(0o640, MTIME_NS)
CONTENT = b"content"
LARGE = bytes(MIN_RESUME_BYTES)


@pytest.fixture
def planner(ends: Ends, writer: StoreWriter, uploads: Uploads, rehasher: Rehasher) -> Planner:
    return Planner(writer, uploads, rehasher, receipts_to(ends))


def receipts_to(ends: Ends) -> ReceiptSender:
    return ReceiptSender(ends[1], Peer("test"), durable=True)


@pytest.fixture
def sender(ends: Ends) -> Channel:
    return ends[0]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def offered(
    size: int, name: str = "f", mtime_ns: int = MTIME_NS, digest: str | None = None
) -> OfferedFile:
    return OfferedFile(name, size, mtime_ns, METADATA.mode, digest)


def planned(planner: Planner, *files: OfferedFile) -> list[PlannedFile]:
    return [file for plan in planner.plans(Offer(files)) for file in plan.files]


def test_what_is_not_there_is_sent(planner: Planner) -> None:
    assert planned(planner, offered(7)) == [PlannedFile("f", "send")]


def test_equal_size_and_time_are_skipped(planner: Planner, writer: StoreWriter) -> None:
    put(writer, "f", CONTENT, METADATA)
    assert planned(planner, offered(7)) == [PlannedFile("f", "skip")]


@pytest.mark.parametrize("other", [offered(8), offered(7, mtime_ns=MTIME_NS + 1)])
def test_another_size_or_time_is_sent(
    planner: Planner, writer: StoreWriter, other: OfferedFile
) -> None:
    put(writer, "f", CONTENT, METADATA)
    assert planned(planner, other) == [PlannedFile("f", "send")]


def test_an_offered_digest_decides_and_time_does_not(planner: Planner, writer: StoreWriter) -> None:
    put(writer, "f", CONTENT, METADATA)
    older = offered(7, mtime_ns=MTIME_NS - 1, digest=md5(b"another"))
    assert planned(planner, older) == [PlannedFile("f", "send")]
    newer = offered(7, mtime_ns=MTIME_NS + 1, digest=md5(CONTENT))
    assert planned(planner, newer) == [PlannedFile("f", "skip")]


def test_other_content_of_that_size_and_time_is_said_to_differ(
    planner: Planner, writer: StoreWriter, caplog: pytest.LogCaptureFixture
) -> None:
    put(writer, "f", CONTENT, METADATA)
    leave_partial(writer, "f", b"some")
    resumed = PlannedFile("f", "resume", 4, md5(b"some"), differs=True)
    assert planned(planner, offered(7, digest=md5(b"another"))) == [resumed]
    assert "test f: differs from what is sent, although size and time agree" in caplog.text
    assert not planned(planner, offered(8, digest=md5(b"another!")))[0].differs


def test_what_is_skipped_gets_the_offered_mode_and_time(
    planner: Planner, writer: StoreWriter, tmp_path: Path
) -> None:
    put(writer, "f", CONTENT, Metadata(0o600, MTIME_NS))
    newer = offered(7, mtime_ns=MTIME_NS + 1, digest=md5(CONTENT))
    assert planned(planner, newer) == [PlannedFile("f", "skip")]
    status = (tmp_path / "f").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, MTIME_NS + 1)


def test_a_file_with_another_name_is_sent_rather_than_changed(
    planner: Planner, writer: StoreWriter, tmp_path: Path
) -> None:
    put(writer, "f", CONTENT, Metadata(0o600, MTIME_NS))
    os.link(tmp_path / "f", tmp_path / "g")
    assert planned(planner, offered(7)) == [PlannedFile("f", "send")]
    assert planned(planner, offered(7, digest=md5(CONTENT))) == [PlannedFile("f", "send")]
    assert (tmp_path / "g").stat().st_mode & 0o777 == 0o600


def test_nor_does_what_was_swapped_for_a_name_of_a_file_outside_change(
    ends: Ends, writer: StoreWriter, rehasher: Rehasher, tmp_path: Path
) -> None:
    """Between the look at the stored file and the change of its mode and time."""
    outside = tmp_path.parent / f"{tmp_path.name}.outside"
    outside.write_bytes(b"theirs!")
    before = outside.stat()
    put(writer, "f", CONTENT, Metadata(0o600, MTIME_NS))

    statuses = writer.statuses

    def swap(files: Sequence[str]) -> list[StoredFile | None]:
        found = statuses(files)
        (tmp_path / "f").unlink()
        os.link(outside, tmp_path / "f")
        return found

    writer.statuses = swap  # type: ignore[method-assign] # another program acts right after it
    planner = Planner(writer, Uploads(writer, rehasher), rehasher, receipts_to(ends))
    assert planned(planner, offered(7)) == [PlannedFile("f", "send")]
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_a_kept_partial_is_resumed_where_it_ends(planner: Planner, writer: StoreWriter) -> None:
    leave_partial(writer, "f", b"some")
    assert planned(planner, offered(7)) == [PlannedFile("f", "resume", 4, md5(b"some"))]
    again = planned(planner, offered(7))
    assert again == [PlannedFile("f", "resume", 4, md5(b"some"))], "an offer may be repeated"


def test_a_kept_partial_that_is_longer_than_the_file_is_discarded(
    planner: Planner, writer: StoreWriter
) -> None:
    leave_partial(writer, "f", b"longer than that")
    assert planned(planner, offered(7)) == [PlannedFile("f", "send")]
    assert writer.find_partial("f") is None


def test_a_stored_file_that_has_grown_is_resumed_if_that_is_worth_it(
    planner: Planner, writer: StoreWriter
) -> None:
    put(writer, "large", LARGE)
    put(writer, "small", LARGE[1:])
    files = [offered(len(LARGE) + 1, name) for name in ("large", "small")]
    assert planned(planner, *files) == [
        PlannedFile("large", "resume", len(LARGE), md5(LARGE)),
        PlannedFile("small", "send"),
    ]


def test_of_the_offered_directories_those_are_told_that_are_absent(
    planner: Planner, writer: StoreWriter
) -> None:
    put(writer, "there/f", CONTENT)
    directories = ("there", "absent", "there/absent", "../up", ".xfer")
    (plan,) = planner.plans(Offer((), directories=directories))
    assert (plan.files, plan.absent) == ((), ("absent", "there/absent"))


def test_an_unsafe_name_is_refused_before_the_plan_says_so(
    planner: Planner, sender: Channel
) -> None:
    assert planned(planner, offered(7, "../f"), offered(7)) == [
        PlannedFile("../f", "refuse"), PlannedFile("f", "send")
    ]  # fmt: skip
    refusal = sender.expect(Refusal)
    assert (refusal.file_name, refusal.code) == ("../f", "bad_name")


def test_a_file_that_another_session_sends_is_refused(
    planner: Planner, writer: StoreWriter, sender: Channel
) -> None:
    leave_partial(writer, "f", b"some")
    locked = writer.find_partial("f")
    assert planned(planner, offered(7)) == [PlannedFile("f", "refuse")]
    assert sender.expect(Refusal).code == "busy"
    assert locked
    locked.discard()
