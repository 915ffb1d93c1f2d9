"""`xfer receive --workers N`: several processes that keep every promise that one keeps."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.crowds import SIZES, assert_none_is_lost, send_at_once
from tests.support.faults import PLAINTEXT
from tests.support.processes import (
    MIB,
    SECRET,
    HandSender,
    Site,
    assert_failed,
    codes,
    finish,
    receiving,
    run,
    unprivileged,
    wait_until,
)
from tests.support.receivers import prove_wrongly
from xfer.wire.messages import Message, Plan, Refusal

MANY: Final = 24
_TRIES: Final = 200


def workers(site: Site) -> list[int]:
    """The processes that receive; those that have ended and wait for their parent are none."""
    parent = site.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if is_alive(int(child))]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def sockets(process: int) -> set[str]:
    opened, found = f"/proc/{process}/fd", set()
    for number in os.listdir(opened):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"{opened}/{number}"))
    return {link for link in found if link.startswith("socket:")}


@contextlib.contextmanager
def sender_at_each(site: Site) -> Iterator[dict[int, HandSender]]:
    """A sender that is connected to each of the workers."""
    idle = {worker: sockets(worker) for worker in workers(site)}
    found: dict[int, HandSender] = {}
    with contextlib.ExitStack() as opened:
        for _ in range(_TRIES):
            sender = opened.enter_context(HandSender(site))
            wanted(sender, "nothing")
            (at,) = [worker for worker in idle if sockets(worker) - idle[worker]]
            if found.setdefault(at, sender) is not sender:
                sender.answers()
                sender.channel.close()
            idle[at] |= sockets(at)
            if len(found) == len(idle):
                yield found
                return
    pytest.fail(f"of {_TRIES} senders, all came to {len(found)} of {len(idle)} workers")


def one(sender: HandSender, name: str, body: bytes) -> list[Message]:
    sender.file(name, body)
    return sender.answers()


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver of four workers that all live to the end."""
    with receiving(tmp_path_factory.mktemp("crew"), "--workers", "4") as site:
        wait_until(lambda: len(workers(site)) == 4)
        before = workers(site)
        yield site
        assert workers(site) == before
        assert site.partials() == []
    assert not any(map(is_alive, before))
    assert "Traceback" not in site.log.text


@contextlib.contextmanager
def pair(home: Path, *options: str, prefix: list[str] | None = None) -> Iterator[Site]:
    """A receiver of two workers; nobody is there any more afterwards."""
    with receiving(home, PLAINTEXT, "--workers", "2", *options, prefix=prefix or []) as site:
        wait_until(lambda: len(workers(site)) == 2)
        before = workers(site)
        yield site
    wait_until(lambda: not any(map(is_alive, before)))
    assert "Traceback" not in site.log.text


# Many at once


def test_many_senders_at_once_are_all_served(crew: Site, tmp_path: Path) -> None:
    files = [tmp_path / f"{tmp_path.name}-{number}" for number in range(MANY)]
    for number, file in enumerate(files):
        file.write_bytes(os.urandom(number * 150_000))
    told = send_at_once(crew, files, tmp_path)
    assert [said["outcome"] for said in told] == MANY * ["stored"]
    assert all(crew.stored(file).read_bytes() == file.read_bytes() for file in files)


def test_every_worker_gets_some(crew: Site) -> None:
    with sender_at_each(crew) as senders:
        assert len(senders) == 4


@pytest.mark.parametrize("size", SIZES)
def test_of_one_name_no_content_with_a_receipt_is_lost(
    crew: Site, tmp_path: Path, size: int
) -> None:
    assert_none_is_lost(crew, tmp_path, senders=MANY, size=size)


def test_a_file_that_another_worker_receives_is_busy(crew: Site) -> None:
    whole = bytes(2 * MIB)
    with sender_at_each(crew) as senders:
        first, second, *_ = senders.values()
        first.part("contested", whole, 0, MIB)
        wait_until(lambda: MIB in crew.partials())
        second.part("contested", whole, 0, MIB)
        refused = second.channel.receive()
        assert isinstance(refused, Refusal)
        assert (refused.code, refused.retryable) == ("busy", True)
        first.part("contested", whole, MIB, 2 * MIB)
        assert codes(first.answers()) == [("receipt", "stored")]
    assert crew.stored("contested").read_bytes() == whole


def test_names_are_replaced_by_one_worker_at_a_time(tmp_path: Path) -> None:
    """The lock is a file's, and the test has it."""
    with pair(tmp_path) as site, sender_at_each(site) as senders:
        first, second = senders.values()
        assert codes(one(first, "name", b"before")) == [("receipt", "stored")]
        with (site.directory / ".xfer" / "installing").open("rb+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            second.file("name", b"after")
            second.file("free", b"")  # to be committed after it
            time.sleep(0.5)
            assert site.stored("name").read_bytes() == b"before"
        answers = codes(second.answers())
    assert answers == [("receipt", "versioned"), ("receipt", "stored")]


def test_a_directory_that_nobody_may_write_to_takes_files_from_all_workers(tmp_path: Path) -> None:
    """Its mode is changed for a moment, by one worker at a time: else one finds the other's."""
    options = (PLAINTEXT, "--no-fsync", "--workers", "2")
    with receiving(tmp_path, *options, prefix=unprivileged()) as site:
        with HandSender(site) as sender:
            sender.say({"type": "directory", "file_name": "locked", "mode": 0o555})
            assert codes(sender.answers()) == [("receipt", "stored")]

        def send(number: int) -> set[tuple[str, str]]:
            with HandSender(site) as sender:
                for each in range(750):
                    sender.file(f"locked/{number}.{each}", b"1")
                return set(codes(sender.answers()))

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(send, range(6))) == 6 * [{("receipt", "stored")}]
        assert (site.directory / "locked").stat().st_mode & 0o777 == 0o555


def test_every_line_of_the_log_is_whole(tmp_path: Path) -> None:
    files = []
    for number in range(8):
        tree = tmp_path / f"tree-{number}"
        tree.mkdir()
        files.append(tree)
        for leaf in range(100):
            (tree / f"{leaf}-{'x' * 100}").write_bytes(b"x")
    with receiving(tmp_path, "--workers", "4") as site:
        send_at_once(site, files, tmp_path)
    said = site.log.text.splitlines()
    assert sum(line.endswith("s, stored") for line in said if "-xxxx" in line) == 800
    assert sum(line.count("default") for line in said) == 808


# What only another worker knows


@pytest.mark.exhaustive
def test_what_another_worker_has_named_and_not_flushed_is_not_there(tmp_path: Path) -> None:
    """Else a power cut could take a file that a sender was told to skip."""
    faults.require_strace()
    delay = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=1s"]
    prefix = faults.traced("-o", str(tmp_path / "trace"), *delay)
    with pair(tmp_path, prefix=prefix) as site, sender_at_each(site) as senders:
        first, second = senders.values()
        first.file("name", b"content", mtime_ns=1)
        first.say({"type": "directory", "file_name": "made"})
        wait_until(site.stored("name").exists)
        assert wanted(second, "name") == "send"
        assert codes(first.answers()).count(("receipt", "stored")) == 2
        assert wanted(second, "name") == "skip"


def wanted(sender: HandSender, name: str) -> str:
    """What is planned for a file of 7 bytes and time 1."""
    files = [{"file_name": name, "file_size": 7, "mtime_ns": 1, "mode": 0o644}]
    sender.say({"type": "offer", "files": files})
    while not isinstance(plan := sender.channel.receive(), Plan):
        pass
    return plan.files[0].action


@pytest.mark.exhaustive
def test_what_a_killed_worker_had_not_flushed_is_flushed_by_the_next(tmp_path: Path) -> None:
    faults.require_strace()
    delay = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=2s"]
    prefix = faults.traced("-o", str(tmp_path / "trace"), *delay)
    with pair(tmp_path, prefix=prefix) as site, sender_at_each(site) as senders:
        (victim, first), (_, second) = senders.items()
        first.file("name", b"content", mtime_ns=1)
        wait_until(site.stored("name").exists)
        assert len(site.partials()) == 1
        os.kill(victim, signal.SIGSTOP)
        assert wanted(second, "name") == "send"
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: wanted(second, "name") == "skip")
        assert site.partials() == []
        site.log.wait_for(rf"process {victim}\) was killed by signal 9: another one takes its")


# Signals, and ends of all kinds


def test_a_sender_finishes_whose_worker_is_killed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(3000):
        (tree / str(number)).write_bytes(b"%d" % number)
    with pair(tmp_path) as site:
        idle = {worker: sockets(worker) for worker in workers(site)}
        sending = site.start_send("--quiet", "--retry-for", "20", tree)
        site.log.wait_for("stored")
        (victim,) = [worker for worker in idle if sockets(worker) - idle[worker]]
        os.kill(victim, signal.SIGKILL)
        assert finish(sending).code == 0
        wait_until(lambda: len(workers(site)) == 2)
        assert victim not in workers(site)
        wait_until(lambda: site.partials() == [])  # that one cleans up once it has started
    assert site.log.text.count("another one takes its place") == 1
    assert all((site.stored(tree) / str(n)).read_bytes() == b"%d" % n for n in range(3000))


def test_a_worker_that_dies_again_and_again_is_replaced_once_a_second(tmp_path: Path) -> None:
    with pair(tmp_path) as site:
        survivor, began = workers(site)[0], time.monotonic()
        while time.monotonic() - began < 2.5:
            for worker in set(workers(site)) - {survivor}:
                os.kill(worker, signal.SIGKILL)
            time.sleep(0.01)
        wait_until(lambda: len(workers(site)) == 2)
        assert 2 <= site.log.text.count("another one takes its place") <= 4
        assert survivor in workers(site)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_all", [False, True], ids=["parent", "all"])
def test_a_signal_stops_all_and_what_is_arriving_may_finish(
    tmp_path: Path, number: signal.Signals, to_all: bool
) -> None:
    """A terminal and a service manager send it to every process, the parent does it besides."""
    whole = bytes(2 * MIB)
    with pair(tmp_path) as site, sender_at_each(site) as senders:
        first, second = senders.values()
        first.part("arriving", whole, 0, MIB)
        wait_until(lambda: MIB in site.partials())
        for process in [*(workers(site) if to_all else []), site.process.pid]:
            os.kill(process, number)
        assert codes(second.answers(finish=False)) == [("error", "shutting_down")]
        assert site.process.poll() is None
        first.part("arriving", whole, MIB, 2 * MIB)
        assert codes(first.answers(finish=False))[0] == ("receipt", "stored")
        first.channel.close()
        second.channel.close()
        assert site.process.wait(10) == 0
    assert site.log.text.count("stopping: what is arriving may finish") == 1


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with pair(tmp_path) as site, sender_at_each(site) as senders:
        (at, first), _ = senders.items()
        first.part("arriving", bytes(2 * MIB), 0, MIB)
        wait_until(lambda: MIB in site.partials())
        site.process.terminate()
        site.log.wait_for("stopping")
        assert is_alive(at)
        site.process.terminate()
        assert site.process.wait(5) == -signal.SIGTERM
        wait_until(lambda: not is_alive(at))


def test_a_killed_parent_takes_its_workers_along_and_until_then_nobody_else_comes(
    tmp_path: Path, document: Path
) -> None:
    with pair(tmp_path) as site:
        stopped, other = workers(site)
        time.sleep(1)  # one that is stopped as it starts holds the parent's end of the pipe
        os.kill(stopped, signal.SIGSTOP)
        site.process.kill()
        wait_until(lambda: not is_alive(other))
        second = ["receive", "--dir", str(site.directory), "--bind", "127.0.0.1", "--port", "0"]
        try:
            assert_failed(run(tmp_path, *second), 1, "another receiver is using")
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: not is_alive(stopped))
    with pair(tmp_path) as site:
        assert site.send(document).code == 0


# Keys and limits


def keys_file(home: Path, text: str) -> Path:
    file = home / "keys"
    file.touch(0o600)
    file.write_text(text)
    return file


def test_a_hang_up_reloads_the_keys_in_every_worker(tmp_path: Path) -> None:
    table = f'[default]\nsecret = "{SECRET}"\n'
    keys = keys_file(tmp_path, table)
    with pair(tmp_path, "--keys", str(keys)) as site:
        site.process.send_signal(signal.SIGHUP)
        wait_until(lambda: site.log.text.count("1 key(s) in force") == 2)
        keys_file(tmp_path, table + 'quota = "1M"\n')
        site.process.send_signal(signal.SIGHUP)
        wait_until(lambda: site.log.text.count("the keys before stay in force") == 2)
        assert "[default] has a quota, which is for a receiver with one worker" in site.log.text


def test_senders_are_counted_over_all_workers(tmp_path: Path, document: Path) -> None:
    with pair(tmp_path, "--max-connections", "3") as site:
        with contextlib.ExitStack() as opened:
            senders = [opened.enter_context(HandSender(site)) for _ in range(3)]
            for sender in senders:
                wanted(sender, "nothing")
            for _ in range(4):
                assert_failed(site.send(document), 4, "the receiver has too many senders at once")
            senders[0].answers()
            senders[0].channel.close()
            assert site.send("--retry-for", "10", document).code == 0
        before = workers(site)
        for worker in before:
            os.kill(worker, signal.SIGKILL)  # what it had counted goes with it
        wait_until(lambda: not any(map(is_alive, before)))
        with contextlib.ExitStack() as opened:
            for _ in range(3):
                sender = opened.enter_context(HandSender(site))
                assert wanted(sender, "nothing") == "send"


def test_wrong_proofs_are_known_to_every_worker(tmp_path: Path, document: Path) -> None:
    with pair(tmp_path) as site:
        assert [prove_wrongly(site) for _ in range(8)] == 5 * ["auth_failed"] + 3 * ["lost"]
        assert site.send("--retry-for", "10", document).code == 0
        assert prove_wrongly(site) == "auth_failed"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--quota", "1G"], "--quota needs one worker to count for all"),
        (["--min-free", "1G"], "--min-free needs one worker to count for all"),
        (["--max-connections", "1"], "--max-connections 1 is too few for 2 workers"),
        (["--max-unauthenticated", "1"], "--max-unauthenticated 1 is too few for 2 workers"),
    ],
)
def test_what_several_workers_cannot_do_is_wrong_usage(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    command = ["receive", "--dir", str(tmp_path), "--bind", "127.0.0.1", "--port", "0"]
    assert_failed(run(tmp_path, *command, "--workers", "2", *options), 2, f"xfer: {sentence}")


def test_so_is_a_quota_of_a_key(tmp_path: Path) -> None:
    keys = keys_file(tmp_path, f'[alice]\nsecret = "{SECRET}"\nquota = "1G"\n')
    command = ["receive", "--dir", str(tmp_path), "--bind", "127.0.0.1", "--port", "0"]
    done = run(tmp_path, *command, "--keys", keys, "--workers", "2", secret=None)
    assert_failed(done, 2, "[alice] has a quota, which is for a receiver with one worker")


def test_one_worker_is_one_process(tmp_path: Path) -> None:
    with receiving(tmp_path, "--workers", "1") as site:
        with HandSender(site) as sender:
            sender.answers()
        assert workers(site) == []
        assert not (site.directory / ".xfer" / "installing").exists()
