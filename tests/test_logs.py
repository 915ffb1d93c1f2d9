"""What the receiver logs: lines or JSON, and nothing in either that others could steer with."""

import contextlib
import json
import logging
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import PLAINTEXT
from tests.support.processes import (
    HandSender,
    Log,
    Site,
    admit,
    codes,
    end,
    environment,
    fake_receiver,
    finish,
    receive_file,
    receiving,
    run,
    start,
)
from tests.support.terminals import terminal
from xfer import logs
from xfer.errors import ConnectionLost
from xfer.names import printable
from xfer.wire.channel import Channel
from xfer.wire.messages import Error, Refusal, Working

STEERING = {
    "C0": "\x1b[31m\r\n\x08\x07\x00",
    "DEL": "\x7f",
    "C1": "\x9b31m\x85\x90",
    "bidirectional": "\u202e\u2066\u200f\u061c",
    "separators": "\u2028\u2029",
    "surrogates": "\udcff\udc9b\ud800",
    "unassigned and private": "\U000e0001\ue000\uffff",
}


def assert_tame(text: str) -> None:
    """Lines of what can be printed."""
    steering = {c for c in text if c not in "\n" and not c.isprintable()}
    assert not steering, text


@contextlib.contextmanager
def logging_as(log_format: str, home: Path, *options: str) -> Iterator[Site]:
    """A plaintext receiver that logs in this format; all that it said was tame."""
    directory = home / "received"
    directory.mkdir()
    words = ["receive", "--dir", str(directory), "--bind", "127.0.0.1", "--port", "0", PLAINTEXT]
    command = [*words, "--log-format", log_format, *options]
    null = subprocess.DEVNULL
    process = start(command, environment(home), stdin=null, stdout=null)
    assert process.stderr
    log = Log(process.stderr)
    try:
        host = log.wait_for(r"listening on ([\d.]+:\d+)")[1]
        yield Site(home, directory, process, log, host, True)
    finally:
        end(process)
        log.join()
    assert_tame(log.text)
    if log_format == "json":
        assert records(log.text)[-1]["event"] == "stopping"


def records(text: str) -> list[dict[str, Any]]:
    """Every line is an object, and has what every line has."""
    found = [json.loads(line) for line in text.splitlines()]
    for record in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
        assert record["level"] in ("info", "warning", "error")
        assert record["event"]
        assert record["message"]
    return found


def events(site: Site, event: str) -> list[dict[str, Any]]:
    """What was logged of an event, at least once, as far as it does not change from run to run."""
    site.log.wait_for(f'"event": "{event}".*\n')
    found = [record for record in records(site.log.text) if record["event"] == event]
    for record in found:
        assert record.pop("message")
        if "peer" in record:
            assert re.fullmatch(r"127\.0\.0\.1:\d+", record.pop("peer"))
        if "seconds" in record:
            assert 0 <= record.pop("seconds") < 20
    return found


# Whole lines


def test_json_has_an_object_for_each_event(tmp_path: Path) -> None:
    with logging_as("json", tmp_path) as site:
        (listening,) = events(site, "listening")
        assert listening == {
            "level": "info", "event": "listening", "directory": str(site.directory),
            "host": "127.0.0.1", "port": site.port, "tls": False,
        }  # fmt: skip
        with HandSender(site) as sender:
            sender.file("a.txt", b"what matters")
            sender.file("a.txt", b"what matters")
            sender.file("../b.txt", b"x")
            sender.part("c.txt", bytes(200), 0, 100)
            sender.say({"type": "offer", "files": []})
            sender.say({"type": "gift"})
            assert codes(sender.answers(finish=False))[-1] == ("error", "bad_frame")
        known = {"key_id": "default"}
        ended = events(site, "ended")  # the last line, so all are there
        receipts = events(site, "receipt")
        assert receipts == [
            {"level": "info", "event": "receipt", "file_name": "a.txt", "bytes": 12}
            | known | {"outcome": outcome}
            for outcome in ("stored", "unchanged")
        ]  # fmt: skip
        assert events(site, "refusal") == [
            {"level": "warning", "event": "refusal", "file_name": "../b.txt", "code": "bad_name"}
            | known
        ]
        assert events(site, "interrupted") == [
            {"level": "warning", "event": "interrupted", "file_name": "c.txt", "bytes": 100} | known
        ]
        assert ended == [{"level": "warning", "event": "ended", "code": "bad_frame"} | known]


def test_quiet_has_the_warnings_and_nothing_else(tmp_path: Path) -> None:
    with receiving(tmp_path, "--log-format", "json", "--quiet", PLAINTEXT) as site:
        with HandSender(site) as sender:
            sender.file("a.txt", b"x")
            sender.file("", b"x")
            sender.answers()
        assert len(events(site, "refusal")) == 1
        assert {record["level"] for record in records(site.log.text)} == {"warning"}


def test_a_quiet_receiver_says_nothing_while_all_goes_well(tmp_path: Path, document: Path) -> None:
    with receiving(tmp_path, "--quiet") as site:
        assert site.send(document).code == 0
    probe = "the other side closed the connection"  # of who waited until it listened
    said = [line for line in site.log.text.splitlines() if probe not in line]
    assert said == []


def test_a_start_that_fails_is_an_object_too(tmp_path: Path) -> None:
    done = run(tmp_path, "receive", "--dir", tmp_path / "missing", "--log-format", "json")
    (record,) = records(done.err)
    assert done.code == 1
    assert record == {
        "level": "error", "event": "failed", "code": "local",
        "message": f"cannot receive into {tmp_path / 'missing'}: No such file or directory",
    }  # fmt: skip


def test_a_first_secret_is_in_no_log_even_on_a_terminal(tmp_path: Path) -> None:
    with terminal() as (tty, seen):
        words = ["receive", "--dir", str(tmp_path), "--bind", "127.0.0.1", "--port", "0"]
        command = [*words, "--log-format", "json"]
        process = start(command, environment(tmp_path, None), stderr=tty)
        try:
            seen.wait_for("listening")
        finally:
            end(process)
            finish(process)
    secret = (tmp_path / "config" / "xfer" / "secret").read_text().strip()
    assert secret not in seen.text
    assert [record["event"] for record in records(seen.text)][:2] == ["secret", "secret"]


def test_a_fault_of_its_own_is_one_object_with_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("xfer.receiver.fault")
    for formatter in (logs._AsJson(), logs._AsText()):
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        log.handlers, log.propagate = [handler], False
        try:
            raise RuntimeError("".join(STEERING.values()))
        except RuntimeError:
            log.exception("%s: internal error", "peer\x1b")
    as_json, *as_text = capsys.readouterr().err.splitlines()
    (record,) = records(as_json)
    assert record["traceback"][0] == "Traceback (most recent call last):"
    assert_tame("\n".join([as_json, *record["traceback"], *as_text]))
    assert r"\u202e" in as_text[-1]


# What comes from the other side


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_names_from_a_sender_cannot_steer_the_log(tmp_path: Path, log_format: str) -> None:
    with logging_as(log_format, tmp_path) as site:
        for kind, steering in STEERING.items():
            with HandSender(site) as sender:
                name = f"{kind}{steering}"
                sender.say({"type": "directory", "file_name": name})
                sender.part(name, bytes(200), 0, 100)
                sender.say({"type": "symlink", "file_name": f"link{name}", "target": name})
                sender.say({"type": "error", "code": name, "message": name, "retryable": False})
                with pytest.raises(ConnectionLost):  # whoever said that it is over is told nothing
                    sender.answers(finish=False)
            site.log.wait_for(f"(?s){kind}.*{kind}.*{kind}")
        site.log.wait_for(r"\\u202e")
        assert "Traceback" not in site.log.text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_a_stranger_says_cannot_steer_the_log(tmp_path: Path, log_format: str) -> None:
    with logging_as(log_format, tmp_path) as site:
        for steering in STEERING.values():
            with socket.create_connection(("127.0.0.1", site.port)) as connected:
                channel = Channel(connected, 10)
                channel.send(Error(steering[:64], f"{steering}xfer: all is well", False))
                channel.flush()
                channel.close()
        site.log.wait_for("(?s)" + len(STEERING) * "all is well.*")


def test_what_a_stranger_says_does_not_fill_the_log(tmp_path: Path) -> None:
    said = 32_000 * "\x85"
    with logging_as("text", tmp_path) as site:
        before = len(site.log.text)
        with socket.create_connection(("127.0.0.1", site.port)) as connected:
            frame = json.dumps(
                {"type": "error", "code": "x", "message": said, "retryable": False},
                ensure_ascii=False,
            ).encode()
            connected.sendall(len(frame).to_bytes(4, "big") + frame)
        site.log.wait_for(r"\\x85\n")
        assert len(site.log.text) - before < 4096


@pytest.mark.parametrize("steering", STEERING.values(), ids=STEERING.keys())
def test_what_a_receiver_says_cannot_steer_a_senders_terminal(
    tmp_path: Path, document: Path, steering: str
) -> None:
    """Lines and the bar alike; what draws the bar is its own."""

    def script(channel: Channel) -> None:
        admit(channel)
        header = receive_file(channel)
        for _ in range(3):
            channel.send(Working(f"w{steering}", 1, 2))
            channel.flush()
            time.sleep(0.2)
        channel.send(Refusal(header.file_name, f"c{steering}", f"refused{steering}", False))
        channel.send(Error(f"c{steering}", f"ended{steering}", False))

    with fake_receiver(script) as host, terminal() as (tty, seen):
        command = ["send", PLAINTEXT, str(document), host]
        assert finish(start(command, environment(tmp_path), stderr=tty)).code == 6
    seen.wait_for("refused")
    seen.wait_for("ended")
    text = re.sub(r"\x1b\[A", "", seen.text)
    assert not {c for c in text if c not in "\r\n" and not c.isprintable()}, seen.text
    assert printable(f"xfer: ended{steering}") in text


@pytest.mark.parametrize("steering", STEERING.values(), ids=STEERING.keys())
def test_what_a_receiver_says_is_ascii_in_json(
    tmp_path: Path, document: Path, steering: str
) -> None:
    def script(channel: Channel) -> None:
        admit(channel)
        header = receive_file(channel)
        channel.send(Refusal(header.file_name, f"c{steering}", f"refused{steering}", False))
        channel.send(Error(f"c{steering}", f"ended{steering}", False))

    with fake_receiver(script) as host:
        done = run(tmp_path, "send", PLAINTEXT, "--json", document, host)
    assert_tame(done.out + done.err)
    assert done.out.isascii()
    assert done.records[-1]["message"] == f"ended{steering}"
