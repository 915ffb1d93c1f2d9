"""The receiver as a service: what it stores, how it starts, how it stops, what a kill leaves."""

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import (
    MIB,
    HandSender,
    Site,
    assert_failed,
    codes,
    environment,
    finish,
    receiving,
    run,
    start,
    unprivileged,
    wait_until,
)

# What makes a file


WHOLE = bytes(range(200))
PARTS = {
    "in order": ([(0, 80), (80, 200)], [("receipt", "stored")]),
    "empty ones between": ([(0, 0), (0, 80), (80, 80), (80, 200)], [("receipt", "stored")]),
    "begun again": ([(0, 80), (0, 100), (100, 200)], [("receipt", "stored")]),
    "whole after all": ([(0, 80), (0, 200)], [("receipt", "stored")]),
    "with a gap": ([(0, 80), (90, 200)], [("refusal", "bad_part")]),
    "overlapping": ([(0, 80), (70, 200)], [("refusal", "bad_part")]),
    "continuing nothing": ([(80, 200)], [("refusal", "bad_part")]),
    "out of order": ([(80, 200), (0, 80)], [("refusal", "bad_part")]),
    "refused, then begun again": (
        [(80, 200), (0, 80), (80, 200)], [("refusal", "bad_part"), ("receipt", "stored")],
    ),
    "never ending": ([(0, 80), (80, 199)], []),
}  # fmt: skip


@pytest.mark.parametrize(("parts", "answers"), PARTS.values(), ids=PARTS.keys())
def test_parts_are_stored_only_when_they_make_a_whole(
    nas: Site,
    tmp_path: Path,
    parts: list[tuple[int, int]],
    answers: list[tuple[str, str]],
) -> None:
    with HandSender(nas) as sender:
        for begin, end in parts:
            sender.part(tmp_path.name, WHOLE, begin, end)
        assert codes(sender.answers()) == answers
    is_stored = ("receipt", "stored") in answers
    assert nas.stored(tmp_path).exists() == is_stored
    assert not is_stored or nas.stored(tmp_path).read_bytes() == WHOLE


def test_parts_of_two_files_may_alternate(nas: Site) -> None:
    contents = {"left": bytes(3 * MIB), "right": b"r" * 3 * MIB}
    with HandSender(nas) as sender:
        for begin in range(0, 3 * MIB, MIB):
            for name, content in contents.items():
                sender.part(name, content, begin, begin + MIB)
        assert codes(sender.answers()) == 2 * [("receipt", "stored")]
    assert {name: nas.stored(name).read_bytes() for name in contents} == contents


def test_the_oldest_of_too_many_unfinished_files_is_put_aside_and_found_again(nas: Site) -> None:
    names = [f"unfinished-{number}" for number in range(17)]
    with HandSender(nas) as sender:
        for name in names:
            sender.part(name, WHOLE, 0, 1)
        wait_until(lambda: nas.partials().count(1) == 17)
        for name in names:
            sender.part(name, WHOLE, 1, 200)
        answers = codes(sender.answers())
    assert answers == 17 * [("receipt", "stored")]


def test_unknown_keys_are_ignored(nas: Site) -> None:
    with HandSender(nas) as sender:
        sender.file("future", b"x", owner="root", acl=[{"deep": None}], outcome=0.5)
        assert codes(sender.answers()) == [("receipt", "stored")]


@pytest.mark.parametrize("mtime_ns", [1 - 2**63, -1, 0, 2**63 - 1])
def test_no_mode_and_no_time_is_too_much(nas: Site, mtime_ns: int) -> None:
    """Set-id and sticky bits stay behind; what a file system cannot hold is no reason to fail."""
    name = f"extreme{mtime_ns}"
    with HandSender(nas) as sender:
        sender.file(name, b"x", mode=0o7777, mtime_ns=mtime_ns)
        sender.say(
            {"type": "directory", "file_name": f"d{name}", "mode": 0o7777, "mtime_ns": mtime_ns}
        )
        assert codes(sender.answers()) == 2 * [("receipt", "stored")]
    assert nas.stored(name).stat().st_mode == 0o100777
    assert nas.stored(f"d{name}").stat().st_mode == 0o40777


# Starting


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file or directory"), ("file", "Not a directory")],
)
def test_a_directory_that_is_none_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = run(tmp_path, "receive", "--dir", tmp_path / name, "--port", "0")
    assert_failed(done, 1, f"cannot receive into {tmp_path / name}: {reason}")
    assert not (tmp_path / "missing").exists()


def test_a_directory_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "read-only"
    directory.mkdir(mode=0o555)
    command = ["receive", "--dir", str(directory), "--port", "0"]
    done = finish(start(command, environment(tmp_path), prefix=unprivileged()))
    assert_failed(done, 1, f"cannot receive into {directory}: Permission denied")


def test_a_directory_whose_mode_forbids_it_is_written_and_keeps_its_mode(
    tmp_path: Path, document: Path
) -> None:
    with receiving(tmp_path, prefix=unprivileged()) as site:
        site.directory.chmod(0o555)
        assert site.send(document).code == 0
        assert site.directory.stat().st_mode & 0o777 == 0o555
        site.directory.chmod(0o755)


def test_a_port_in_use_is_said_as_such(nas: Site, tmp_path: Path) -> None:
    options = ["--bind", "127.0.0.1", "--port", str(nas.port)]
    done = run(tmp_path, "receive", "--dir", tmp_path, *options)
    port = f"cannot listen on 127.0.0.1, port {nas.port}: Address already in use"
    assert_failed(done, 1, port)


def test_one_directory_has_one_receiver(nas: Site) -> None:
    done = run(nas.home, "receive", "--dir", nas.directory, "--port", "0")
    assert_failed(done, 1, f"another receiver is using {nas.directory}")


def test_both_families_reach_a_receiver_that_is_bound_to_nothing(
    tmp_path: Path, document: Path
) -> None:
    with receiving(tmp_path, bind="") as site:
        for host in ("127.0.0.1", "[::1]", "localhost"):
            done = run(tmp_path, "send", document, f"{host}:{site.port}")
            assert done.code == 0
        site.log.wait_for(r"Z 127\.0\.0\.1:\d+ default")


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_receiver_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with receiving(tmp_path) as site:
        with HandSender(site) as idle:
            site.process.send_signal(number)
            assert codes(idle.answers(finish=False)) == [("error", "shutting_down")]
        assert site.process.wait(3) == 0
    assert "Traceback" not in site.log.text


def test_somebody_without_the_secret_does_not_delay_the_stop(tmp_path: Path) -> None:
    with (
        receiving(tmp_path) as site,
        socket.create_connection(("127.0.0.1", site.port)) as silent,
        contextlib.suppress(subprocess.TimeoutExpired),
    ):
        with HandSender(site) as sender:  # so that the silent one was accepted before
            sender.answers()
        site.process.terminate()
        site.process.wait(10)
    assert silent.fileno() < 0
    assert site.process.returncode == 0


@contextlib.contextmanager
def held_midway(site: Site, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A sender of standard input of which one part is there, and half of the next."""
    process = site.start_send("--json", "-", "--name", name)
    assert process.stdin
    try:
        process.stdin.write(bytes(MIB + MIB // 2))
        process.stdin.flush()
        wait_until(lambda: MIB in site.partials())
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_what_is_arriving_may_finish_before_the_receiver_stops(tmp_path: Path) -> None:
    with receiving(tmp_path) as site, held_midway(site, "stream") as process:
        site.process.terminate()
        site.log.wait_for("stopping: what is arriving may finish")
        done = finish(process, b"the end")
        assert site.process.wait(10) == 0
    assert done.code in (0, 4)
    assert [(r["file_name"], r["outcome"]) for r in done.records[:-1]] == [("stream", "stored")]
    assert site.stored("stream").read_bytes() == bytes(MIB + MIB // 2) + b"the end"


def test_an_interrupted_sender_leaves_nothing_behind(nas: Site) -> None:
    with held_midway(nas, "interrupted") as process:
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert_failed(done, 130, "xfer: interrupted")
    nas.log.wait_for("interrupted: interrupted at ")
    wait_until(lambda: MIB not in nas.partials())
    assert not nas.stored("interrupted").exists()


def test_a_killed_sender_leaves_nothing_behind(nas: Site) -> None:
    with held_midway(nas, "killed") as process:
        process.kill()
        nas.log.wait_for("killed: interrupted at ")
    wait_until(lambda: MIB not in nas.partials())
    assert not nas.stored("killed").exists()


def test_the_same_command_completes_after_the_receiver_was_killed(
    tmp_path: Path, document: Path
) -> None:
    with receiving(tmp_path) as killed:
        assert killed.send(document).code == 0
        with held_midway(killed, "stream") as process:
            killed.process.kill()
            done = finish(process, b"the end")
    assert_failed(done, 4, "")
    assert done.records[-1]["retryable"] is True
    assert sorted(os.listdir(killed.directory)) == [".xfer", document.name]
    with receiving(tmp_path) as site:
        assert re.search("removed 1 unfinished file", site.log.text)
        assert site.partials() == []
        again = site.send("--json", document, "-", "--name", "stream", stdin=b"from the start")
    assert again.code == 0
    assert [r["outcome"] for r in again.records[:-1]] == ["unchanged", "stored"]
    assert site.stored("stream").read_bytes() == b"from the start"


def test_sessions_leave_no_descriptor_open(nas: Site) -> None:
    before = descriptors(nas)
    for _ in range(20):
        with HandSender(nas) as sender:
            sender.part("leak", bytes(200), 0, 100)
            sender.file("kept", b"x")
            sender.file("", b"refused")
            sender.answers()
    wait_until(lambda: descriptors(nas) <= before)


def descriptors(site: Site) -> int:
    return len(os.listdir(f"/proc/{site.process.pid}/fd"))
