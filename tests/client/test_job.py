"""What can be tried again is, until it helps or has gone on for too long; the rest is not."""

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hostile import Peer
from tests.support.processes import (
    KEY,
    MIB,
    Finished,
    Log,
    Site,
    admit,
    assert_failed,
    environment,
    fake_receiver,
    finish,
    receive_file,
    receiving,
    run,
    start,
    wait_until,
)
from tests.support.proxy import Proxy, link
from xfer.client.connect import Target
from xfer.client.job import Job, send_job
from xfer.client.retries import RetryFor
from xfer.errors import ConnectionLost
from xfer.outcomes import Outcome
from xfer.sending.observer import Observer
from xfer.wire.channel import Channel
from xfer.wire.messages import Done, Error, Plan, PlannedFile, Receipt, Refusal

CORRUPT = Error("digest_mismatch", "what arrived is not what was sent", True)
AT_ONCE = 15.0
"""Seconds that starting and failing may take on a busy machine."""


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def read_until(process: subprocess.Popen[bytes], sentence: str) -> Log:
    assert process.stderr
    log = Log(process.stderr)
    log.wait_for(sentence)
    return log


def send_to_nobody(tmp_path: Path, port: int, *arguments: str | Path) -> Finished:
    return run(tmp_path, "send", *arguments, f"127.0.0.1:{port}")


@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_receiver_that_starts_later_is_waited_for(
    tmp_path: Path, document: Path, free_port: int, from_stdin: bool
) -> None:
    what = ["-", "--name", document.name] if from_stdin else [document]
    command = ["send", "--retry-for", "20", *what, f"127.0.0.1:{free_port}"]
    with document.open("rb") as stdin:
        process = start(command, environment(tmp_path), stdin=stdin.fileno())
        log = read_until(process, r"no receiver answers at .* trying again in")
        with receiving(tmp_path, "--port", str(free_port)) as site:
            assert process.wait(20) == 0
            assert site.stored(document).read_bytes() == document.read_bytes()
    log.join()
    assert "Traceback" not in log.text
    assert process.stdout
    process.stdout.close()


def test_a_receiver_restarted_between_many_files_gets_each_once(
    tmp_path: Path, free_port: int
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / f"{number:03}").write_bytes(os.urandom(10_000))
    with (
        receiving(tmp_path, "--port", str(free_port)) as site,
        Proxy(site.port, [link("up", stall_at=MIB)]) as proxy,
    ):
        process = proxy.leading_to(site).start_send("--json", "--retry-for", "20", tree)
        site.log.wait_for(r"tree/0[0-9]{2}: 10000 bytes.* stored")
        site.process.kill()
        site.process.wait()
        with receiving(tmp_path, "--port", str(free_port)) as restarted:
            done = finish(process)
    assert_all_told_once(done, {f"tree/{number:03}" for number in range(300)}, 300)
    for file in tree.iterdir():
        assert (restarted.directory / "tree" / file.name).read_bytes() == file.read_bytes()
    assert restarted.versions("tree") == []


@pytest.mark.parametrize("connections", ["1", "4"])
def test_what_was_begun_and_is_gone_at_the_next_attempt_is_told(
    tmp_path: Path, connections: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "begun").write_bytes(b"begun")
    (tree / "other").write_bytes(b"other")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(AT_ONCE)
        port = listening.getsockname()[1]
        options = ["--insecure-plaintext", "--json", "--retry-for", "20"]
        host = f"127.0.0.1:{port}"
        command = ["send", *options, "--connections", connections, str(tree), host]
        process = start(command, environment(tmp_path))
        with listening.accept()[0] as connected:
            connected.settimeout(AT_ONCE)
            Peer(connected, bytearray()).offered()
            (tree / "begun").unlink()
    with receiving(tmp_path, "--port", str(port), "--insecure-plaintext"):
        done = finish(process)
    assert_failed(done, 7, "tree/begun was offered, and is not there any more")
    told = {record["file_name"]: record["outcome"] for record in done.records[:-1]}
    assert told == {"tree/begun": "failed", "tree/other": "stored", "tree": "stored"}


def test_what_was_refused_is_told_although_nobody_is_there_at_the_next_attempt(
    tmp_path: Path, document: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(AT_ONCE)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        options = ["--insecure-plaintext", "--json", "--retry-for", "2"]
        process = start(["send", *options, str(document), host], environment(tmp_path))
        with listening.accept()[0] as connected:
            listening.close()
            connected.settimeout(AT_ONCE)
            peer = Peer(connected, bytearray())
            peer.offered()
            busy = Refusal(document.name, "busy", "another session is at it", retryable=True)
            peer.say(busy, Plan((PlannedFile(document.name, "refuse"),)))
            peer.hear()
            peer.say(Done())
            done = finish(process)
    assert done.code == 4
    (told,) = done.records[:-1]
    assert (told["file_name"], told["outcome"], told["code"]) == (document.name, "failed", "busy")


@pytest.mark.parametrize(
    ("end", "code"), [(None, 0), (Error("shutting_down", "it stops", True), 0), (CORRUPT, 5)]
)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_with_every_receipt_in_hand_a_lost_connection_is_no_failure(
    tmp_path: Path, document: Path, end: Error | None, code: int, from_stdin: bool
) -> None:
    """What is lost is the receiver's last word, which says nothing new."""

    def receive(channel: Channel) -> None:
        admit(channel)
        header = receive_file(channel)
        size = header.file_size if from_stdin else len(document.read_bytes())
        channel.send(Receipt(header.file_name, Outcome.STORED, size, header.md5))
        channel.flush()
        channel.expect(Done)
        if end:
            channel.send(end)

    what = ["-", "--name", "f"] if from_stdin else [document]
    with fake_receiver(receive) as host:
        options = ["--insecure-plaintext", "--json"]
        done = run(tmp_path, "send", *options, *what, host, stdin=b"content")
    assert (done.code, done.records[0]["outcome"]) == (code, "stored")
    assert done.records[-1]["exit_code"] == code


def test_with_a_receipt_missing_a_lost_connection_is_a_failure(
    tmp_path: Path, document: Path
) -> None:
    def receive(channel: Channel) -> None:
        admit(channel)
        receive_file(channel)
        channel.expect(Done)

    with fake_receiver(receive) as host:
        done = run(tmp_path, "send", "--insecure-plaintext", "--json", document, host)
    assert (done.code, done.records[0]["outcome"]) == (4, "failed")


def assert_all_told_once(done: Finished, names: set[str], count: int) -> None:
    """Exit code 0, one result for each name, and a summary that counts every file."""
    *records, summary = done.records
    told = [record["file_name"] for record in records if record["type"] == "file"]
    assert (done.code, sorted(told)) == (0, sorted(names)), done.err
    assert {record["outcome"] for record in records} <= {"stored", "unchanged"}
    known = (summary["type"], summary["files"], summary["failed"], summary["exit_code"])
    assert known == ("summary", count, 0, 0)
    assert "Traceback" not in done.err


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten files, the second half of them large."""
    tree = tmp_path / tmp_path.name
    tree.mkdir()
    for number in range(10):
        (tree / str(number)).write_bytes(os.urandom(1000 if number < 5 else MIB + 1000))
    return tree


def test_nothing_is_told_twice_and_the_summary_is_right_after_several_attempts(
    nas: Site, tree: Path
) -> None:
    cuts = [link("up", cut_at=at) for at in (700, MIB // 2, 2 * MIB)] + [link("down", cut_at=1300)]
    with Proxy(nas.port, cuts) as proxy:
        done = proxy.leading_to(nas).send("--json", "--retry-for", "20", tree)
    assert proxy.connections == 5
    assert_all_told_once(done, {f"{tree.name}/{number}" for number in range(10)}, 10)
    assert done.records[-1]["bytes"] == sum(file.stat().st_size for file in tree.iterdir())
    assert done.err.count("trying again") == 4
    assert proxy.up < 7 * MIB
    for file in tree.iterdir():
        assert (nas.stored(tree) / file.name).read_bytes() == file.read_bytes()


def test_a_directory_has_its_time_although_a_file_in_it_came_later(
    tmp_path: Path, tree: Path
) -> None:
    """What was damaged on the way is sent again when its directory has a receipt."""
    os.utime(tree, (0, 1_000_000_000))
    with (
        receiving(tmp_path, "--insecure-plaintext") as site,
        Proxy(site.port, [link("up", flip_at=MIB)]) as proxy,
    ):
        done = proxy.leading_to(site).send("--json", "--retry-for", "20", tree)
        assert done.err.count("trying again") == 1
        assert_all_told_once(done, {f"{tree.name}/{number}" for number in range(10)}, 10)
        assert len(done.records) == 12
        assert site.stored(tree).stat().st_mtime == 1_000_000_000


def test_what_can_not_be_sent_is_told_once_however_often_the_rest_is_tried(
    nas: Site, tree: Path
) -> None:
    os.mkfifo(tree / "fifo")
    (tree / "new\nline").touch()
    with Proxy(nas.port, [link("up", cut_at=at) for at in (MIB, 2 * MIB)]) as proxy:
        done = proxy.leading_to(nas).send("--json", "--retry-for", "20", tree)
    names = [record.get("file_name") for record in done.records]
    told = [names.count(f"{tree.name}/{name}") for name in ("fifo", "new\nline")]
    assert (done.code, told, len(names)) == (7, [1, 1], 14)
    assert (done.err.count("is a FIFO"), done.err.count("control character")) == (1, 1)
    summary = done.records[-1]
    assert (summary["files"], summary["failed"], summary["skipped"]) == (10, 1, 1)
    assert not summary["retryable"]


def test_without_retries_the_first_failure_is_the_last(
    tmp_path: Path, document: Path, free_port: int
) -> None:
    with within(AT_ONCE):
        done = send_to_nobody(tmp_path, free_port, "--retry-for", "0", document)
    assert_failed(done, 4, "no receiver answers")
    assert "trying again" not in done.err


def test_a_wrong_secret_fails_at_once(nas: Site, document: Path) -> None:
    with within(AT_ONCE):
        done = nas.send("--retry-for", "20", document, secret="xfer-key-" + 43 * "B")
    assert_failed(done, 3, "secret")
    assert "trying again" not in done.err


def test_a_taken_name_fails_at_once(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, "--if-exists", "refuse") as nas, within(AT_ONCE):
        nas.stored(document).mkdir()
        done = nas.send("--json", "--retry-for", "20", document)
    assert_failed(done, 6, "a directory has this name on the receiver")
    assert (done.records[0]["code"], done.records[-1]["retryable"]) == ("exists", False)
    assert "trying again" not in done.err


def test_a_receiver_that_never_comes_is_given_up(
    tmp_path: Path, document: Path, free_port: int
) -> None:
    began = time.monotonic()
    done = send_to_nobody(tmp_path, free_port, "--json", "--retry-for", "2", document)
    assert 0.5 < time.monotonic() - began < 2 + AT_ONCE
    assert_failed(done, 4, "no receiver answers")
    assert "trying again" in done.err
    assert (done.records[-1]["exit_code"], done.records[-1]["retryable"]) == (4, True)


def test_the_last_attempt_comes_at_the_deadline(tmp_path: Path, document: Path) -> None:
    """Not before: what becomes free in the last seconds is not missed."""
    seconds, attempts = 4, []
    with socket.create_server(("127.0.0.1", 0)) as nobody:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    nobody.accept()[0].close()
                    attempts.append(time.monotonic())

        thread = threading.Thread(target=answer)
        thread.start()
        port = nobody.getsockname()[1]
        done = send_to_nobody(tmp_path, port, "--retry-for", str(seconds), document)
        nobody.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert done.code == 4
    assert attempts[-1] - attempts[0] > seconds - 0.1


def test_who_was_let_in_once_is_waited_for_longer(tmp_path: Path, free_port: int) -> None:
    """Here, for 30 seconds instead of half of one."""
    file = tmp_path / tmp_path.name
    file.write_bytes(os.urandom(8 * MIB))
    job = Job([str(file)], retry_for=RetryFor(unreached=0.5, reached=30))
    target = Target("127.0.0.1", free_port, KEY)
    with pytest.raises(ConnectionLost), within(0.5 + AT_ONCE):
        send_job(target, job, Observer())
    options = ["--port", str(free_port)]
    with ThreadPoolExecutor(1) as sending:
        with receiving(tmp_path, *options, "--bwlimit", "4M") as site:
            sent = sending.submit(send_job, target, job, Observer())
            wait_until(lambda: max(site.partials(), default=0) >= MIB)
            site.process.kill()
        time.sleep(2)
        with receiving(tmp_path, *options) as site:
            sent.result(60)
            assert site.stored(file).read_bytes() == file.read_bytes()


def test_a_connection_that_takes_bytes_and_delivers_none_is_given_up(tmp_path: Path) -> None:
    """What the system took from us has not got any further yet."""
    file = tmp_path / tmp_path.name
    file.write_bytes(os.urandom(20 * MIB))
    with (
        receiving(tmp_path, "--timeout", "0.3") as site,
        Proxy(site.port, itertools.repeat(link("up", stall_at=5000))) as proxy,
    ):
        process = proxy.leading_to(site).start_send("--timeout", "0.5", "--retry-for", "1", file)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        has_ended = process.poll() is not None
        process.kill()
        process.communicate()
    assert has_ended, f"still trying after {proxy.connections} connections"
    assert process.returncode == 4


def test_as_long_as_it_gets_further_it_is_not_given_up(nas: Site, tmp_path: Path) -> None:
    file = tmp_path / tmp_path.name
    file.write_bytes(os.urandom(6 * MIB))
    with Proxy(nas.port, itertools.repeat(link("up", cut_at=MIB + MIB // 4))) as proxy:
        done = proxy.leading_to(nas).send("--retry-for", "1", file)
    assert (done.code, proxy.connections > 4) == (0, True), done
    assert nas.stored(file).read_bytes() == file.read_bytes()
