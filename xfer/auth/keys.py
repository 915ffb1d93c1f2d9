"""Secrets as people have them, and the keys that both sides make of them."""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

from msgspec import Struct

from xfer.errors import LocalError

DEFAULT_KEY_ID: Final = "default"
MIN_PASSPHRASE: Final = 16
"""Characters."""
_GENERATED: Final = re.compile(r"xfer-key-([A-Za-z0-9_-]{43})")


class Key(Struct, frozen=True):
    """32 bytes that both sides hold. No printed form shows them."""

    secret: bytes

    def __repr__(self) -> str:
        return "Key()"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """For tracebacks by rich: a struct's own would show every field."""
        return []

    def client_proof(self, transcript: bytes) -> bytes:
        """The sender's proof (32 bytes); its key is derived, so that no receiver's can equal it."""
        return _mac(_mac(self.secret, b"xfer/1 client proof"), transcript)

    def server_proof(self, transcript: bytes, client_proof: bytes) -> bytes:
        """The receiver's proof (32 bytes), which covers the sender's."""
        return _mac(_mac(self.secret, b"xfer/1 server proof"), transcript + client_proof)


def generate_secret() -> str:
    """A new secret of 32 random bytes, in the form that people copy."""
    return "xfer-key-" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def derive_key(text: str) -> Key:
    """The key for a secret as it was typed or stored.

    LocalError for a passphrase of less than 16 characters. A passphrase takes scrypt
    (RFC 7914) some 0.1 s and 32 MiB, so a process derives each key once.
    """
    if generated := _GENERATED.fullmatch(text):
        return Key(base64.urlsafe_b64decode(generated[1] + "="))
    if len(text) < MIN_PASSPHRASE:
        raise LocalError(
            f"the secret is too short: at least {MIN_PASSPHRASE} characters, "
            "or let `xfer keygen` make one"
        )
    return Key(
        hashlib.scrypt(
            text.encode("utf-8", "surrogateescape"),
            salt=b"xfer/1 passphrase",
            n=2**15,
            r=8,
            p=1,
            maxmem=2**26,
            dklen=32,
        )
    )


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
