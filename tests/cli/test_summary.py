"""The summary of a send: it says what happened, and nothing that nobody looked at."""

import pytest

from xfer.cli.output.summary import Tally
from xfer.errors import Refused
from xfer.sending.observer import SKIPPED, Result
from xfer.source.tree import Kind

STORED = Result("s", Kind.FILE, 1024, "md5", "0", "stored")
VERSIONED = Result("v", Kind.FILE, 1024, "md5", "0", "versioned")
DIFFERED = Result("d", Kind.FILE, 1024, "md5", "0", "versioned", differed=True)
BY_TIME = Result("t", Kind.FILE, 2048, outcome="unchanged", by_time=True)
BY_CONTENT = Result("c", Kind.FILE, 2048, outcome="unchanged")
FAILED = Result("f", Kind.FILE, error=Refused("no"))
SPECIAL = Result("p", Kind.SPECIAL, outcome=SKIPPED, message="p is a FIFO")
DIRECTORY = Result("d", Kind.DIRECTORY, outcome="stored")
OLD_DIRECTORY = Result("o", Kind.DIRECTORY, outcome="unchanged")
NO_DIRECTORY = Result("n", Kind.DIRECTORY, error=Refused("no"))
LINK = Result("l", Kind.SYMLINK, outcome="stored")
NOT_FLUSHED = Result("s", Kind.FILE, 1024, "md5", "0", "stored", durable=False)
WHY_NOT = (
    "but NOT flushed to disk: the receiver runs with --no-fsync, or on a file system that "
    "promises nothing"
)


def summary(*results: Result, sent: int | None = None) -> str:
    tally = Tally()
    for result in results:
        tally.add(result)
    if sent is None:
        sent = sum(result.size for result in results if result.digest)
    return tally.in_words("nas", sent, 0.5)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([STORED], "1 file: 1 stored; 1.0 KiB in 0.5 s (2.0 KiB/s), verified and on disk at nas"),
        (
            [STORED, VERSIONED, BY_TIME, BY_TIME, FAILED, DIRECTORY],
            "5 files: 1 stored, 1 versioned, 2 unchanged (by size and time), 1 failed; "
            "2.0 KiB in 0.5 s (4.0 KiB/s), on disk at nas",
        ),
        (
            [BY_TIME, BY_TIME, OLD_DIRECTORY],
            "2 files: 2 unchanged (by size and time); nothing new for nas in 0.5 s",
        ),
        (
            [BY_CONTENT],
            "1 file: 1 unchanged (by content); 2.0 KiB verified in 0.5 s, nothing new for nas",
        ),
        (
            [BY_TIME, BY_CONTENT, BY_CONTENT],
            "3 files: 3 unchanged (1 by size and time); "
            "4.0 KiB verified in 0.5 s, nothing new for nas",
        ),
        ([FAILED, FAILED], "2 files: 2 failed; nothing stored at nas in 0.5 s"),
        (
            [STORED, DIFFERED],
            "2 files: 1 stored, 1 versioned; 1 differed although size and time agreed; "
            "2.0 KiB in 0.5 s (4.0 KiB/s), verified and on disk at nas",
        ),
        (
            [STORED, SPECIAL],
            "1 file: 1 stored; 1 skipped; "
            "1.0 KiB in 0.5 s (2.0 KiB/s), verified and on disk at nas",
        ),
        (
            [LINK, DIRECTORY, DIRECTORY],
            "1 link: 1 stored; 2 directories: 2 stored; 0.5 s, on disk at nas",
        ),
        ([OLD_DIRECTORY], "1 directory: 1 unchanged; nothing new for nas in 0.5 s"),
        (
            [BY_TIME, DIRECTORY],
            "1 file: 1 unchanged (by size and time); 1 directory: 1 stored; 0.5 s, on disk at nas",
        ),
        (
            [STORED, NO_DIRECTORY],
            "1 file: 1 stored; 1 directory: 1 failed; "
            "1.0 KiB in 0.5 s (2.0 KiB/s), verified and on disk at nas",
        ),
        (
            [NOT_FLUSHED],
            f"1 file: 1 stored; 1.0 KiB in 0.5 s (2.0 KiB/s), stored at nas, {WHY_NOT}",
        ),
    ],
)
def test_the_summary_says_what_happened(results: list[Result], said: str) -> None:
    assert summary(*results) == said


def test_a_resumed_file_is_not_said_to_have_travelled_whole() -> None:
    assert "; 256 B of 1.0 KiB in 0.5 s (512 B/s), verified" in summary(STORED, sent=256)


def test_what_was_sent_in_vain_has_a_rate_all_the_same() -> None:
    assert "nothing new for nas in 0.5 s (2.0 KiB/s)" in summary(BY_TIME, sent=1024)


def test_the_counts_of_a_json_summary_are_of_files_but_for_what_failed_or_was_skipped() -> None:
    tally = Tally()
    for result in (STORED, DIFFERED, BY_TIME, DIRECTORY, LINK, FAILED, NO_DIRECTORY, SPECIAL):
        tally.add(result)
    assert tally.described() == {
        "files": 3, "bytes": 4096, "stored": 1, "versioned": 1, "unchanged": 1,
        "differed": 1, "failed": 2, "skipped": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("results", "is_said"),
    [([], False), ([FAILED], False), ([FAILED, FAILED], True), ([SPECIAL], True), ([LINK], True)],
)
def test_a_single_failure_has_no_summary_after_its_own_line(
    results: list[Result], is_said: bool
) -> None:
    tally = Tally()
    for result in results:
        tally.add(result)
    assert tally.is_worth_a_line is is_said
