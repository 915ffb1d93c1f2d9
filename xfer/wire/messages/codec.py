"""From bytes to messages and back.

What is exactly as we would have written it needs no second look: so it is read
by a decoder that knows the messages, in a fraction of the time that strict JSON
takes in Python. Anything else is held to the rules of frames first.
"""

import re
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

AnyMessage = (
    Hello | Challenge | Proof | Welcome | FileHeader | DirectoryHeader | SymlinkHeader
    | Offer | Plan | Receipt | Refusal | Working | Error | Done
)  # fmt: skip
_CLASSES: Final[dict[str, type[Message]]] = {type_of(kind): kind for kind in AnyMessage.__args__}
_LISTED: Final[dict[type[Message], type[Object]]] = {Offer: OfferedFile, Plan: PlannedFile}
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

    Unknown keys are ignored. Raises ProtocolError for an unknown type, a key
    that is missing and a value of the wrong kind.
    """
    try:
        message: Message = _DECODER.decode(payload)
        if _ENCODER.encode(message) == payload:
            return message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _strictly(payload)


def _strictly(payload: bytes) -> Message:
    content = frames.decode(payload)
    kind = content.get("type")
    message = _CLASSES.get(kind) if isinstance(kind, str) else None
    if message is None:
        raise ProtocolError("a message of unknown type")
    known = _known(message, content)
    if message in _LISTED and isinstance(files := known.get("files"), list):
        known["files"] = [_known(_LISTED[message], file) for file in files]
    try:
        return msgspec.convert(known, message)
    except UnicodeError as error:  # a lone surrogate, where only certain words are known
        raise ProtocolError(f"a {kind} message with an unusable word") from error
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a {kind} message {_fault(str(error))}") from error


def _known(kind: type[Object], content: Any) -> Any:
    """What of an object makes a `kind`. Where a key may be left out, null leaves it out, too."""
    if not isinstance(content, dict):
        return content
    return {
        key: content[key]
        for key, is_required in _keys(kind)
        if key in content and (is_required or content[key] is not None)
    }


@cache
def _keys(kind: type[Object]) -> list[tuple[str, bool]]:
    return [(field.name, field.required) for field in msgspec.structs.fields(kind)]


def _fault(reason: str) -> str:
    """Says where, not what is there: that is the other side's, and may be long."""
    where = _WHERE.search(reason)
    return f"with an unusable {where[1]}" if where else "that lacks a key"
