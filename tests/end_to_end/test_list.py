"""`xfer list`, through real processes: what it prints, how it ends, and what it leaves alone."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Peer
from tests.support.local_stores import MTIME
from tests.support.processes import (
    KEY,
    PATIENCE,
    Finished,
    HandSender,
    Site,
    assert_failed,
    environment,
    finish,
    receiving,
    run,
    start,
    wait_until,
)
from tests.support.terminals import terminal
from tests.support.trees import everything_below
from xfer.sending.listing import answer
from xfer.storage.local.reader import LocalStoreReader, reading
from xfer.storage.reading import Held
from xfer.wire.channel import Channel
from xfer.wire.messages import (
    Done,
    List,
    ListedName,
    Listing,
    Message,
    Refusal,
    Welcome,
    Working,
)

NS = "2001-09-09T01:46:40Z"


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A receiver of plain files that anybody may have put there, and older contents."""
    with receiving(tmp_path_factory.mktemp("nas"), "--access", "read-write") as site:
        fill(site.directory)
        yield site


def fill(directory: Path) -> None:
    (directory / "docs/old").mkdir(parents=True)
    for name, size in (("docs/a b.txt", 12), ("docs/old/c", 30), ("z\x1b]0;é.txt", 7)):
        path = directory / name
        path.write_bytes(bytes(size))
        os.utime(path, ns=(MTIME, MTIME))
        path.chmod(0o640)
    (directory / "docs/l").symlink_to("a b.txt\x1b[2J")
    os.utime(directory / "docs/l", ns=(MTIME, MTIME), follow_symlinks=False)
    kept = directory / ".xfer/versions/docs/a b.txt"
    kept.mkdir(parents=True)
    (kept / "20261123T030002.123456Z").write_bytes(b"older")
    os.utime(kept / "20261123T030002.123456Z", ns=(MTIME, MTIME))
    (kept / "20261123T030002.123456Z").chmod(0o600)
    for shown in ("docs/old", "docs"):
        (directory / shown).chmod(0o750)
        os.utime(directory / shown, ns=(MTIME, MTIME))


def listed(site: Site, *arguments: str) -> Finished:
    return run(site.home, "list", "--retry-for", "0", *arguments, site.host)


def test_a_line_has_kind_size_time_mode_and_name(nas: Site) -> None:
    done = listed(nas, "docs")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"file                  12 {NS} 0640 docs/a b.txt\n"
        f"symlink                0 {NS} 0777 docs/l -> a b.txt\\x1b[2J\n"
        f"directory             30 {NS} 0750 docs/old\n"
    )


def test_columns_can_be_taken_by_awk_and_sort(nas: Site) -> None:
    done = listed(nas, "-R")
    words = [line.split(maxsplit=4) for line in done.out.splitlines()]
    assert [(int(size), name) for _, size, _, _, name in words if name.startswith("docs")] == [
        (42, "docs"),
        (12, "docs/a b.txt"),
        (0, "docs/l -> a b.txt\\x1b[2J"),
        (30, "docs/old"),
        (30, "docs/old/c"),
    ]


def test_names_cannot_steer_a_terminal_and_are_whole_in_json(nas: Site) -> None:
    done = listed(nas, "-R")
    assert done.out.replace("\n", "").isprintable()
    assert "z\\x1b" not in done.out  # what has a control character is no name on a receiver
    names = [record.get("file_name") for record in listed(nas, "-R", "--json").records]
    assert "docs/a b.txt" in names


def test_json_is_an_object_a_line_and_a_summary(nas: Site) -> None:
    *lines, summary = listed(nas, "docs", "--json").records
    assert lines[0] == {
        "type": "file", "file_name": "docs/a b.txt", "file_size": 12, "mtime": NS,
        "mtime_ns": MTIME, "mode": "0640",
    }  # fmt: skip
    assert lines[1] == {
        "type": "symlink", "file_name": "docs/l", "mtime": NS, "mtime_ns": MTIME, "mode": "0777",
        "target": "a b.txt\x1b[2J",
    }  # fmt: skip
    assert lines[2]["type"] == "directory"
    assert summary | {"seconds": 0} == {
        "type": "summary", "files": 1, "directories": 1, "symlinks": 1, "bytes": 42, "failed": 0,
        "seconds": 0, "exit_code": 0, "retryable": False,
    }  # fmt: skip


def test_of_a_recursive_list_the_summary_counts_each_byte_once(nas: Site) -> None:
    assert listed(nas, "docs", "-R", "--json").records[-1]["bytes"] == 42


def test_versions_have_the_time_that_they_were_replaced(nas: Site) -> None:
    done = listed(nas, "--versions")
    assert done.out == f"file                   5 {NS} 0600 20261123T030002.123456Z docs/a b.txt\n"
    (line, _) = listed(nas, "--versions", "--json", "docs").records
    assert line["replaced"] == "20261123T030002.123456Z"


def test_a_directory_itself_is_one_line(nas: Site) -> None:
    assert listed(nas, "-d", "docs").out == f"directory             42 {NS} 0750 docs\n"
    assert listed(nas, "--directory", "docs/").out == listed(nas, "-d", "./docs").out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none"], 6, "xfer: there is no none\n"),
        (["none", "docs"], 7, "xfer: there is no none\n"),
        (["../up"], 2, "no name on a receiver"),
        (["/etc"], 2, "no name on a receiver"),
        (["-R", "-d"], 2, "either --recursive or --directory"),
    ],
)
def test_what_is_not_there_ends_in_its_exit_code(
    nas: Site, arguments: list[str], code: int, sentence: str
) -> None:
    assert_failed(listed(nas, *arguments), code, sentence)
    summary = listed(nas, "--json", *arguments).records[-1]
    assert (summary["type"], summary["exit_code"]) == ("summary", code)


def test_a_name_that_failed_is_an_object_too(nas: Site) -> None:
    assert listed(nas, "--json", "none").records[0] == {
        "type": "failed", "file_name": "none", "code": "not_found",
        "message": "there is no none", "retryable": False,
    }  # fmt: skip


def test_without_a_host_or_a_secret_it_says_what_is_missing(nas: Site) -> None:
    assert_failed(run(nas.home, "list"), 2, "the last argument is the host")
    assert_failed(run(nas.home, "list", nas.host, secret=None), 1, "secret")
    wrong = "xfer-key-" + 43 * "B"
    assert_failed(run(nas.home, "list", nas.host, secret=wrong), 3, "secret")
    assert_failed(
        run(nas.home, "list", "--retry-for", "0", "127.0.0.1:1"), 4, "no receiver answers"
    )


def test_who_may_only_write_lists_nothing(tmp_path: Path) -> None:
    with receiving(tmp_path) as site:
        (site.directory / "private").touch()
        done = listed(site)
    assert_failed(done, 6, "--access")
    assert "private" not in done.out + done.err


# On the receiver's machine


@pytest.mark.parametrize("is_used", [False, True])
def test_a_directory_is_listed_with_or_without_a_receiver_and_nothing_is_made(
    tmp_path: Path, is_used: bool
) -> None:
    directory = tmp_path / "plain"
    directory.mkdir()
    if is_used:
        fill(directory)
    else:
        (directory / "docs").mkdir()
    before = everything_below(directory)
    done = run(tmp_path, "list", "--dir", str(directory), secret=None)
    assert (done.code, done.err) == (0, "")
    assert " docs\n" in done.out
    assert everything_below(directory) == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["docs"], ["-R"], ["-d"], ["-d", "docs"], ["--versions"], ["--versions", "-R", "docs"],
     ["docs", "none", "z"], ["none"]],
)  # fmt: skip
def test_beside_a_receiver_it_says_the_same_as_the_receiver(
    nas: Site, arguments: list[str]
) -> None:
    there = listed(nas, *arguments)
    here = run(nas.home, "list", *arguments, "--dir", str(nas.directory), secret=None)
    assert here == there


def test_a_directory_that_is_none_is_a_local_problem(tmp_path: Path) -> None:
    done = run(tmp_path, "list", "--dir", str(tmp_path / "none"))
    assert_failed(done, 1, "cannot read")


# Readers that are gone, and others that are slow


def test_a_reader_that_has_seen_enough_is_no_error(nas: Site, tmp_path: Path) -> None:
    directory = many(tmp_path, 5000)
    command = (
        f"{sys.executable} -m xfer list --dir {directory} | head -n 3; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(
        ["bash", "-c", command], env=environment(tmp_path), capture_output=True, check=True
    )
    *lines, code = done.stdout.decode().splitlines()
    assert (len(lines), code, done.stderr) == (3, "0", b"")


def test_a_full_disk_under_standard_output_is_said(nas: Site) -> None:
    with open("/dev/full", "wb") as full:
        process = start(["list", nas.host], environment(nas.home), stdout=full.fileno())
        done = finish(process)
    assert_failed(done, 1, "standard output cannot be written")


def many(tmp_path: Path, count: int) -> Path:
    directory = tmp_path / "many"
    directory.mkdir()
    for number in range(count):
        (directory / f"{number:06}").touch()
    return directory


# A receiver by hand, and a client by hand


def test_each_name_gets_a_last_listing(nas: Site) -> None:
    with HandSender(nas) as client:
        client.say({"type": "list", "names": ["docs"], "more": True})
        client.say({"type": "list", "names": ["none", "docs/old"]})
        said: list[Message] = []
        while not said or not isinstance(said[-1], Done):
            said.append(client.channel.receive())
    kinds = [
        (type(one), one.last if isinstance(one, Listing) else None)
        for one in said
        if not isinstance(one, Listing) or one.last
    ]
    assert kinds == [
        (Listing, True), (Refusal, None), (Listing, True), (Listing, True), (Done, None),
    ]  # fmt: skip


def test_what_was_listed_is_in_the_receivers_log(nas: Site) -> None:
    listed(nas, "docs", "z")
    nas.log.wait_for(r"default: listed docs, z: 3 lines")


# Adding up that takes long


def test_adding_up_is_told_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    was_seen = threading.Event()

    def script(peer: Peer) -> None:
        transcript, proof = peer.challenge()
        mac = KEY.server_proof(transcript, bytes.fromhex(proof))
        peer.say(Welcome(mac.hex(), ["md5"], features=("list",)))
        peer.hear()
        peer.say(Working("docs\x1b[2J", 3 * 1024))
        assert was_seen.wait(PATIENCE)
        line = ListedName("docs", "directory", 5, 0, 0o755)
        peer.say(Listing((line,)), Listing((), last=True), Done())

    shown = f"directory {5:14} 1970-01-01T00:00:00Z 0755 docs\n"
    with terminal() as (theirs, log), hostile_receiver(script) as host:
        words = ["list", "--insecure-plaintext", host]
        process = start(words, environment(tmp_path), stderr=theirs)
        told = r"adding up docs\\x1b\[2J \(3\.0 KiB so far\)"
        wait_until(lambda: os.write(theirs, b"\n") and re.search(told, log.text))  # ends its line
        was_seen.set()
        done = finish(process)
    assert (done.code, done.out) == (0, shown)
    with hostile_receiver(script) as host:
        done = run(tmp_path, "list", "--insecure-plaintext", host)
    assert done == Finished(0, shown, "")


def test_a_receiver_that_adds_up_for_longer_than_the_timeout_is_waited_for(tmp_path: Path) -> None:
    """What is read as slowly as from a disk that sleeps: signs of life come in between."""
    (tmp_path / "docs").mkdir()
    for number in range(60):
        (tmp_path / "docs" / str(number)).touch()
    ours, theirs = socket.socketpair()
    channel, client = Channel(theirs, PATIENCE), Channel(ours, 1.0)
    with contextlib.closing(channel), contextlib.closing(client), reading(str(tmp_path)) as reader:
        slow = Slow(reader)
        answering = threading.Thread(target=answer, args=(List(("docs",)), [""], channel, slow))
        answering.start()
        said: list[Message] = []
        while not said or not isinstance(said[-1], Done):
            said.append(client.receive())
        answering.join()
    assert sum(isinstance(one, Working) for one in said) >= 2
    (line,) = [line for one in said if isinstance(one, Listing) for line in one.files]
    assert (line.file_name, line.kind) == ("docs", "directory")


class Slow:
    """A reader of a store on which each look takes a while."""

    def __init__(self, reader: LocalStoreReader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def children(self, directory: str) -> Iterator[Held]:
        for child in self._reader.children(directory):
            time.sleep(0.03)
            yield child


@contextlib.contextmanager
def hostile_receiver(script: Callable[[Peer], object]) -> Iterator[str]:
    """HOST:PORT of something that does `script` for the first that connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def serve() -> None:
            connected = listening.accept()[0]
            with connected:
                script(Peer(connected, bytearray()))
                connected.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()
