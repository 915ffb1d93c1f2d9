"""Descriptors, memory and sizes that run out: refused in words, survived, and given back."""

import errno
import json
import os
import re
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.faults import PLAINTEXT
from tests.support.processes import (
    MIB,
    Finished,
    HandSender,
    Site,
    admit,
    assert_failed,
    codes,
    environment,
    fake_receiver,
    finish,
    receiving,
    run,
    start,
    wait_until,
)
from tests.support.resources import (
    FEW,
    alive,
    crowd,
    descriptors,
    descriptors_at_rest,
    limited,
    memory,
    sparse,
)
from tests.support.trees import assert_same_tree
from xfer.wire.channel import Channel
from xfer.wire.messages import Plan, PlannedFile

MOST_MEMORY: Final = 64 * MIB
"""Bytes that either side may ever have in memory, whatever is sent."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def peak(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process had; returns when it has ended."""
    most = 0
    while process.poll() is None:
        most = max(most, memory(process, "VmHWM"))
        time.sleep(0.002)
    return most


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wide_tree(root: Path, directories: int) -> Path:
    """Many directories with one file in each."""
    for number in range(directories):
        (root / f"d{number}").mkdir(parents=True)
        (root / f"d{number}" / "file").write_bytes(b"%d" % number)
    return root


# Sizes


def test_what_is_over_the_limit_of_a_file_is_too_large_and_leaves_nothing(tmp_path: Path) -> None:
    large, small = sparse(tmp_path / "large", 3 * MIB), sparse(tmp_path / "small", MIB)
    with receiving(tmp_path, prefix=limited("fsize", 2 * MIB)) as site, alive(site):
        refused = site.send("--json", large, small)
        assert_failed(refused, 7, "too large for the receiver's file system")
        assert [r.get("code", r.get("outcome")) for r in refused.records[:-1]] == [
            "too_large", "stored",
        ]  # fmt: skip
        assert not site.stored(large).exists()
        wait_until(lambda: not site.partials())


# Descriptors of the receiver


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver with few descriptors, which must all be free again after each test."""
    prefix = limited("nofile", FEW)
    with receiving(tmp_path_factory.mktemp("poor"), PLAINTEXT, prefix=prefix) as site:
        yield site


def test_a_crowd_that_takes_every_descriptor_costs_no_processor(poor: Site) -> None:
    before = descriptors_at_rest(poor)
    with alive(poor):
        with crowd(poor):
            began = processor_seconds(poor.process)
            time.sleep(2)
            assert processor_seconds(poor.process) - began < 0.4
        wait_until(lambda: descriptors(poor) == before)


def test_a_session_needs_no_descriptor_for_its_first_thread(tmp_path: Path) -> None:
    fresh = receiving(tmp_path, PLAINTEXT, prefix=limited("nofile", FEW))
    with fresh as site, alive(site), HandSender(site) as sender:
        sender.say({"type": "offer", "files": [{"file_name": "x", "file_size": 1}]})
        sender.channel.expect(Plan)
        with crowd(site):
            sender.say({"type": "symlink", "file_name": "link", "target": "anywhere"})
            assert codes(sender.answers()) == [("receipt", "stored")]


def test_who_comes_behind_a_crowd_is_served_when_it_has_gone(poor: Site, document: Path) -> None:
    with alive(poor):
        with crowd(poor):
            waiting = poor.start_send("--retry-for", "15", document)
            poor.log.wait_for("out of file descriptors, so nobody can connect")
            time.sleep(0.5)
            assert waiting.poll() is None
        assert finish(waiting).code == 0
        assert poor.stored(document).read_bytes() == document.read_bytes()


def test_a_wide_tree_gets_by_with_few_descriptors(poor: Site, tmp_path: Path) -> None:
    """Each item of a batch has two open: the batches are as small as they have to be."""
    before = descriptors_at_rest(poor)
    tree = wide_tree(tmp_path / f"{tmp_path.name}-wide", 100)
    with alive(poor):
        assert (sent := poor.send("--json", "--retry-for", "0", tree)).code == 0, sent
        assert_same_tree(tree, poor.stored(tree))
        wait_until(lambda: descriptors(poor) == before)


def test_sessions_that_take_every_descriptor_finish_in_the_end(poor: Site, tmp_path: Path) -> None:
    before = descriptors_at_rest(poor)
    trees = [wide_tree(tmp_path / f"{tmp_path.name}-{number}", 50) for number in range(6)]
    with alive(poor):
        sending = [poor.start_send("--retry-for", "15", tree) for tree in trees]
        assert [finish(process).code for process in sending] == [0] * len(trees)
        for tree in trees:
            assert_same_tree(tree, poor.stored(tree))
        wait_until(lambda: descriptors(poor) == before)
        assert poor.partials() == []


def test_a_part_that_continues_elsewhere_leaves_nothing_open(nas: Site, tmp_path: Path) -> None:
    content, name = os.urandom(3 * MIB), tmp_path.name
    idle = descriptors_at_rest(nas)
    with HandSender(nas) as sender:
        sender.part(name, content, 0, MIB)
        assert sender.answers() == []
    with HandSender(nas) as sender:
        sender.say({"type": "offer", "files": [{"file_name": name, "file_size": len(content)}]})
        assert sender.channel.expect(Plan).files[0].action == "resume"
        sender.part(name, content, 2 * MIB, 3 * MIB)
        assert codes(sender.answers()) == [("refusal", "bad_part")]
    wait_until(lambda: descriptors(nas) == idle)
    with HandSender(nas) as sender:
        sender.file(name, content)
        assert codes(sender.answers()) == [("receipt", "stored")]


UNSAFE: Final = ["\ud800", "a\0b", "../up", "/etc/x", ".xfer/lock", "", "a" * 30_000, "é" * 12_000]


@pytest.mark.parametrize("name", UNSAFE, ids=range(len(UNSAFE)))
def test_an_unsafe_name_in_an_offer_is_refused_and_the_session_goes_on(
    nas: Site, tmp_path: Path, name: str
) -> None:
    with HandSender(nas) as sender, alive(nas):
        offer = {"type": "offer", "files": [{"file_name": name, "file_size": 1}]}
        escaped = not name.isprintable()
        payload = json.dumps(offer, ensure_ascii=escaped).encode()
        sender.channel.send_body(struct.pack("!I", len(payload)) + payload)
        sender.file(tmp_path.name, b"x")
        told = codes(sender.answers())
    assert [said for said in told if said[0] != "plan"] == [
        ("refusal", "bad_name"), ("receipt", "stored"),
    ]  # fmt: skip


# Descriptors of the sender


def test_the_width_of_a_tree_costs_a_sender_no_descriptors(nas: Site, tmp_path: Path) -> None:
    tree = wide_tree(tmp_path / f"{tmp_path.name}-wide", 400)
    assert send_with(nas, 256, tree).code == 0
    assert_same_tree(tree, nas.stored(tree))


def test_a_sender_without_descriptors_says_so_and_the_rest_arrives(
    nas: Site, tmp_path: Path
) -> None:
    tree = wide_tree(tmp_path / f"{tmp_path.name}-wide", 100)
    sent = send_with(nas, 32, tree)
    assert_failed(sent, 7, f"cannot be read: {os.strerror(errno.EMFILE)}")
    stored = [r["file_name"] for r in sent.records[:-1] if r["outcome"] == "stored"]
    assert stored
    assert all((nas.directory / name).exists() for name in stored)
    assert nas.send(tree).code == 0
    assert_same_tree(tree, nas.stored(tree))


def send_with(site: Site, descriptors: int, *arguments: str | Path) -> Finished:
    prefix = limited("nofile", descriptors)
    command = site.command("--json", *arguments)
    return finish(start(command, environment(site.home), prefix=prefix))


# Memory


def test_deep_names_do_not_take_all_descriptors(tmp_path: Path) -> None:
    """Each has four hundred directories above it, all of which a commit or an offer opens."""
    names = [f"{number}/{400 * 'a/'}x" for number in range(16)]
    with receiving(tmp_path, PLAINTEXT, "--no-fsync", prefix=limited("nofile", 1000)) as site:
        with HandSender(site) as sender:
            for name in names:
                sender.file(name, b"1", mtime_ns=1)
            assert codes(sender.answers()) == len(names) * [("receipt", "stored")]
        with HandSender(site) as sender:
            files = [{"file_name": name, "file_size": 1, "mtime_ns": 1} for name in names]
            sender.say({"type": "offer", "files": files})
            plans = [plan for plan in sender.answers() if isinstance(plan, Plan)]
        assert {file.action for plan in plans for file in plan.files} == {"skip"}


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources") / "five-thousand"
    root.mkdir()
    for number in range(5000):
        (root / f"{number}.txt").write_bytes(b"%d\n" % number)
    return root


def test_a_large_file_fits_through_little_memory(tmp_path: Path) -> None:
    assert_little_memory(tmp_path, sparse(tmp_path / "large", 300 * MIB))


def test_many_small_files_fit_through_little_memory(tmp_path: Path, small_files: Path) -> None:
    assert_little_memory(tmp_path, small_files)


def assert_little_memory(home: Path, path: Path) -> None:
    with receiving(home, "--quiet") as site:
        process = site.start_send("--quiet", path)
        of_sender = peak(process)
        assert finish(process).code == 0
        of_receiver = memory(site.process, "VmHWM")
    assert 0 < of_sender < MOST_MEMORY
    assert 0 < of_receiver < MOST_MEMORY


def test_names_that_are_refused_take_no_memory(tmp_path: Path) -> None:
    """A name may be long, and a character may take four bytes."""
    unsafe = "\U0001f600" + 32_000 * "a" + "\0"
    with receiving(tmp_path, PLAINTEXT, "--quiet") as site, HandSender(site) as sender, alive(site):
        refuse_many(sender, ["\0"])
        before = memory(site.process)
        refuse_many(sender, [f"{number}{unsafe}" for number in range(150)])
        assert memory(site.process) - before < 8 * MIB


def test_sessions_that_are_over_leave_little_memory(tmp_path: Path) -> None:
    """However many threads they had, and whatever became of them."""
    with receiving(tmp_path, PLAINTEXT, "--quiet", "--no-fsync", "--quota", "1G") as site:
        with HandSender(site) as first:
            first.answers()
        before = memory(site.process)
        threads = [threading.Thread(target=one_after_the_other, args=(site, n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: memory(site.process) - before < 6 * MIB)


def one_after_the_other(site: Site, number: int) -> None:
    body = os.urandom(400_000)
    for session in range(60):
        with HandSender(site) as sender:
            sender.file(f"{number}/{session}", body)
            if session % 3:
                sender.answers()


def refuse_many(sender: HandSender, names: Sequence[str]) -> None:
    for name in names:
        sender.say({"type": "directory", "file_name": name})
        assert sender.channel.receive().type == "refusal"


def test_plans_for_what_was_never_offered_take_no_memory(tmp_path: Path) -> None:
    file = sparse(tmp_path / "f", 1)

    def flood(channel: Channel) -> None:
        admit(channel)
        plan = Plan(tuple(PlannedFile(file.name, "send") for _ in range(1000)))
        for _ in range(400):
            channel.send(plan)

    with fake_receiver(flood) as host:
        process = start(["send", PLAINTEXT, str(file), host], environment(tmp_path))
        of_sender = peak(process)
    assert_failed(finish(process), process.returncode, "xfer: ")
    assert process.returncode != 0
    assert of_sender < MOST_MEMORY


# One receiver, and the next one


def test_a_second_receiver_leaves_the_first_alone(nas: Site, document: Path) -> None:
    second = run(nas.home, "receive", "--dir", nas.directory, "--bind", "127.0.0.1", "--port", "0")
    assert_failed(second, 1, f"another receiver is using {nas.directory}")
    assert nas.send(document).code == 0


def test_a_receiver_after_a_killed_one_says_what_it_found_and_works(
    tmp_path: Path, document: Path
) -> None:
    content = os.urandom(2 * MIB)
    with receiving(tmp_path, PLAINTEXT) as killed, HandSender(killed) as sender:
        sender.part("large", content, 0, MIB)
        # Of what its sender cannot read twice, nothing is kept.
        sender.file("stream", content[:MIB], file_size=None, length=MIB)
        wait_until(lambda: sorted(killed.partials()) == [MIB, MIB])
        killed.process.kill()
        killed.process.wait()
    with receiving(tmp_path, PLAINTEXT) as site:
        assert re.search(r"removed .*\b1 .*file", site.log.text)
        assert "1 interrupted file will resume" in site.log.text
        assert site.partials() == [MIB]
        assert site.send(document).code == 0
        with HandSender(site) as sender:
            sender.part("large", content, MIB, 2 * MIB)
            sender.file("stream", b"ab")
            assert sorted(codes(sender.answers())) == 2 * [("receipt", "stored")]
        assert site.stored("large").read_bytes() == content
        wait_until(lambda: not site.partials())
