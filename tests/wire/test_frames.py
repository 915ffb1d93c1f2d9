"""Frames: what was written is what is read, however it arrives; nothing else is accepted."""

import io
import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfer.errors import ProtocolError
from xfer.wire import frames

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=3)


class CutOff(Exception):
    """The stream ended before the frame did."""


def reader(stream: bytes, step: int = frames.MAX_PAYLOAD) -> Callable[[int], bytes]:
    """A `read` over `stream` that gets `step` bytes at a time."""
    source = io.BytesIO(stream)

    def read(length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = source.read(min(step, length - len(data)))
            if not piece:
                raise CutOff
            data += piece
        return data

    return read


def framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


@given(OBJECTS, st.sampled_from([1, 2, 3, 5, frames.MAX_PAYLOAD]))
@settings(deadline=None)
def test_a_frame_survives_however_it_is_cut_into_reads(
    fields: dict[str, object], step: int
) -> None:
    assert frames.decode(frames.read_payload(reader(frames.encode(fields), step))) == fields


@given(OBJECTS, st.binary(max_size=20))
@settings(deadline=None)
def test_what_follows_a_frame_is_left_for_the_next_reader(
    fields: dict[str, object], rest: bytes
) -> None:
    read = reader(frames.encode(fields) + rest)
    assert frames.decode(frames.read_payload(read)) == fields
    assert read(len(rest)) == rest
    with pytest.raises(CutOff):
        read(1)


def test_a_frame_cut_anywhere_is_never_taken_for_a_whole_one() -> None:
    frame = frames.encode({"type": "done", "more": ["ü", 1, None]})
    for cut in range(len(frame)):
        with pytest.raises(CutOff):
            frames.read_payload(reader(frame[:cut]))


@pytest.mark.parametrize("length", [0, 1, frames.MAX_PAYLOAD + 1, 2**31, 2**32 - 1])
def test_a_length_outside_the_limits_is_refused_before_it_is_read(length: int) -> None:
    asked = []

    def read(size: int) -> bytes:
        asked.append(size)
        return struct.pack("!I", length)

    with pytest.raises(ProtocolError):
        frames.read_payload(read)
    assert asked == [4]


@pytest.mark.parametrize("length", [2, frames.MAX_PAYLOAD])
def test_the_smallest_and_the_largest_frame_pass(length: int) -> None:
    payload = b"{" + b" " * (length - 2) + b"}"
    assert frames.decode(frames.read_payload(reader(framed(payload)))) == {}


def test_what_fits_into_no_frame_is_not_sent() -> None:
    room = frames.MAX_PAYLOAD - len('{"a":""}')
    assert len(frames.encode({"a": "x" * room})) == 4 + frames.MAX_PAYLOAD
    with pytest.raises(ProtocolError):
        frames.encode({"a": "x" * (room + 1)})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_frame_is_made_of_what_json_cannot_say(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        frames.encode({"a": number})


REFUSED = {
    "duplicate keys": b'{"a":1,"a":1}',
    "duplicate keys, one escaped": b'{"a":1,"\\u0061":1}',
    "duplicate keys inside": b'{"a":[{"b":1,"b":2}]}',
    "not a number": b'{"a":NaN}',
    "infinity": b'{"a":Infinity}',
    "minus infinity": b'{"a":-Infinity}',
    "a float that overflows": b'{"a":1e999}',
    "a negative float that overflows": b'{"a":-1e999}',
    "an integer of 5000 digits": b'{"a":%s}' % (b"9" * 5000),
    "an integer that fills a frame": b'{"a":%s}' % (b"9" * (frames.MAX_PAYLOAD - 6)),
    "a leading zero": b'{"a":01}',
    "an underscore in a number": b'{"a":1_0}',
    "digits beyond ASCII": '{"a":1٣}'.encode(),
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16, little endian": '{"a":1}'.encode("utf-16-le"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "bytes that are no UTF-8": b'{"a":"\xff"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "an overlong slash": b'{"a":"\xc0\xaf"}',
    "a bare control character": b'{"a":"\n"}',
    "single quotes": b"{'a':1}",
    "a comment": b'{"a":1}//',
    "a trailing comma": b'{"a":1,}',
    "two objects": b"{}{}",
    "a trailing NUL": b"{}\0",
    "only spaces": b"  ",
    "nested arrays": b"[" * frames.MAX_PAYLOAD,
    "nested arrays, closed": b"[" * 32_768 + b"]" * 32_768,
    "nested objects": b'{"a":' * 13_000,
    "a deep value": b'{"a":%s%s}' % (b"[" * 30_000, b"]" * 30_000),
    "an array": b"[{}]",
    "a string": b'"{}"',
    "a number": b"12",
    "null": b"null",
    "true": b"true",
}


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
def test_a_payload_that_is_not_one_strict_object_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        frames.decode(payload)


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None)
def test_any_payload_is_an_object_or_a_protocol_error(payload: bytes) -> None:
    try:
        fields = frames.decode(payload)
    except ProtocolError:
        return
    assert frames.decode(frames.encode(fields)[4:]) == fields


@given(OBJECTS, st.data())
@settings(deadline=None)
def test_a_damaged_frame_is_an_object_or_a_protocol_error(
    fields: dict[str, object], data: st.DataObject
) -> None:
    payload = bytearray(frames.encode(fields)[4:])
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(frames.decode(bytes(payload)), dict)
    except ProtocolError:
        return
