"""From the payloads of frames to messages and back.

    parse:  msgspec decodes; encodes again to the same bytes?  -yes-> the message
                             no, or it cannot decode           -no--> parsed strictly

msgspec lets pass what this protocol forbids, duplicate keys for example, and
bad values in keys that it skips. Encoding the message again shows whether there
was any of that: a message has one encoding here, so if the bytes are the same,
they held nothing else. What this program sends passes that test, and the two
steps take about a quarter of the time that a strict parser takes in Python.
What others send may not pass, with a blank between two keys or a key of a later
version: it is parsed strictly, which takes longer and gives the same message.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from xfer.errors import ProtocolError
from xfer.wire import frames
from xfer.wire.messages.base import Message, Object, type_of
from xfer.wire.messages.files import DirectoryHeader, FileHeader, SymlinkHeader
from xfer.wire.messages.offers import Offer, OfferedFile, Plan, PlannedFile
from xfer.wire.messages.opening import Challenge, Hello, Proof, Welcome
from xfer.wire.messages.replies import Done, Error, Receipt, Refusal, Working
from xfer.wire.messages.requests import Get, List, ListedName, ListedSnapshot, Listing
from xfer.wire.messages.snapshots import Commit, Run, SnapshotMade

AnyMessage = (
    Hello | Challenge | Proof | Welcome | FileHeader | DirectoryHeader | SymlinkHeader
    | Offer | Plan | Receipt | Refusal | Working | Error | Done | Get | List | Listing
    | Run | Commit | SnapshotMade
)  # fmt: skip
_CLASSES: Final[dict[str, type[Message]]] = {type_of(kind): kind for kind in AnyMessage.__args__}
"""By the value of the key `type`."""
_LISTED: Final[dict[type[Message], Mapping[str, type[Object]]]] = {
    Offer: {"files": OfferedFile},
    Plan: {"files": PlannedFile},
    Listing: {"files": ListedName, "snapshots": ListedSnapshot},
}
"""What the objects in the lists of a message are, by the list's key."""
_DECODER: Final = msgspec.json.Decoder(AnyMessage)
_ENCODER: Final = msgspec.json.Encoder()
_WHERE: Final = re.compile(r"- at `\$\.([^`]+)`$")


def encode(message: Message) -> bytes:
    """The frame for `message`. ProtocolError if it does not fit into one."""
    try:
        return frames.framed(_ENCODER.encode(message))
    except UnicodeEncodeError:  # a lone surrogate, for which JSON has an escape
        return frames.encode(msgspec.to_builtins(message))


def parse(payload: bytes) -> Message:
    """The message in a frame's payload.

    Unknown keys are ignored: later versions may add some. Raises ProtocolError
    for an unknown type, a key that is missing and a value of the wrong kind.
    """
    try:
        message: Message = _DECODER.decode(payload)
        if _ENCODER.encode(message) == payload:  # so it is strict JSON, see above
            return message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _parse_strictly(payload)


def _parse_strictly(payload: bytes) -> Message:
    content = frames.decode(payload)
    kind = content.get("type")
    message = _CLASSES.get(kind) if isinstance(kind, str) else None
    if message is None:
        raise ProtocolError("a message of unknown type")
    known = _known(message, content)
    for key, kind_of_item in _LISTED.get(message, {}).items():
        if isinstance(items := known.get(key), list):
            known[key] = [_known(kind_of_item, item) for item in items]
    try:
        return msgspec.convert(known, message)
    except UnicodeError as error:  # a lone surrogate, where only certain words are known
        raise ProtocolError(f"a {kind} message with an unusable word") from error
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a {kind} message {_fault(str(error))}") from error


def _known(kind: type[Object], content: Any) -> Any:
    """The keys of an object that a `kind` has. A null is as if an optional key were left out."""
    if not isinstance(content, dict):
        return content
    return {
        key: content[key]
        for key, is_required in _keys(kind)
        if key in content and (is_required or content[key] is not None)
    }


@cache
def _keys(kind: type[Object]) -> list[tuple[str, bool]]:
    """The keys that a `kind` has, each with whether it has to be there."""
    return [(field.name, field.required) for field in msgspec.structs.fields(kind)]


def _fault(reason: str) -> str:
    """Which key is at fault, of what msgspec says. Its value is left out: it may be long."""
    where = _WHERE.search(reason)
    return f"with an unusable {where[1]}" if where else "that lacks a key"
