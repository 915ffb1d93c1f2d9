"""What is wrong is said in a sentence on both sides, ends with the code of the design,
and stores nothing."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import (
    KEY,
    MIB,
    SECRET,
    HandSender,
    Site,
    assert_failed,
    codes,
    environment,
    fake_receiver,
    finish,
    receiving,
    run,
    start,
    unprivileged,
    wait_until,
)
from tests.support.trees import everything_below
from xfer.auth.identity import load_identity
from xfer.auth.keys import DEFAULT_KEY_ID
from xfer.auth.opening import admit_sender
from xfer.wire.channel import Channel
from xfer.wire.messages import Challenge, Hello, Proof, Welcome

OTHER_SECRET = "xfer-key-" + 43 * "B"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with receiving(tmp_path_factory.mktemp("plain"), "--insecure-plaintext") as site:
        yield site


# Secrets


def test_a_wrong_secret_is_refused_at_once_and_stores_nothing(nas: Site, document: Path) -> None:
    began = time.monotonic()
    refused = nas.send("--json", document, secret=OTHER_SECRET)
    assert time.monotonic() - began < 3, "nobody waits for a deadline"
    assert_failed(refused, 3, "xfer: the two sides do not hold the same secret\n")
    assert [(r["type"], r["code"]) for r in refused.records] == [("summary", "auth_failed")]
    assert not nas.stored(document).exists()
    nas.log.wait_for(r"127\.0\.0\.1:\d+: the two sides do not hold the same secret")


def test_a_passphrase_serves_as_a_secret_on_both_sides(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, secret="correct horse battery") as site:
        assert site.send(document, secret="correct horse battery").code == 0
        assert site.send(document, secret="correct horse batterY").code == 3


def arguments(command: str, document: Path) -> list[str | Path]:
    """What lets `command` come as far as its secret, and not much further."""
    if command == "send":
        return [document, "127.0.0.1:1"]
    return ["--dir", document.parent / "missing"]


@pytest.mark.parametrize("command", ["send", "receive"])
def test_a_short_secret_is_refused(tmp_path: Path, document: Path, command: str) -> None:
    end = arguments(command, document)
    refused = run(tmp_path, command, *end, secret="fifteen letters")
    assert_failed(refused, 1, "the secret is too short: at least 16 characters")
    assert "fifteen" not in refused.err


@pytest.mark.parametrize("command", ["send", "receive"])
def test_a_secret_file_that_others_can_read_is_refused(
    tmp_path: Path, document: Path, command: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o640)
    end = arguments(command, document)
    refused = run(tmp_path, command, "--secret-file", file, *end)
    assert_failed(refused, 1, f"others can read the secret in {file}: chmod 600 {file}")


@pytest.mark.parametrize("command", ["send", "receive"])
def test_an_empty_secret_file_is_refused_and_nothing_takes_its_place(
    tmp_path: Path, document: Path, command: str
) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    end = arguments(command, document)
    refused = run(tmp_path, command, "--secret-file", file, *end, secret=None)
    assert_failed(refused, 1, "secret")
    assert not (tmp_path / "config").exists()


def test_a_sender_without_a_secret_says_where_to_put_one(tmp_path: Path, document: Path) -> None:
    refused = run(tmp_path, "send", document, "127.0.0.1:1", secret=None)
    where = tmp_path / "config" / "xfer" / "secret"
    assert_failed(refused, 1, f"no secret: copy the receiver's to {where} (chmod 600)")
    assert not where.exists()


# The wrong kind of peer


def test_tls_against_plaintext_fails_as_authentication_does(plain: Site, document: Path) -> None:
    refused = run(plain.home, "send", document, plain.host)
    assert_failed(refused, 3, "was it started with --insecure-plaintext?")
    plain.log.wait_for("the sender speaks TLS, and this receiver was told not to")
    assert not plain.stored(document).exists()


def test_plaintext_against_tls_fails_as_authentication_does(nas: Site, document: Path) -> None:
    refused = run(nas.home, "send", "--insecure-plaintext", document, nas.host)
    assert_failed(refused, 3, "this receiver speaks TLS only")
    nas.log.wait_for("this receiver speaks TLS only")
    assert not nas.stored(document).exists()


@pytest.mark.parametrize("over_tls", [False, True])
def test_a_receiver_without_the_secret_learns_no_file_name(
    tmp_path: Path, document: Path, over_tls: bool
) -> None:
    seen = bytearray()

    def impostor(channel: Channel) -> None:
        if over_tls:
            channel.start_tls(load_identity(str(tmp_path)).context, server_side=True)
        channel.expect(Hello)
        channel.send(Challenge(1, 64 * "0"))
        channel.flush()
        channel.expect(Proof)
        channel.send(Welcome(64 * "0", ["md5"]))
        channel.flush()
        while True:
            seen.extend(channel.read(1))

    option = [] if over_tls else ["--insecure-plaintext"]
    with fake_receiver(impostor) as host:
        refused = run(tmp_path, "send", *option, document, host)
    assert_failed(refused, 3, "the receiver could not prove that it holds the same secret")
    assert bytes(seen) == b""


# Content


def test_content_that_does_not_match_its_digest_is_not_stored(nas: Site) -> None:
    with HandSender(nas) as sender:
        sender.file("mismatch", b"one thing", md5=32 * "0")
        sender.file("match", b"another")
        answers = sender.answers()
    assert codes(answers) == [("refusal", "digest_mismatch"), ("receipt", "stored")]
    assert not nas.stored("mismatch").exists()
    assert nas.stored("match").read_bytes() == b"another"
    wait_until(lambda: not nas.partials())
    nas.log.wait_for("mismatch: refused, what arrived does not match its digest")


@pytest.mark.parametrize("arrived", [0, 1, MIB])
def test_fewer_bytes_than_promised_are_not_stored(nas: Site, arrived: int) -> None:
    name = f"short-{arrived}"
    with HandSender(nas) as sender:
        sender.file(name, bytes(arrived), file_size=2 * MIB)
        wait_until(nas.partials)
    nas.log.wait_for(f"{name}: interrupted at ")
    assert not nas.stored(name).exists()
    with HandSender(nas) as sender:
        sender.file(name, b"all of it")
        assert codes(sender.answers()) == [("receipt", "stored")]


UNSAFE = {
    "empty": "", "absolute": "/etc/cron.d/x", "parent": "..", "here": ".", "upwards": "../up",
    "hidden up": "a/../../up", "double": "a//b", "trailing": "a/", "dot": "a/./b",
    "state": ".xfer/lock", "state itself": ".xfer", "NUL": "a\0b", "newline": "a\nb",
    "escape": "a\x1b[2Jb", "delete": "a\x7f", "C1": "a\x9bb", "component": 256 * "a",
    "component in bytes": 128 * "é", "whole": "/".join(40 * [110 * "a"]),
    "huge": 9000 * "a/", "high surrogate": "a\ud800", "spelled": "a\udcc3\udca9",
    "spelled newline": "a\udc0a", "spelled parent": "\udc2e\udc2e/a",
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE.values(), ids=UNSAFE.keys())
def test_an_unsafe_name_is_refused_and_nothing_is_written(nas: Site, name: str) -> None:
    before = everything_below(nas.home.parent)
    with HandSender(nas) as sender:
        sender.file(name, b"unsafe")
        sender.say({"type": "directory", "file_name": name})
        sender.say({"type": "symlink", "file_name": name, "target": "x"})
        answers = sender.answers()
    assert codes(answers) == 3 * [("refusal", "bad_name")]
    assert everything_below(nas.home.parent) == before


def test_an_unusable_link_target_is_refused(nas: Site) -> None:
    targets = ["", "a\0b", 4096 * "a", "\ud800"]
    with HandSender(nas) as sender:
        for target in targets:
            sender.say({"type": "symlink", "file_name": "unusable", "target": target})
        assert codes(sender.answers()) == len(targets) * [("refusal", "bad_name")]
    assert not os.path.lexists(nas.stored("unusable"))


def test_a_link_that_was_sent_leads_nobody_out(nas: Site, tmp_path: Path) -> None:
    """A link to a directory is not a way into it, and one to a file is not written through."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    with HandSender(nas) as sender:
        sender.say({"type": "symlink", "file_name": "out", "target": str(tmp_path)})
        sender.say({"type": "symlink", "file_name": "in-place", "target": str(victim)})
        assert codes(sender.answers()) == 2 * [("receipt", "stored")]
    with HandSender(nas) as sender:
        sender.file("out/new", b"x")
        sender.file("out/victim", b"x")
        sender.say({"type": "directory", "file_name": "out/directory", "mode": 0o777})
        sender.say({"type": "directory", "file_name": "out", "mode": 0o777})
        sender.file("in-place", b"a file now")
        answers = codes(sender.answers())
    assert sorted(answers) == 3 * [("receipt", "stored")] + 2 * [("receipt", "versioned")]
    assert nas.stored("out").is_dir()
    assert not nas.stored("out").is_symlink()
    assert everything_below(tmp_path) == [str(victim)]
    assert victim.read_bytes() == b"untouched"
    assert nas.stored("in-place").read_bytes() == b"a file now"


# What cannot be sent


def test_a_file_over_a_directory_and_a_directory_over_a_file_are_refused_if_told_so(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "1/same", tmp_path / "2/same"
    first.mkdir(parents=True)
    second.parent.mkdir()
    second.write_bytes(b"a file")
    with receiving(tmp_path / "site", "--if-exists", "refuse") as nas:
        assert nas.send(first).code == 0
        assert_failed(nas.send(second), 6, "a directory has this name on the receiver")
        assert nas.stored("same").is_dir()
        nas.stored("same").rmdir()
        assert nas.send(second).code == 0
        assert_failed(nas.send(first), 6, "something that is no directory is in the way")
        assert nas.stored("same").read_bytes() == b"a file"


def test_missing_files_are_reported_and_the_others_sent(
    nas: Site, tmp_path: Path, document: Path
) -> None:
    missing = tmp_path / "missing"
    sent = nas.send("--json", missing, document)
    assert_failed(sent, 7, f"{missing} is not there")
    assert [(r.get("outcome"), r.get("code")) for r in sent.records[:-1]] == [
        ("failed", "local"), ("stored", None),
    ]  # fmt: skip
    assert nas.stored(document).exists()


def test_nothing_but_missing_files_is_a_local_problem(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = run(tmp_path, "send", missing, tmp_path / "too", "127.0.0.1:1")
    assert_failed(done, 1, f"no such file or directory: {missing}")


def test_a_fifo_that_is_named_is_an_error_and_never_read(nas: Site, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert_failed(nas.send(fifo), 1, f"{fifo} is a FIFO: not sent")
    (tmp_path / "beside").write_bytes(b"")
    assert_failed(nas.send(fifo, tmp_path / "beside"), 7, f"{fifo} is a FIFO: not sent")


@pytest.mark.parametrize("connections", ["1", "2"])
def test_what_is_no_file_in_a_tree_is_skipped_with_a_line_and_no_failure(
    nas: Site, tmp_path: Path, connections: str
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    os.mkfifo(top / "fifo")
    (top / "beside").write_bytes(b"")
    option = ("--connections", connections)
    said = nas.send(*option, top)
    assert (said.code, f"xfer: {top}/fifo is a FIFO: skipped\n" in said.err) == (0, True)
    assert "1 skipped" in said.err.splitlines()[-1]
    assert os.listdir(nas.stored(top)) == ["beside"]
    assert nas.send("--quiet", *option, top).err == ""
    listed = nas.send("--json", *option, top)
    (skipped,) = [record for record in listed.records if record.get("outcome") == "skipped"]
    assert skipped == {
        "type": "special", "file_name": "top/fifo", "outcome": "skipped",
        "message": f"{top}/fifo is a FIFO: skipped",
    }  # fmt: skip
    summary = listed.records[-1]
    assert (summary["skipped"], summary["failed"], summary["exit_code"]) == (1, 0, 0)


def test_a_tree_of_nothing_but_a_fifo_is_no_failure(nas: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert nas.send(tmp_path).code == 0
    assert os.listdir(nas.stored(tmp_path)) == []


def test_an_unreadable_file_is_reported(nas: Site, document: Path) -> None:
    document.chmod(0)
    command = nas.command(document)
    done = finish(start(command, environment(nas.home), prefix=unprivileged()))
    assert_failed(done, 1, f"{document} cannot be read: Permission denied")


def test_a_file_that_changes_while_it_is_sent_is_not_stored(
    nas: Site, tmp_path: Path, document: Path
) -> None:
    log = tmp_path / f"{tmp_path.name}.log"
    log.write_bytes(bytes(16 * MIB))
    process = nas.start_send("--json", log, document)

    def grow() -> None:
        with log.open("ab", buffering=0) as file:
            while process.poll() is None:
                file.write(b"one more line\n")

    growing = threading.Thread(target=grow)
    growing.start()
    done = finish(process)
    growing.join()
    assert_failed(done, 7, f"{log} changed while it was read")
    assert {r["file_name"]: r["outcome"] for r in done.records[:-1]} == {
        log.name: "failed", document.name: "stored",
    }  # fmt: skip
    assert not nas.stored(log).exists()


def test_a_digest_that_the_receiver_cannot_check_is_not_used(
    tmp_path: Path, document: Path
) -> None:
    def without_blake3(channel: Channel) -> None:
        admit_sender(channel, {DEFAULT_KEY_ID: [KEY]}, b"", lambda _, mac: Welcome(mac, ["md5"]))
        channel.read(1)

    with fake_receiver(without_blake3) as host:
        options = ["--insecure-plaintext", "--checksum", "blake3"]
        done = run(tmp_path, "send", *options, document, host)
    assert_failed(done, 6, "the receiver cannot check blake3 digests")
