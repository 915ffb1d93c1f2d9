"""The four messages with which both sides prove that they hold the secret, see `auth.opening`."""

from typing import Annotated, Final

from msgspec import Meta

from xfer.wire.messages.base import Message
from xfer.wire.messages.fields import Host, Sha256, Size, Word

VERSION: Final = 1


class Hello(Message, frozen=True, tag="hello"):
    """Sender, first: the id of its key and a fresh nonce (32 bytes, as hex).

    `host` is the name of its machine, empty if it does not say it.
    """

    version: Size
    key_id: Annotated[str, Meta(max_length=255)]
    nonce: Sha256
    host: Host = ""


class Challenge(Message, frozen=True, tag="challenge"):
    """Receiver: a fresh nonce of its own (32 bytes, as hex)."""

    version: Size
    nonce: Sha256


class Proof(Message, frozen=True, tag="proof"):
    """Sender: HMAC-SHA256 over the opening so far (32 bytes, as hex)."""

    mac: Sha256


class Welcome(Message, frozen=True, tag="welcome"):
    """Receiver: its own proof, and what a sender has to know of it.

    The `digests` that it can compute, whether what it stores is flushed
    (`durable`), the largest file that it takes, in bytes, and which requests
    it answers beside sending (`features`).
    """

    mac: Sha256
    digests: list[str]
    durable: bool = True
    max_file_size: Size | None = None
    features: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()
