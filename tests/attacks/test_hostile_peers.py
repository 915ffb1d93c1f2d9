"""Peers that break the rules: each ends in a code and a sentence, and in nothing else."""

import hashlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import (
    KEY,
    MIB,
    Finished,
    HandSender,
    Site,
    admit,
    codes,
    fake_receiver,
    receive_file,
    receiving,
    run,
    wait_until,
)
from xfer.auth.identity import load_identity
from xfer.auth.keys import derive_key
from xfer.auth.opening import prove_to_receiver
from xfer.errors import AuthenticationError
from xfer.outcomes import Outcome
from xfer.wire.channel import Channel
from xfer.wire.messages import (
    Challenge,
    Done,
    Error,
    Hello,
    Message,
    Proof,
    Receipt,
    Refusal,
    Welcome,
)

Script = Callable[[Channel], object]

# Hostile receivers


def send_to(script: Script, tmp_path: Path, file: Path, *options: str) -> Finished:
    with fake_receiver(script) as host:
        return run(tmp_path, "send", "--insecure-plaintext", *options, file, host)


def assert_ended(done: Finished, code: int) -> None:
    assert (done.code, "Traceback" in done.err) == (code, False), done
    assert done.err.startswith("xfer: ")
    assert "\x1b" not in done.err


def receipt(file: str, size: int = 13, content: bytes = b"what matters\n") -> Receipt:
    return Receipt(
        file, Outcome.STORED, size, hashlib.md5(content, usedforsecurity=False).hexdigest()
    )


def wrong_answers(name: str) -> dict[str, list[Message]]:
    return {
        "for another file": [receipt("other")],
        "of another size": [receipt(name, size=12)],
        "of another digest": [receipt(name, content=b"what matterz\n")],
        "without a digest": [Receipt(name, Outcome.STORED)],
        "twice": [receipt(name), receipt(name)],
        "none": [Done()],
        "of another kind": [Hello(1, "default", 64 * "0")],
    }


@pytest.mark.parametrize("wrong", wrong_answers(""))
def test_a_receipt_that_is_not_for_what_was_sent_is_code_5(
    tmp_path: Path, document: Path, wrong: str
) -> None:
    def script(channel: Channel) -> None:
        admit(channel)
        receive_file(channel)
        for message in wrong_answers(document.name)[wrong]:
            channel.send(message)
        channel.send(Done())

    assert_ended(send_to(script, tmp_path, document), 5)


def test_done_before_anything_was_sent_is_no_success(tmp_path: Path, document: Path) -> None:
    def script(channel: Channel) -> None:
        admit(channel)
        channel.send(Done())

    assert_ended(send_to(script, tmp_path, document), 5)


GARBAGE = {
    "a huge frame": b"\xff\xff\xff\xff",
    "no object": b"\0\0\0\2[]",
    "an unknown type": b'\0\0\0\x0f{"type":"gift"}',
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_from_the_receiver_is_code_5(
    tmp_path: Path, document: Path, garbage: bytes
) -> None:
    def script(channel: Channel) -> None:
        admit(channel)
        channel.send_body(garbage)

    assert_ended(send_to(script, tmp_path, document), 5)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("internal", 6), ("from_the_future", 6), ("busy", 4), ("auth_failed", 3)],
)
def test_an_error_ends_in_its_exit_code_and_cannot_steer_a_terminal(
    tmp_path: Path, document: Path, code: str, exit_code: int
) -> None:
    def script(channel: Channel) -> None:
        admit(channel)
        channel.send(Error(code, "red \x1b[31m\x9b0m\x07\r\nxfer: all is well", False))

    done = send_to(script, tmp_path, document, "--json")
    assert_ended(done, exit_code)
    assert r"red \x1b[31m\x9b0m\x07\r\nxfer: all is well" in done.err
    assert {record["code"] for record in done.records} == {code}


def test_a_refusal_cannot_steer_a_terminal(tmp_path: Path, document: Path) -> None:
    def script(channel: Channel) -> None:
        admit(channel)
        receive_file(channel)
        channel.send(Refusal(document.name, "\x1b[2J", "\x1b[2J", True))
        channel.send(Done())

    assert_ended(send_to(script, tmp_path, document), 6)


def until(step: str) -> Script:
    """What a receiver does that opens as it should, up to this step."""

    def script(channel: Channel) -> None:
        if step == "at once":
            return
        if step in ("after hello", "after challenge", "after proof"):
            channel.expect(Hello)
            if step != "after hello":
                channel.send(Challenge(1, 64 * "0"))
            channel.flush()
            if step == "after proof":
                channel.expect(Proof)
        else:
            admit(channel)
            if step == "after the file":
                receive_file(channel)
            if step == "in a receipt":
                channel.send_body(b"\0\0\1\0{")
        channel.flush()

    return script


STEPS = [
    "at once", "after hello", "after challenge", "after proof",
    "after welcome", "after the file", "in a receipt",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_connection_closed_at_any_step_is_code_4(
    tmp_path: Path, document: Path, step: str
) -> None:
    assert_ended(send_to(until(step), tmp_path, document), 4)


@pytest.mark.parametrize("step", ["at once", "after challenge", "after welcome"])
def test_a_receiver_that_falls_silent_is_given_up(
    tmp_path: Path, document: Path, step: str
) -> None:
    def script(channel: Channel) -> None:
        until(step)(channel)
        while True:
            channel.read(1)

    done = send_to(script, tmp_path, document, "--timeout", "0.5")
    assert_ended(done, 4)
    assert "the other side kept silent for too long" in done.err


def test_a_receiver_that_reads_no_more_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(32 * MIB)

    def script(channel: Channel) -> None:
        admit(channel)
        wait_until(lambda: done)

    done: list[Finished] = []
    with fake_receiver(script) as host:
        options = ["--insecure-plaintext", "--timeout", "0.5"]
        done.append(run(tmp_path, "send", *options, file, host))
    assert_ended(done[0], 4)


STRANGERS: dict[str, Script] = {
    "a web server": lambda channel: channel.send_body(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "another version": lambda channel: channel.send(Challenge(2, 64 * "0")),
    "a welcome too early": lambda channel: channel.send(Welcome(64 * "0", ["md5"])),
    "an error": lambda channel: channel.send(Error("auth_failed", "no", False)),
}


@pytest.mark.parametrize(
    ("stranger", "over_tls"), [(name, False) for name in STRANGERS] + [("an error", True)]
)
def test_what_does_not_open_like_a_receiver_is_code_3(
    tmp_path: Path, document: Path, stranger: str, over_tls: bool
) -> None:
    def script(channel: Channel) -> None:
        if over_tls:
            channel.start_tls(load_identity(str(tmp_path)).context, server_side=True)
        STRANGERS[stranger](channel)
        channel.flush()

    with fake_receiver(script) as host:
        option = [] if over_tls else ["--insecure-plaintext"]
        assert_ended(run(tmp_path, "send", *option, document, host), 3)


# Hostile senders


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options = ["--insecure-plaintext", "--timeout", "1"]
    with receiving(tmp_path_factory.mktemp("strict"), *options) as site:
        yield site


@pytest.fixture
def target(strict: Site) -> Iterator[Site]:
    """A receiver that must go on serving after the test, without a fault of its own."""
    yield strict
    with HandSender(strict) as sender:
        sender.file("honest", b"still served")
        assert [kind for kind, _ in codes(sender.answers())] == ["receipt"]
    assert "Traceback" not in strict.log.text
    wait_until(lambda: not strict.partials())


def framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


NO_HELLO = {
    "a web browser": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(100),
    "an oversized frame": struct.pack("!I", 65_537) + bytes(65_537),
    "another version": framed(
        b'{"type":"hello","version":2,"key_id":"default","nonce":"%s"}' % (64 * b"0")
    ),
    "a file at once": framed(
        b'{"type":"file","file_name":"a","file_size":0,"md5":"%s"}' % (32 * b"0")
    ),
    "a long key id": framed(
        b'{"type":"hello","version":1,"key_id":"%s","nonce":"%s"}' % (256 * b"k", 64 * b"0")
    ),
}


@pytest.mark.parametrize("garbage", NO_HELLO.values(), ids=NO_HELLO.keys())
def test_garbage_instead_of_a_hello_gets_an_error(target: Site, garbage: bytes) -> None:
    assert answer_to(target, garbage).code == "bad_frame"


def answer_to(site: Site, opening: bytes) -> Error:
    with socket.create_connection(("127.0.0.1", site.port)) as connected:
        channel = Channel(connected, 10)
        channel.send_body(opening)
        channel.flush()
        answer = channel.receive()
        channel.close()
    assert isinstance(answer, Error)
    return answer


@pytest.mark.parametrize("opening", [b"", b"\0\0", b"\0\0\0\x64{"])
def test_half_a_frame_and_then_silence_ends_in_a_timeout(target: Site, opening: bytes) -> None:
    assert answer_to(target, opening).code == "timeout"


def test_an_unknown_key_id_gets_the_answer_of_a_wrong_secret(target: Site) -> None:
    answers = []
    for key, key_id in ((KEY, "nobody"), (derive_key("another secret!!"), "default")):
        connected = socket.create_connection(("127.0.0.1", target.port))
        channel = Channel(connected, 10)
        with pytest.raises(AuthenticationError) as refused:
            prove_to_receiver(channel, key, b"", key_id)
        channel.close()
        answers.append((refused.value.code, refused.value.message))
    assert answers[0] == answers[1]


HEADER = b'{"type":"file","file_name":"bad","file_size":%s,"md5":"%s"%s}'
MD5 = 32 * b"0"
BAD_FRAMES = {
    "unknown type": b'{"type":"gift"}',
    "no type": b'{"file_name":"bad"}',
    "duplicate key": b'{"type":"done","type":"done"}',
    "a receipt": b'{"type":"receipt","file_name":"bad","outcome":"stored"}',
    "a second hello": b'{"type":"hello","version":1,"key_id":"default","nonce":"%s"}' % (2 * MD5),
    "too deep": 30_000 * b"[",
    "a huge number": b'{"type":' + 60_000 * b"9" + b"}",
    "not UTF-8": b'{"type":"\xff"}',
    "negative size": HEADER % (b"-1", MD5, b""),
    "fractional size": HEADER % (b"1.0", MD5, b""),
    "true as size": HEADER % (b"true", MD5, b""),
    "size beyond 63 bits": HEADER % (b"9223372036854775808", MD5, b""),
    "unknown size without length": HEADER % (b"null", MD5, b""),
    "offset beyond the end": HEADER % (b"1", MD5, b',"offset":2'),
    "length beyond the end": HEADER % (b"1", MD5, b',"length":2'),
    "two digests": HEADER % (b"1", MD5, b',"blake3":"%s"' % (2 * MD5)),
    "an upper-case digest": HEADER % (b"1", MD5.replace(b"0", b"A"), b""),
    "a mode with more than permissions": HEADER % (b"1", MD5, b',"mode":32768'),
}


@pytest.mark.parametrize("payload", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_bad_frame_ends_the_session_and_keeps_what_came_before(
    target: Site, payload: bytes
) -> None:
    with HandSender(target) as sender:
        sender.channel.send_body(framed(payload))
        sender.channel.flush()
        assert codes(sender.answers(finish=False)) == [("error", "bad_frame")]
    assert not target.stored("bad").exists()


def test_half_a_body_and_then_silence_stores_nothing(target: Site) -> None:
    with HandSender(target) as sender:
        sender.file("before", b"complete")
        sender.file("silent", bytes(200), file_size=300)
        assert [code for _, code in codes(sender.answers(finish=False))][-1] == "timeout"
    assert not target.stored("silent").exists()
