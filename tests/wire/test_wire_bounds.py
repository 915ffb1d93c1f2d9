"""Every length, count, depth and number from the wire is bounded before it is used.

What is out of bounds ends in `bad_frame` and one line of the log, in no time and no memory.
"""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.fuzzing import framed
from tests.support.processes import HandSender, Site, codes, receiving, wait_until
from xfer.wire.channel import Channel
from xfer.wire.frames import MAX_PAYLOAD
from xfer.wire.messages import Challenge, Message

MD5: Final = 32 * b"0"
_CPU_SECONDS: Final = 0.025
"""For each of them, thread and answer included."""
_GROWTH_KIB: Final = 16 * 1024


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with receiving(tmp_path_factory.mktemp("plain"), "--insecure-plaintext") as site:
        yield site
        assert site.process.poll() is None
    assert "Traceback" not in site.log.text


def filled(begin: bytes, piece: bytes, end: bytes = b"") -> bytes:
    """As many of `piece` as fit into a frame."""
    return begin + piece * ((MAX_PAYLOAD - len(begin) - len(end)) // len(piece)) + end


def file(size: bytes, more: bytes = b"") -> bytes:
    return b'{"type":"file","file_name":"bound","file_size":%s,"md5":"%s"%s}' % (size, MD5, more)


def offer(files: bytes) -> bytes:
    return b'{"type":"offer","files":%s}' % files


MALFORMED: Final = {
    "a frame of opening brackets": filled(b"", b"["),
    "objects in objects": filled(b"", b'{"a":'),
    "depth in an ignored key": filled(b'{"type":"done","x":', b"["),
    "closed depth": b'{"type":"done","x":' + 30_000 * b"[" + 30_000 * b"]" + b"}",
    "a duplicate key": b'{"type":"done","x":1,"x":1}',
    "a duplicate key, one escaped": b'{"type":"done","\\u0074ype":"done"}',
    "a duplicate key in an ignored value": b'{"type":"done","x":[{"a":1,"a":1}]}',
    "UTF-16": '{"type":"done"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"type":"done"}'.encode("utf-16-be"),
    "a surrogate in UTF-8": b'{"type":"done","x":"\xed\xb2\x80"}',
    "a number that fills a frame": filled(b'{"type":"done","x":', b"9", b"}"),
    "a negative one": filled(b'{"type":"done","x":-', b"9", b"}"),
    "1e400 in an ignored key": b'{"type":"done","x":1e400}',
    "an exponent that fills a frame": filled(b'{"type":"done","x":1e', b"9", b"}"),
    "NaN": b'{"type":"done","x":NaN}',
    "an integer of 5,000 digits": file(5000 * b"9"),
    "an integer of 400 digits": file(400 * b"9"),
    "1e400 as a size": file(b"1e400"),
    "1e3 as a size": file(b"1e3"),
    "-0.0 as a size": file(b"-0.0"),
    "-1 as a size": file(b"-1"),
    "false as a size": file(b"false"),
    "text as a size": file(b'"1"'),
    "a list as a size": file(b"[1]"),
    "a fractional offset": file(b"1", b',"offset":1.0'),
    "true as an offset": file(b"1", b',"offset":true'),
    "a length beyond 63 bits": file(b"null", b',"length":9223372036854775808'),
    "an end beyond 63 bits": file(b"null", b',"offset":9223372036854775807,"length":1'),
    "a negative length": file(b"1", b',"length":-1'),
    "a mode beyond permissions": file(b"1", b',"mode":4096'),
    "a time beyond 63 bits": file(b"1", b',"mtime_ns":-9223372036854775808'),
    "more files than an offer has": offer(b"[%s{}]" % (1024 * b"{},")),
    "an offer of numbers": offer(filled(b"[", b"1,", b"1]")[:60_000] + b"1]"),
    "a name that is too long to read": b'{"type":"directory","file_name":"%s"}' % (40_000 * b"x"),
    "a type that fills a frame": filled(b'{"type":"', b"x", b'"}'),
}  # fmt: skip


def consumed(site: Site) -> tuple[float, int]:
    """Processor seconds, and memory in KiB, of the receiver so far."""
    process = Path(f"/proc/{site.process.pid}")
    times = process.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
    resident = re.search(r"VmRSS:\s+(\d+)", process.joinpath("status").read_text())
    assert resident
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), int(resident[1])


def lines(site: Site, port: int) -> list[str]:
    """What the log has of the connection that came from `port`, once there is something."""
    wait_until(lambda: re.search(rf":{port}\b.*\n", site.log.text))
    return re.findall(rf".*:{port}\b.*", site.log.text)


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_out_of_bounds_is_a_bad_frame_and_one_line(plain: Site, payload: bytes) -> None:
    """From a stranger, and from who holds the secret."""
    assert len(payload) <= MAX_PAYLOAD
    for opened in (False, True):
        port, answers = answer_to(plain, payload, opened=opened)
        assert codes(answers) == [("error", "bad_frame")]
        assert len(lines(plain, port)) == 1
    assert not plain.stored("bound").exists()


def answer_to(site: Site, payload: bytes, *, opened: bool) -> tuple[int, list[Message]]:
    """The port it was sent from, and what came back."""
    if opened:
        with HandSender(site) as sender:
            sender.channel.send_body(framed(payload))
            sender.channel.flush()
            return sender.port, sender.answers(finish=False)
    with socket.create_connection(("127.0.0.1", site.port)) as connected:
        port = connected.getsockname()[1]
        channel = Channel(connected, 10)
        channel.send_body(framed(payload))
        channel.flush()
        answer = channel.receive()
        channel.close()
    return port, [answer]


def test_no_bomb_costs_a_receiver_time_or_memory(plain: Site) -> None:
    seconds, resident = consumed(plain)
    for _ in range(5):
        for payload in MALFORMED.values():
            answer_to(plain, payload, opened=False)
    after_seconds, after_resident = consumed(plain)
    assert (after_seconds - seconds) / (5 * len(MALFORMED)) < _CPU_SECONDS
    assert after_resident - resident < _GROWTH_KIB


@pytest.mark.parametrize("length", [0, 1, MAX_PAYLOAD + 1, 2**31, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_anything_of_it_comes(
    plain: Site, length: int
) -> None:
    _, resident = consumed(plain)
    with HandSender(plain) as sender:
        sender.channel.send_body(length.to_bytes(4, "big"))
        sender.channel.flush()
        assert codes(sender.answers(finish=False)) == [("error", "bad_frame")]
    assert consumed(plain)[1] - resident < _GROWTH_KIB


@pytest.mark.parametrize("size", [2**62, 2**63 - 1])
def test_a_promise_of_bytes_takes_no_memory(plain: Site, size: int) -> None:
    """What is said is only a number until it has come."""
    _, resident = consumed(plain)
    with HandSender(plain) as sender:
        sender.say({"type": "file", "file_name": "vast", "file_size": size, "md5": MD5.decode()})
        sender.say({"type": "file", "file_name": "v", "file_size": None, "length": size,
                    "md5": MD5.decode()})  # fmt: skip
    assert consumed(plain)[1] - resident < _GROWTH_KIB
    assert not plain.stored("vast").exists()


def test_minus_zero_is_zero_and_nothing_else(plain: Site) -> None:
    empty = b"d41d8cd98f00b204e9800998ecf8427e"
    header = b'{"type":"file","file_name":"empty","file_size":-0,"md5":"%s"}' % empty
    with HandSender(plain) as sender:
        sender.channel.send_body(framed(header))
        assert codes(sender.answers()) == [("receipt", "stored")]
    assert plain.stored("empty").read_bytes() == b""


@pytest.mark.parametrize("extra", [b"xxxx", b"\0\0\0\0", b"\0\0\0\2[]", b"GET / HTTP/1.1\r\n"])
def test_extra_bytes_after_a_body_are_the_next_frame_and_fail_as_such(
    plain: Site, extra: bytes
) -> None:
    """What came before is whole, and its receipt may be there first."""
    name = f"extra-{extra.hex()}"
    with HandSender(plain) as sender:
        sender.file(name, b"whole")
        sender.channel.send_body(extra)
        sender.channel.flush()
        answers = codes(sender.answers(finish=False))
    assert answers[-1] == ("error", "bad_frame")
    assert wait_until(lambda: plain.stored(name).exists())
    assert plain.stored(name).read_bytes() == b"whole"


def test_surrogates_that_no_name_may_have_are_a_bad_name_and_one_line(plain: Site) -> None:
    for name in (r"\ud800", r"\udfff", r"\udc00", r"a\udcc3\udca9", r"\ud83d"):
        frame = b'{"type":"directory","file_name":"%s"}' % name.encode()
        with HandSender(plain) as sender:
            sender.channel.send_body(framed(frame))
            assert codes(sender.answers()) == [("refusal", "bad_name")]
        (line,) = lines(plain, sender.port)
        assert line.isprintable()


def test_a_key_id_of_surrogates_is_nobodys(plain: Site) -> None:
    hello = b'{"type":"hello","version":1,"key_id":"\\ud800","nonce":"%s"}' % (2 * MD5)
    proof = b'{"type":"proof","mac":"%s"}' % (2 * MD5)
    with socket.create_connection(("127.0.0.1", plain.port)) as connected:
        channel = Channel(connected, 10)
        channel.send_body(framed(hello) + framed(proof))
        channel.flush()
        channel.expect(Challenge)
        answer = channel.receive()
        channel.close()
    assert codes([answer]) == [("error", "auth_failed")]
