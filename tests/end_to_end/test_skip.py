"""What the receiver has already is not sent again, and to find that out costs little."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import xfer
from tests.support.processes import MIB, SECRET, HandSender, Site, admit, fake_receiver, receiving
from tests.support.proxy import Link, Proxy, Trouble, exit_code
from xfer.outcomes import Outcome
from xfer.wire import frames
from xfer.wire.channel import Channel
from xfer.wire.messages import DirectoryHeader, Done, FileHeader, Offer, Plan, PlannedFile, Receipt

COUNT = 1000
DELAY = 0.1
"""Seconds that a byte takes each way where round trips are counted."""
AN_HOUR_AGO = 1_700_000_000_123_456_789


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A directory of a thousand small files, some of them empty."""
    directory = tmp_path / tmp_path.name
    directory.mkdir()
    for number in range(COUNT):
        (directory / f"{number:04}.txt").write_bytes(b"content " * (number % 50))
    return directory


def cost(site: Site, *paths: Path, **options: Any) -> tuple[int, list[str]]:
    """How many bytes a send takes both ways, and the outcomes of its files."""
    with Proxy(site.port) as proxy:
        host = proxy.leading_to(site).host
        receipts = xfer.send(list(map(str, paths)), host, secret=SECRET, retry_for=0, **options)
    outcomes = [receipt.outcome for receipt in receipts if receipt.kind.value == "file"]
    return proxy.up + proxy.down, outcomes


def test_a_second_run_over_many_files_sends_no_body(nas: Site, many: Path) -> None:
    for file in many.iterdir():
        file.write_bytes(os.urandom(2000))
    assert cost(nas, many)[1] == ["stored"] * COUNT
    travelled, outcomes = cost(nas, many)
    assert outcomes == ["unchanged"] * COUNT
    assert travelled < 400 * COUNT


def test_every_skipped_file_is_told_once(nas: Site, many: Path) -> None:
    assert exit_code(nas, many) == 0
    done = nas.send("--json", many)
    *records, summary = done.records
    files = [record for record in records if record["type"] == "file"]
    assert (done.code, len({record["file_name"] for record in files})) == (0, COUNT)
    assert {record["outcome"] for record in records} == {"unchanged"}
    assert len(records) == COUNT + 1
    sizes = sum(file.stat().st_size for file in many.iterdir())
    assert (summary["files"], summary["failed"], summary["bytes"]) == (COUNT, 0, sizes)


@pytest.mark.parametrize("size", [13, 2 * MIB])
@pytest.mark.parametrize("checksum_all", [False, True])
def test_a_new_time_alone_is_taken_over_and_changes_nothing_else(
    nas: Site, document: Path, size: int, checksum_all: bool
) -> None:
    document.write_bytes(os.urandom(size))
    assert exit_code(nas, document) == 0
    os.utime(document, ns=(0, AN_HOUR_AGO))
    travelled, outcomes = cost(nas, document, checksum_all=checksum_all)
    assert outcomes == ["unchanged"]
    assert nas.stored(document).stat().st_mtime_ns == AN_HOUR_AGO
    assert nas.versions(document) == []
    assert travelled < (0 if checksum_all else size) + 64 * 1024
    assert cost(nas, document)[0] < 10_000, "the third time it is skipped"


@pytest.mark.parametrize("size", [13, 2 * MIB])
def test_other_content_behind_equal_size_and_time_is_found_by_checksum_all_only(
    nas: Site, document: Path, size: int
) -> None:
    older, newer = os.urandom(size), os.urandom(size)
    for content in (older, newer):
        document.write_bytes(content)
        os.utime(document, ns=(0, AN_HOUR_AGO))
        exit_code(nas, document)
    assert nas.stored(document).read_bytes() == older
    assert cost(nas, document, checksum_all=True)[1] == ["versioned"]
    assert nas.stored(document).read_bytes() == newer
    assert nas.versions(document) == [older]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("version", "it was kept as a version"),
        ("replace", "it was replaced"),
        ("refuse", "it stays"),
    ],
)
def test_checksum_all_says_loudly_that_content_differed_although_size_and_time_agree(
    tmp_path: Path, document: Path, kept: str, said: str
) -> None:
    """As after rot on the receiver's disk. It is said with --quiet, and in its log, too."""
    with receiving(tmp_path, "--if-exists", kept) as site:
        site.send(document)
        stored = site.stored(document)
        before = stored.stat().st_mtime_ns
        older = bytes([stored.read_bytes()[0] ^ 1]) + stored.read_bytes()[1:]
        stored.write_bytes(older)
        os.utime(stored, ns=(before, before))
        unseen = site.send(document).err
        found = site.send("--quiet", "--checksum-all", "--json", document)
        again = site.send("--checksum-all", document).err
        site.log.wait_for(f"{document.name}: differs from what is sent, although size and time")
    assert "1 unchanged (by size and time)" in unseen
    assert "verified" not in unseen
    assert "on disk" not in unseen
    assert f"xfer: {document.name} differed: the receiver had other content" in found.err
    assert said in found.err
    described, summary = found.records
    assert (described["differed"], summary["differed"]) == (True, 1)
    if kept == "version":
        assert (described["outcome"], site.versions(document)) == ("versioned", [older])
    if kept != "refuse":
        assert "1 unchanged (by content); 13 B verified in" in again


@pytest.mark.parametrize("later", [-1, 1])
def test_a_nanosecond_makes_other_content_of_equal_size_another_file(
    nas: Site, document: Path, later: int
) -> None:
    for content, time in ((b"older", AN_HOUR_AGO), (b"newer", AN_HOUR_AGO + later)):
        document.write_bytes(content)
        os.utime(document, ns=(0, time))
        assert exit_code(nas, document) == 0
    assert nas.stored(document).read_bytes() == b"newer"
    assert nas.versions(document) == [b"older"]


@pytest.mark.parametrize("checksum_all", [False, True])
def test_a_new_mode_alone_is_taken_over(nas: Site, document: Path, checksum_all: bool) -> None:
    assert exit_code(nas, document) == 0
    document.chmod(0o751)
    travelled, outcomes = cost(nas, document, checksum_all=checksum_all)
    assert (outcomes, travelled < 10_000) == (["unchanged"], True)
    status = nas.stored(document).stat()
    assert (oct(status.st_mode), status.st_mtime_ns) == (
        oct(document.stat().st_mode), document.stat().st_mtime_ns
    )  # fmt: skip


def test_an_empty_file_is_stored_skipped_filled_and_emptied(nas: Site, document: Path) -> None:
    outcomes = []
    for content in (b"", b"", b"something", b""):
        if document.read_bytes() != content:
            document.write_bytes(content)
        outcomes += cost(nas, document)[1]
        assert nas.stored(document).read_bytes() == content
    assert outcomes == ["stored", "unchanged", "versioned", "versioned"]


def test_a_file_that_became_a_link_or_a_directory_is_not_skipped(nas: Site, document: Path) -> None:
    assert exit_code(nas, document) == 0
    stored = nas.stored(document)
    stored.rename(stored.with_suffix(".kept"))
    stored.symlink_to(stored.with_suffix(".kept"))
    assert cost(nas, document)[1] == ["versioned"]
    assert (stored.is_symlink(), stored.read_bytes()) == (False, document.read_bytes())
    stored.unlink()
    stored.mkdir()
    (stored / "f").write_bytes(b"in a directory")
    assert cost(nas, document)[1] == ["versioned"]
    assert stored.read_bytes() == document.read_bytes()
    (kept,) = (nas.directory / ".xfer/versions" / document.name).glob("*/f")
    assert kept.read_bytes() == b"in a directory"


def round_trips(site: Site, *paths: Path) -> int:
    """How often the sender waited for an answer before it went on."""
    with Proxy(site.port, [Link(Trouble(delay=DELAY), Trouble(delay=DELAY))]) as proxy:
        assert exit_code(proxy.leading_to(site), *paths) == 0
        return proxy.silences(1.5 * DELAY)


def test_many_files_take_hardly_more_round_trips_than_one(
    nas: Site, many: Path, document: Path
) -> None:
    one = round_trips(nas, document)
    assert round_trips(nas, many) <= one + 3
    assert round_trips(nas, many) <= one + 3, "and when all of it is there already"


def test_small_files_are_not_offered_below_what_is_absent(many: Path) -> None:
    (many / "large").write_bytes(bytes(MIB))
    offered: list[str] = []

    def script(channel: Channel) -> None:
        admit(channel)
        while not isinstance(message := channel.receive(), Done):
            if isinstance(message, Offer):
                offered.extend(file.file_name for file in message.files)
                plan = [PlannedFile(file.file_name, "send") for file in message.files]
                channel.send(Plan(tuple(plan), message.directories))
            elif isinstance(message, FileHeader):
                channel.body(message.body).view()
                name, size, md5 = message.file_name, message.file_size, message.md5
                channel.send(Receipt(name, Outcome.STORED, size, md5))
            else:
                assert isinstance(message, DirectoryHeader)
                channel.send(Receipt(message.file_name, Outcome.STORED))
            channel.flush()
        channel.send(message)
        channel.flush()

    with fake_receiver(script) as host:
        receipts = xfer.send([str(many)], host, secret=SECRET, insecure_plaintext=True)
    assert len(receipts) == COUNT + 2
    assert f"{many.name}/large" in offered
    assert len(offered) < COUNT


def test_below_what_is_absent_a_sender_is_told_so(nas: Site, many: Path) -> None:
    exit_code(nas, many)
    with HandSender(nas) as sender:
        names = [many.name, "nothing", "../up", ".xfer", f"{many.name}/0000.txt", "nothing/below"]
        sender.say({"type": "offer", "files": [], "directories": names})
        assert sender.answers() == [Plan((), ("nothing", "nothing/below"))]


def test_what_is_absent_is_told_in_as_many_frames_as_it_takes(nas: Site) -> None:
    """One name that is not UTF-8, and JSON has six bytes for what took two in the question."""
    names = [f"{number:03}{50 * 'é'}" for number in range(500)]
    spelled = json.dumps([*names, "\udc80"], ensure_ascii=False).replace("\udc80", "\\udc80")
    payload = f'{{"type":"offer","files":[],"directories":{spelled}}}'.encode()
    with HandSender(nas) as sender:
        sender.channel.send_body(frames.framed(payload))
        sender.channel.flush()
        plans = [answer for answer in sender.answers() if isinstance(answer, Plan)]
    assert [name for plan in plans for name in plan.absent] == [*names, "\udc80"]


def test_what_is_refused_below_an_absent_directory_is_offered_from_then_on(
    tmp_path: Path, many: Path
) -> None:
    for number in range(4 * COUNT):
        (many / f"{number:04}.txt").write_bytes(bytes(5000))
    with receiving(tmp_path, "--max-file-size", "1K") as site, Proxy(site.port) as proxy:
        assert exit_code(proxy.leading_to(site), many) == 7
        assert proxy.up < 2 * COUNT * 5000


def test_what_is_skipped_is_not_said_to_be_on_disk_where_nothing_is_flushed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    with receiving(tmp_path, "--no-fsync") as site:
        site.send(tmp_path / "a.txt")
        described = site.send("--json", tmp_path / "a.txt").records[0]
        in_words = site.send(tmp_path / "a.txt").err
    assert (described["outcome"], described["durable"]) == ("unchanged", False)
    assert "NOT flushed to disk" in in_words
