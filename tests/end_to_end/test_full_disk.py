"""Disks that are full, fail or may not be written any more: said in words, nothing lost."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.faults import PLAINTEXT, attached, require_strace, traceable
from tests.support.mounts import mounted, tool
from tests.support.processes import (
    MIB,
    PATIENCE,
    HandSender,
    Site,
    assert_failed,
    codes,
    receiving,
    run,
    unprivileged,
    wait_until,
)
from tests.support.proxy import Proxy, link
from tests.support.resources import alive, descriptors, descriptors_at_rest, memory, sparse
from xfer.wire.messages import Plan, Working

KIB: Final = 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Site]:
    """A receiver on a disk of 2 MiB, which must survive the test and leave nothing half-written."""
    options = ["-t", "tmpfs", "-o", "size=2m", "xfer-test"]
    with (
        mounted(tmp_path / "received", *options),
        receiving(tmp_path, PLAINTEXT) as site,
        alive(site),
    ):
        yield site
        wait_until(lambda: not site.partials())


def free(site: Site) -> int:
    """Bytes."""
    disk = os.statvfs(site.directory)
    return disk.f_bavail * disk.f_frsize


# Full


def test_what_cannot_fit_is_refused_before_most_of_it_has_travelled(
    small: Site, tmp_path: Path
) -> None:
    large = sparse(tmp_path / "large", 40 * MIB)
    with Proxy(small.port, [link("up", rate=8 * MIB)]) as proxy:
        refused = proxy.leading_to(small).send("--json", large)
    assert_failed(refused, 6, "no space left on the receiver's disk")
    assert (refused.records[0]["code"], refused.records[0]["retryable"]) == ("no_space", False)
    assert proxy.up < 20 * MIB
    assert not small.stored(large).exists()


def test_a_stream_that_fills_the_disk_gives_its_room_back(small: Site, document: Path) -> None:
    room = free(small)
    refused = small.send("--json", "-", "--name", "stream", stdin=os.urandom(5 * MIB))
    assert_failed(refused, 6, "no space left on the receiver's disk")
    assert refused.records[0]["code"] == "no_space"
    assert not small.stored("stream").exists()
    wait_until(lambda: not small.partials())
    assert free(small) == room
    assert small.send(document).code == 0
    assert small.stored(document).read_bytes() == document.read_bytes()


def test_new_content_that_does_not_fit_leaves_the_old(small: Site) -> None:
    with HandSender(small) as sender:
        sender.file("file", MIB * b"o")
        sender.file("file", 5 * MIB // 4 * b"n", mode=0o600)
        assert sorted(codes(sender.answers())) == [("receipt", "stored"), ("refusal", "no_space")]
    assert small.stored("file").read_bytes() == MIB * b"o"
    assert small.versions("file") == []


def test_neighbours_of_a_full_disk_are_stored_as_far_as_there_is_room(small: Site) -> None:
    contents = {f"neighbour-{number}": os.urandom(16 * KIB) for number in range(16)}
    hog, most = os.urandom(3 * MIB), 2 * MIB - 64 * KIB
    with HandSender(small) as greedy:
        greedy.file("hog", hog[:most], file_size=None, length=most)
        wait_until(lambda: small.partials() == [most])
        first = sent(small, contents)
        whole: dict[str, object] = {"file_size": 3 * MIB, "offset": most}
        greedy.file("hog", hog[most:], **whole, md5=hashlib.md5(hog).hexdigest())
        assert codes(greedy.answers()) == [("refusal", "no_space")]
    assert set(first.values()) == {"stored", "no_space"}
    for name, content in contents.items():
        stored = small.stored(name)
        assert (stored.read_bytes() if stored.exists() else None) == (
            content if first[name] == "stored" else None
        )
    assert set(sent(small, contents).values()) == {"stored", "unchanged"}


def sent(site: Site, contents: dict[str, bytes]) -> dict[str, str]:
    """The code or outcome of each of these files."""
    with HandSender(site) as sender:
        for name, content in contents.items():
            sender.file(name, content)
        answers = [answer for answer in sender.answers() if not isinstance(answer, Working)]
    names = [str(getattr(answer, "file_name", "")) for answer in answers]
    assert sorted(names) == sorted(contents)
    return dict(zip(names, (code for _, code in codes(answers)), strict=True))


def test_a_disk_that_was_full_costs_neither_descriptors_nor_memory(small: Site) -> None:
    def fill() -> None:
        with HandSender(small) as sender:
            sender.file("stream", bytes(3 * MIB), file_size=None, length=3 * MIB)
            sender.file("known", b"", file_size=5 * MIB, length=0)
            assert codes(sender.answers()) == 2 * [("refusal", "no_space")]

    idle = descriptors_at_rest(small)
    for _ in range(3):
        fill()
    wait_until(lambda: descriptors(small) == idle)
    before = memory(small.process)
    for _ in range(20):
        fill()
    wait_until(lambda: descriptors(small) == idle)
    assert memory(small.process) - before < 4 * MIB


# Not to be written


def test_a_directory_on_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "received"
    directory.mkdir()
    with mounted(directory, "--bind", directory):
        assert tool("mount", "-o", "remount,bind,ro", directory).returncode == 0
        done = run(tmp_path, "receive", "--dir", directory, "--port", "0")
    assert_failed(done, 1, f"cannot receive into {directory}: Read-only file system")


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Site]:
    """A receiver on a disk that `break_disk` makes read-only, as errors of a disk do."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed")
    image = sparse(tmp_path / "image", 16 * MIB)
    assert tool("mkfs.ext4", "-q", image).returncode == 0
    with (
        mounted(tmp_path / "received", "-o", "loop", image),
        receiving(tmp_path, PLAINTEXT) as site,
        alive(site),
    ):
        yield site


def break_disk(site: Site) -> None:
    assert tool("mount", "-o", "remount,abort", site.directory).returncode == 0


def test_a_disk_that_becomes_read_only_is_said_as_such(doomed: Site, document: Path) -> None:
    idle = descriptors_at_rest(doomed)
    assert doomed.send(document).code == 0
    other = document.with_name("other.txt")
    other.write_bytes(b"other\n")
    break_disk(doomed)
    refused = doomed.send("--json", other)
    assert_failed(refused, 6, "the receiver's directory is read-only")
    assert refused.records[0]["code"] == "storage"
    assert not doomed.stored(other).exists()
    assert doomed.stored(document).read_bytes() == document.read_bytes()
    wait_until(lambda: descriptors(doomed) == idle)


def test_what_is_there_already_is_no_fault_on_a_disk_that_became_read_only(
    doomed: Site, document: Path
) -> None:
    """Only its mode would have to change."""
    idle = descriptors_at_rest(doomed)
    assert doomed.send(document).code == 0
    break_disk(doomed)
    document.chmod(0o600)
    again = doomed.send("--json", document)
    assert again.records[0].get("code", "storage") == "storage", again
    wait_until(lambda: descriptors(doomed) == idle)


def test_what_is_arriving_when_a_disk_becomes_read_only_is_refused_and_the_session_goes_on(
    doomed: Site,
) -> None:
    content = os.urandom(2 * MIB)
    idle = descriptors_at_rest(doomed)
    with HandSender(doomed) as sender:
        sender.part("large", content, 0, MIB)
        wait_until(lambda: MIB in doomed.partials())
        break_disk(doomed)
        sender.part("large", content, MIB, 2 * MIB)
        sender.file("small", b"x")
        assert codes(sender.answers()) == 2 * [("refusal", "storage")]
    wait_until(lambda: descriptors(doomed) == idle)


def test_a_directory_without_write_permission_takes_what_is_new_in_it(tmp_path: Path) -> None:
    """As with tar or rsync, whoever runs them."""
    tree = tmp_path / "tree"
    tree.mkdir()
    with receiving(tmp_path, prefix=unprivileged()) as site:
        for name in ("first", "second"):
            tree.chmod(0o755)
            (tree / name).write_bytes(name.encode())
            tree.chmod(0o555)
            done = site.send(tree)
            assert (done.code, site.stored(tree).stat().st_mode & 0o777) == (0, 0o555), done


# Failing

SLOW: Final = "delay_enter=300000"
"""Microseconds: what comes meanwhile goes into one batch, and one flush."""
NEVER: Final = "delay_enter=600000000"
"""Not until the tracing ends, that is."""
FAILURES = {
    "writing": ["pwrite64:error=EIO"],
    "flushing": ["fsync:error=EIO"],
    "flushing many": [f"fsync:{SLOW}", "syncfs:error=EIO"],
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A receiver that can be traced, and must survive its test."""
    require_strace()
    with receiving(tmp_path, PLAINTEXT, prefix=traceable()) as site, alive(site):
        yield site


def failing(
    site: Site, *faults: str, trace: str | Path = os.devnull, only: Path | None = None
) -> contextlib.AbstractContextManager[None]:
    """Let the kernel do this to system calls of the receiver, `only` those on this path."""
    injected = [option for fault in faults for option in ("-e", f"inject={fault}")]
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    path = ["-P", str(only)] if only else []
    return attached(site.process, "-o", str(trace), "-e", f"trace={calls}", *path, *injected)


@pytest.mark.parametrize("faults", FAILURES.values(), ids=FAILURES.keys())
def test_what_a_disk_did_not_take_gets_no_receipt_and_shows_old_or_new(
    site: Site, faults: list[str]
) -> None:
    """New only where it was the last flush, that of the names, that failed."""
    old = {f"file{number}": b"old" for number in range(8)}
    new = {f"file{number}": os.urandom(100 * KIB) for number in range(16)}
    idle = descriptors_at_rest(site)
    assert set(sent(site, old).values()) == {"stored"}
    with failing(site, *faults):
        told = sent(site, new)
    refused = {name for name, code in told.items() if code == "storage"}
    assert len(refused) > 4
    assert {told[name] for name in told.keys() - refused} <= {"stored", "versioned"}
    for name in refused:
        stored = site.stored(name)
        shown = stored.read_bytes() if stored.exists() else None
        assert shown in (old.get(name), new[name])
    wait_until(lambda: not site.partials() and descriptors(site) == idle)
    assert set(sent(site, new).values()) <= {"stored", "versioned", "unchanged"}
    assert all(site.stored(name).read_bytes() == content for name, content in new.items())


def test_what_has_a_name_but_failed_to_be_flushed_is_not_skipped_unflushed(
    site: Site, tmp_path: Path, document: Path
) -> None:
    trace = tmp_path / "trace"
    # Its bytes are flushed, its name is not. (Not by `when=2`: the two may be in two threads.)
    with failing(site, "fsync:error=EIO", only=site.directory):
        assert_failed(site.send(document), 6, "the receiver could not store it")
    with failing(site, "fsync:delay_enter=1", "syncfs:delay_enter=1", trace=trace):
        assert site.send(document).code == 0
    assert "= 0" in trace.read_text(), "code 0, and nobody has flushed the name"


def test_a_partial_that_cannot_be_removed_is_in_nobodys_way(site: Site) -> None:
    contents = {f"file{number}": os.urandom(2 * MIB) for number in range(3)}
    idle = descriptors_at_rest(site)
    with failing(site, "unlink:error=EIO", "unlinkat:error=EIO"):
        assert set(sent(site, contents).values()) == {"stored"}
    wait_until(lambda: descriptors(site) == idle)
    assert set(sent(site, contents).values()) == {"unchanged"}


def test_a_sender_that_goes_while_a_slow_disk_is_waited_for_leaves_nothing_locked(
    site: Site,
) -> None:
    """Of what it has begun, and of what was so large that the receiver waits for the disk."""
    contents = {"begun": os.urandom(2 * MIB), "large": bytes(33 * MIB)}
    idle = descriptors_at_rest(site)
    with failing(site, f"fsync:{NEVER}"), HandSender(site) as sender:
        sender.say({"type": "offer", "files": []})  # it knows signs of life
        sender.part("begun", contents["begun"], 0, MIB)
        sender.file("large", contents["large"])
        wait_until(lambda: sorted(site.partials()) == [MIB, 33 * MIB])
        while sender.channel.wait_for_message(None, 0):
            sender.channel.receive()
        assert isinstance(sender.channel.receive(), Working)  # so it waits for the disk by now
        sender.channel.abort()
        time.sleep(3)  # for two more signs: the first one that nobody takes does not fail yet
    wait_until(lambda: descriptors(site) == idle)
    assert set(sent(site, contents).values()) <= {"unchanged", "stored"}


@pytest.mark.parametrize("mtime_ns", [10**18, time.time_ns()], ids=["old", "recent"])
def test_a_receiver_killed_while_it_flushes_finishes_a_read_only_file_when_started_again(
    tmp_path: Path, mtime_ns: int
) -> None:
    """All of it was there, so nothing of it has to be sent again."""
    require_strace()
    content = os.urandom(2 * MIB)
    prefix = [*unprivileged(), *traceable()]
    with (
        receiving(tmp_path, PLAINTEXT, prefix=prefix) as killed,
        HandSender(killed) as sender,
        failing(killed, "fsync:signal=KILL"),
    ):
        sender.file("file", content, mode=0o444, mtime_ns=mtime_ns)
        killed.process.wait(PATIENCE)
    with receiving(tmp_path, PLAINTEXT, prefix=prefix) as site, HandSender(site) as sender:
        offered = {"file_name": "file", "file_size": len(content), "mtime_ns": mtime_ns}
        sender.say({"type": "offer", "files": [offered]})
        (planned,) = sender.channel.expect(Plan).files
        assert (planned.action, planned.offset) == ("resume", len(content))
        sender.part("file", content, len(content), len(content))
        assert codes(sender.answers()) == [("receipt", "stored")]
    assert site.stored("file").read_bytes() == content
