"""Messages: one frozen dataclass for each, validated when made.

A field of a class is the key of the same name on the wire; a field that holds
its default is left out there. `parse` and `encode` turn payloads into messages
and messages into frames. Which names are safe to store is not decided here,
and what a message leads to is for `sender` and `receiver`.
"""

from typing import Final

from xfer import frames
from xfer.errors import ProtocolError
from xfer.messages.answers import Done, Error, Receipt, Refusal, Working
from xfer.messages.base import Message, Object, keys
from xfer.messages.files import DirectoryHeader, FileHeader, SymlinkHeader
from xfer.messages.offers import Offer, OfferedFile, Plan, PlannedFile
from xfer.messages.opening import VERSION, Challenge, Hello, Proof, Welcome
from xfer.messages.parsing import made
from xfer.messages.validation import MAX_INTEGER

__all__ = [
    "MAX_INTEGER", "VERSION", "Challenge", "DirectoryHeader", "Done", "Error", "FileHeader",
    "Hello", "Message", "Offer", "OfferedFile", "Plan", "PlannedFile", "Proof", "Receipt",
    "Refusal", "SymlinkHeader", "Welcome", "Working", "encode", "parse",
]  # fmt: skip

_CLASSES: Final[dict[str, type[Message]]] = {
    message.type: message
    for message in (
        Hello, Challenge, Proof, Welcome, FileHeader, DirectoryHeader, SymlinkHeader,
        Offer, Plan, Receipt, Refusal, Working, Error, Done,
    )
}  # fmt: skip


def encode(message: Message) -> bytes:
    """The frame for `message`."""
    content = _content(message)
    if isinstance(message, Offer | Plan):
        content["files"] = [_content(file) for file in message.files]
    return frames.encode({"type": message.type, **content})


def parse(payload: bytes) -> Message:
    """The message in a frame's payload.

    Unknown keys are ignored. Raises ProtocolError for an unknown type, a key
    that is missing and a value of the wrong kind.
    """
    content = frames.decode(payload)
    kind = content.pop("type", None)
    message = _CLASSES.get(kind) if isinstance(kind, str) else None
    if message is None:
        raise ProtocolError("a message of unknown type")
    return made(message, content)


def _content(described: Object) -> dict[str, object]:
    return {
        name: value
        for name, default, _ in keys(type(described))
        if (value := getattr(described, name)) != default
    }
