"""Frames: a length, then one JSON object. Knows no message and no socket.

frame = struct.pack("!I", n) + n bytes of UTF-8 JSON, 2 <= n <= 65,536
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from xfer.errors import ProtocolError

MAX_PAYLOAD: Final = 65_536
"""Bytes: what a peer can make this side hold before a message is understood."""
_MIN_PAYLOAD = len("{}")
_PREFIX = struct.Struct("!I")

Read = Callable[[int], bytes]
"""Returns exactly as many bytes as asked for, or raises."""


def encode(fields: Mapping[str, object]) -> bytes:
    """The frame that carries `fields`. ProtocolError if they do not fit into one."""
    return framed(_ENCODER.encode(fields).encode("ascii"))


def framed(payload: bytes) -> bytes:
    """The frame with these JSON bytes. ProtocolError if they do not fit into one."""
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"a message of {len(payload)} bytes does not fit into a frame")
    return _PREFIX.pack(len(payload)) + payload


def read_payload(read: Read) -> bytes:
    """The JSON bytes of the next frame, exactly as they travelled.

    The length is checked before anything of that length is read or allocated:
    ProtocolError if it is not allowed, beside what `read` raises.
    """
    (length,) = _PREFIX.unpack(read(_PREFIX.size))
    if not _MIN_PAYLOAD <= length <= MAX_PAYLOAD:
        raise ProtocolError(f"a frame of {length} bytes is outside 2 to {MAX_PAYLOAD}")
    return read(length)


def decode(payload: bytes) -> dict[str, Any]:
    """The object in `payload`, checked against RFC 8259 and the rules of this protocol.

    Raises ProtocolError for anything but one JSON object in UTF-8, without
    duplicate keys, NaN or infinities.
    """
    try:
        value = _DECODER.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a frame that is not plain JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a frame that is not a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} overflows")
    return number


# Made once: with these options, json.dumps and json.loads make a new one for every call.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_float=_finite
)
