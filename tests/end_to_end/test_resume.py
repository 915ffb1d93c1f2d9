"""An interrupted file is resumed where it stopped; a damaged partial costs time only."""

import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import xfer
from tests.support.processes import (
    MIB,
    SECRET,
    HandSender,
    Site,
    assert_failed,
    codes,
    end,
    finish,
    receiving,
    wait_until,
)
from tests.support.proxy import Proxy, exit_code, link
from tests.support.resources import descriptors
from xfer.errors import ConnectionLost
from xfer.sending.observer import Result
from xfer.server.sessions import SILENT_SECONDS
from xfer.wire.messages import Plan, Refusal

LITTLE = 64 * 1024
"""Bytes: an opening, an offer, headers, and TLS around a few MiB."""
SIZE = 32 * MIB
HALF = SIZE // 2
SILENT = SILENT_SECONDS + 1.5
"""Seconds; that an answer was acknowledged is seen up to a second later."""


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file whose name no other test uses; 4 MiB."""
    path = tmp_path / f"{tmp_path.name}.bin"
    path.write_bytes(noise(4 * MIB))
    return path


def cost(site: Site, file: Path, **options: Any) -> tuple[int, Result]:
    """How many bytes a send that succeeds takes to the receiver; and its receipt."""
    with Proxy(site.port) as proxy:
        options |= {"secret": SECRET, "retry_for": 10}
        (receipt,) = xfer.send([str(file)], proxy.leading_to(site).host, **options)
    return proxy.up, receipt


def assert_stored(site: Site, file: Path) -> None:
    stored = site.stored(file)
    assert stored.read_bytes() == file.read_bytes()
    assert stored.stat().st_mtime_ns == file.stat().st_mtime_ns
    wait_until(lambda: not keyed(site))


def keyed(site: Site) -> list[Path]:
    """The kept partials."""
    return sorted((site.directory / ".xfer" / "partials").glob("keyed-*"))


def leave_partial(site: Site, file: Path, beginning: bytes) -> Path:
    """End a session after the beginning of a file; returns the partial that is kept of it."""
    earlier = keyed(site)
    with HandSender(site) as sender:
        sender.part(file.name, beginning + b"and more", 0, len(beginning))
    name = re.escape(file.name)
    site.log.wait_for(rf"{name}: interrupted at {len(beginning)} bytes")
    (partial,) = set(keyed(site)) - set(earlier)
    return partial


@contextlib.contextmanager
def half_way(site: Site, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """While a large file is half sent: the file, and how to kill its sender."""
    file = tmp_path / f"{tmp_path.name}.large"
    file.write_bytes(noise(SIZE))
    with Proxy(site.port, [link("up", stall_at=HALF)]) as proxy:
        process = proxy.leading_to(site).start_send(file)

        def kill() -> None:
            process.kill()
            process.communicate()

        wait_until(lambda: max(site.partials(), default=0) > HALF - MIB)
        try:
            yield file, kill
        finally:
            kill()


def test_a_killed_sender_goes_on_in_the_middle(nas: Site, tmp_path: Path) -> None:
    with half_way(nas, tmp_path) as (file, kill):
        kill()
        assert not nas.stored(file).exists()
    travelled, receipt = cost(nas, file)
    assert travelled < HALF + MIB + LITTLE
    assert (receipt.outcome, receipt.size) == ("stored", SIZE)
    assert_stored(nas, file)


def test_a_killed_receiver_goes_on_in_the_middle(tmp_path: Path) -> None:
    with receiving(tmp_path) as site, half_way(site, tmp_path) as (file, _):
        site.process.kill()
        site.process.wait()
    with receiving(tmp_path) as site:
        assert "1 interrupted file will resume" in site.log.text
        assert not site.stored(file).exists()
        assert cost(site, file)[0] < HALF + MIB + LITTLE
        assert_stored(site, file)


def test_a_retry_after_a_killed_receiver_goes_on_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(noise(SIZE))
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(receiving(tmp_path))
        proxy = stack.enter_context(Proxy(site.port, [link("up", stall_at=HALF)]))
        process = proxy.leading_to(site).start_send("--retry-for", "20", file)
        wait_until(lambda: max(site.partials(), default=0) > HALF - MIB)
        site.process.kill()
        site.process.wait()
        with receiving(tmp_path, "--port", str(site.port)) as restarted:
            done = finish(process)
            assert (done.code, "trying again" in done.err) == (0, True), done
            assert proxy.up < SIZE + MIB + LITTLE
            assert_stored(restarted, file)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "at its beginning": lambda content: b"changed" + content[7:],
    "just before the end of what is there": lambda content: (
        content[: 2 * MIB - 1] + b"!" + content[2 * MIB :]
    ),
    "longer, and other content": lambda content: b"x" + content + content,
    "shorter than what is there": lambda content: content[:MIB],
    "empty now": lambda content: b"",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_before_it_is_resumed_is_started_over(
    nas: Site, file: Path, change: str
) -> None:
    content = file.read_bytes()
    leave_partial(nas, file, content[: 2 * MIB])
    file.write_bytes(CHANGES[change](content))
    travelled, _ = cost(nas, file)
    assert travelled >= len(file.read_bytes())
    assert_stored(nas, file)


def flip(partial: Path) -> None:
    content = bytearray(partial.read_bytes())
    content[len(content) // 2] ^= 1
    partial.write_bytes(content)


def grow(size: int) -> Callable[[Path], None]:
    def damage(partial: Path) -> None:
        with partial.open("ab") as opened:
            opened.write(size * b"?")

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "nothing": (lambda partial: None, 2 * MIB),
    "a bit changed": (flip, 4 * MIB),
    "cut short": (lambda partial: os.truncate(partial, MIB // 2 + 3), 3 * MIB + MIB // 2),
    "cut to nothing": (lambda partial: os.truncate(partial, 0), 4 * MIB),
    "zeros, as after a crash": (
        lambda partial: partial.write_bytes(partial.read_bytes()[:MIB] + bytes(MIB)), 4 * MIB
    ),
    "a tail of garbage": (grow(1000), 4 * MIB),
    "garbage up to the file's size": (grow(2 * MIB), 4 * MIB),
    "longer than the file": (grow(2 * MIB + 1), 4 * MIB),
    "gone": (Path.unlink, 4 * MIB),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_left_of_a_file_is_compared_before_it_is_used(
    nas: Site, file: Path, damage: str
) -> None:
    change, missing = DAMAGES[damage]
    change(leave_partial(nas, file, file.read_bytes()[: 2 * MIB]))
    assert cost(nas, file)[0] < missing + LITTLE
    assert_stored(nas, file)


@pytest.mark.parametrize("options", [{"checksum": "blake3"}, {"checksum_all": True}])
def test_a_resume_may_use_another_digest(nas: Site, file: Path, options: dict[str, Any]) -> None:
    leave_partial(nas, file, file.read_bytes()[: 3 * MIB])
    assert cost(nas, file, **options)[0] < MIB + LITTLE
    assert_stored(nas, file)


def test_all_there_but_the_name_needs_no_byte_more(nas: Site, file: Path) -> None:
    leave_partial(nas, file, file.read_bytes())
    assert cost(nas, file)[0] < LITTLE
    assert_stored(nas, file)


def test_a_log_that_has_grown_costs_its_new_lines(nas: Site, file: Path) -> None:
    older = file.read_bytes()
    assert exit_code(nas, file) == 0
    with file.open("ab") as opened:
        opened.write(b"a new line\n")
    travelled, receipt = cost(nas, file)
    assert (travelled < LITTLE, receipt.outcome) == (True, "versioned")
    assert_stored(nas, file)
    assert nas.versions(file) == [older]


def test_a_log_that_was_begun_anew_travels_whole(nas: Site, file: Path) -> None:
    older = file.read_bytes()
    assert exit_code(nas, file) == 0
    file.write_bytes(noise(4 * MIB + 1))
    assert cost(nas, file)[0] > 4 * MIB
    assert_stored(nas, file)
    assert nas.versions(file) == [older]


def test_a_log_whose_new_lines_were_interrupted_costs_what_is_missing(
    nas: Site, file: Path
) -> None:
    older = file.read_bytes()
    assert exit_code(nas, file) == 0
    file.write_bytes(older + noise(3 * MIB))
    with Proxy(nas.port, [link("up", cut_at=2 * MIB)]) as proxy:
        assert exit_code(proxy.leading_to(nas), file) == 4
    assert nas.stored(file).read_bytes() == older
    assert cost(nas, file)[0] < 2 * MIB + LITTLE
    assert_stored(nas, file)
    assert nas.versions(file) == [older]


def test_a_file_that_another_session_sends_is_busy_and_can_be_tried_again(
    nas: Site, file: Path
) -> None:
    with HandSender(nas) as first:
        first.part(file.name, file.read_bytes(), 0, 3 * MIB)
        wait_until(lambda: 3 * MIB in nas.partials())
        busy = nas.send("--json", file)
        assert_failed(busy, 4, "another session is sending this file right now")
        record, summary = busy.records
        assert (record["code"], record["retryable"], summary["retryable"]) == ("busy", True, True)
        assert nas.partials() == [3 * MIB], "the first session's bytes are its own"
        timer = threading.Timer(1, first.channel.close)
        timer.start()
        travelled, _ = cost(nas, file)
        timer.join()
    assert travelled < MIB + LITTLE
    assert_stored(nas, file)


def test_a_sender_that_comes_back_takes_over_what_its_dead_session_holds(
    nas: Site, file: Path
) -> None:
    """A machine that lost its power has ended no connection."""
    with HandSender(nas) as dead:
        dead.part(file.name, file.read_bytes(), 0, 3 * MIB)
        wait_until(lambda: 3 * MIB in nas.partials())
        time.sleep(SILENT)
        done = nas.send("--json", file)
        assert (done.code, done.err) == (0, ""), done
        with pytest.raises(ConnectionLost):
            dead.channel.receive()
    assert_stored(nas, file)


def test_one_that_died_within_a_body_and_one_that_was_told_to_resume_are_taken_over(
    nas: Site, file: Path
) -> None:
    whole = file.read_bytes()
    offer: dict[str, object] = {"file_name": file.name, "file_size": len(whole)}
    with HandSender(nas) as first, HandSender(nas) as second, HandSender(nas) as third:
        first.part(file.name, whole, 0, 2 * MIB)
        second.say({"type": "offer", "files": []})
        third.say({"type": "offer", "files": []})
        first.file(
            file.name, whole[2 * MIB : 3 * MIB],
            file_size=len(whole), offset=2 * MIB, md5="0" * 32,
        )  # fmt: skip
        time.sleep(SILENT)
        second.say({"type": "offer", "files": [offer]})
        assert second.channel.expect(Plan).files[0].action == "resume"
        time.sleep(SILENT)
        third.say({"type": "offer", "files": [offer]})
        (planned,) = third.channel.expect(Plan).files
        assert planned.action == "resume"
        third.part(file.name, whole, planned.offset, len(whole))
        assert codes(third.answers()) == [("receipt", "stored")]


def test_a_session_that_lives_is_not_ended_by_another(nas: Site, file: Path) -> None:
    whole = file.read_bytes()
    with HandSender(nas) as first:
        first.part(file.name, whole, 0, MIB)
        ends_at = time.monotonic() + 2 * SILENT_SECONDS
        sending = nas.start_send("--retry-for", "20", file)
        while time.monotonic() < ends_at:
            first.say({"type": "working", "file_name": ""})
            time.sleep(SILENT_SECONDS / 4)
        first.part(file.name, whole, MIB, len(whole))
        assert codes(first.answers()) == [("receipt", "stored")]
        assert finish(sending).code == 0
    assert_stored(nas, file)


def test_a_file_that_was_refused_can_be_offered_again_in_the_same_session(
    nas: Site, file: Path
) -> None:
    whole = file.read_bytes()[: 3 * MIB]
    with HandSender(nas) as first, HandSender(nas) as second:
        first.part(file.name, whole, 0, 2 * MIB)
        wait_until(lambda: 2 * MIB in nas.partials())
        second.part(file.name, whole, 0, MIB)
        assert second.channel.expect(Refusal).code == "busy"
        first.answers()
        second.say({"type": "offer", "files": [{"file_name": file.name, "file_size": len(whole)}]})
        assert second.channel.expect(Plan).files[0].offset == 2 * MIB
        second.part(file.name, whole, 2 * MIB, 3 * MIB)
        assert ("receipt", "stored") in codes(second.answers())


def test_a_busy_file_does_not_keep_the_others(nas: Site, file: Path, document: Path) -> None:
    with HandSender(nas) as first:
        first.part(file.name, file.read_bytes(), 0, MIB)
        wait_until(lambda: MIB in nas.partials())
        done = nas.send("--json", file, document)
    outcomes = {record["file_name"]: record["outcome"] for record in done.records[:-1]}
    assert outcomes == {file.name: "failed", document.name: "stored"}
    assert (done.code, done.records[-1]["retryable"]) == (7, True)
    assert cost(nas, file)[0] < 3 * MIB + LITTLE


def test_an_offer_of_what_was_left_holds_few_files_and_all_of_it_can_go_on(nas: Site) -> None:
    whole = {f"left/{number}": f"{number:04}".encode() for number in range(100)}
    with HandSender(nas) as sender:
        for name, content in whole.items():
            sender.part(name, content, 0, 2)
        sender.answers()
    before = len(descriptors(nas))
    offered = [{"file_name": name, "file_size": len(content)} for name, content in whole.items()]
    with HandSender(nas) as sender:
        sender.say({"type": "offer", "files": offered})
        plan = sender.channel.expect(Plan)
        assert {(file.action, file.offset) for file in plan.files} == {("resume", 2)}
        assert len(descriptors(nas)) - before < 50
        for name, content in whole.items():
            sender.part(name, content, 2, 4)
        assert codes(sender.answers()) == len(whole) * [("receipt", "stored")]


def test_a_partial_that_is_never_resumed_is_removed_at_a_later_start(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(noise(2 * MIB))
    with receiving(tmp_path) as site:
        kept = leave_partial(site, file, file.read_bytes()[:MIB])
    with receiving(tmp_path, "--partial-days", "1") as site:
        assert keyed(site) == [kept]
    time.sleep(1)
    with receiving(tmp_path, "--partial-days", "0.00001") as site:
        assert keyed(site) == []


def test_standard_input_is_not_tried_again_after_a_cut(nas: Site, tmp_path: Path) -> None:
    with Proxy(nas.port, [link("up", cut_at=2 * MIB)]) as proxy:
        arguments = ["--json", "--retry-for", "20", "-", "--name", tmp_path.name]
        done = proxy.leading_to(nas).send(*arguments, stdin=noise(4 * MIB))
        assert proxy.connections == 1
    assert_failed(done, 4, "connection")
    assert [record["type"] for record in done.records] == ["file", "summary"]
    assert "trying again" not in done.err
    assert not nas.stored(tmp_path).exists()
    assert nas.send("-", "--name", tmp_path.name, stdin=b"the next one").code == 0
    assert nas.stored(tmp_path).read_bytes() == b"the next one"


def test_that_standard_input_is_not_tried_again_is_said(nas: Site, tmp_path: Path) -> None:
    with Proxy(nas.port, [link("up", cut_at=2 * MIB)]) as proxy:
        arguments = ["--retry-for", "20", "-", "--name", tmp_path.name]
        done = proxy.leading_to(nas).send(*arguments, stdin=noise(4 * MIB))
    assert_failed(done, 4, "standard input")


def test_what_is_left_of_standard_input_is_never_stored_as_all_of_it(
    nas: Site, tmp_path: Path, document: Path
) -> None:
    """A refusal that could be tried again must not make a retry read on where it stands."""
    name = tmp_path.name
    with HandSender(nas) as first:
        first.part(document.name, noise(MIB), 0, MIB // 2)
        first.part(name, noise(MIB), 0, MIB // 2)
        wait_until(lambda: len(nas.partials()) >= 2)
        timer = threading.Timer(1, first.channel.close)
        timer.start()
        process = nas.start_send("--retry-for", "5", document, "-", "--name", name)
        done = finish(process, noise(3 * MIB))
        timer.join()
    stored = nas.stored(name)
    assert not stored.exists() or stored.read_bytes() == noise(3 * MIB)
    assert stored.exists() or done.code != 0
    end(process)
