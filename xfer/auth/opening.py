"""The opening: both ends prove that they hold the same secret.

    1. sender    hello      its key id and a nonce
    2. receiver  challenge  a nonce
    3. sender    proof      HMAC under the client key of the transcript T
    4. receiver  welcome    HMAC under the server key of T and the proof

T covers both messages as they travelled and the receiver's certificate, so
a relay that shows another certificate ends up with another T. The keys of
the two directions differ, so no proof can be echoed. The sender proves
first: a receiver gives strangers nothing to try passphrases on. An impostor that
a sender connects to does get a proof, and can try passphrases on it at the price
of one scrypt each; a generated secret cannot be guessed at any price.

Nonces and macs are 32 bytes; both sides compare macs in constant time.
"""

import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from xfer.auth.keys import DEFAULT_KEY_ID, Key
from xfer.errors import AuthenticationError, ProtocolError
from xfer.wire.channel import Channel, expected
from xfer.wire.messages import VERSION, Challenge, Hello, Proof, Welcome, parse

MOST_KEYS: Final = 2
"""Keys of one key id: a new one, and the one that it replaces."""


def prove_to_receiver(
    channel: Channel, key: Key, binding: bytes, key_id: str = DEFAULT_KEY_ID, host: str = ""
) -> Welcome:
    """The sender's end. `binding` is the SHA-256 of the certificate that was shown.

    `host` is what this machine calls itself, empty not to say it.

    Returns the receiver's welcome once its proof was right. AuthenticationError when
    either proof fails, ProtocolError for anything that is no opening.
    """
    hello = channel.send(Hello(VERSION, key_id, secrets.token_hex(32), host))
    channel.flush()
    challenge = channel.receive_payload()
    _require_version(expected(parse(challenge), Challenge).version)
    transcript = transcribe(hello, challenge, binding)
    proof = key.client_proof(transcript)
    channel.send(Proof(proof.hex()))
    channel.flush()
    welcome = channel.expect(Welcome)
    if not _same(welcome.mac, key.server_proof(transcript, proof)):
        raise AuthenticationError("the receiver could not prove that it holds the same secret")
    return welcome


def admit_sender(
    channel: Channel,
    keys: Mapping[str, Sequence[Key]],
    binding: bytes,
    welcome: Callable[[str, str], Welcome],
) -> Hello:
    """The receiver's end. Returns what a sender said of itself whose proof was right.

    `keys` has up to `MOST_KEYS` for each key id. `welcome(key_id, mac)` makes the
    last message; what it raises instead is told to the holder of the key only.

    For any key id, even one that does not exist, `MOST_KEYS` keys are tried, so that
    the time it takes does not tell which key ids there are. AuthenticationError when
    no proof is right.
    """
    hello_payload = channel.receive_payload()
    hello = expected(parse(hello_payload), Hello)
    _require_version(hello.version)
    challenge = channel.send(Challenge(VERSION, secrets.token_hex(32)))
    channel.flush()
    transcript = transcribe(hello_payload, challenge, binding)
    proof = channel.expect(Proof).mac
    tried = [*keys.get(hello.key_id, ()), *MOST_KEYS * [_NOBODYS]][:MOST_KEYS]
    proved = [key for key in tried if _same(proof, key.client_proof(transcript))]
    if not proved:
        raise AuthenticationError("the two sides do not hold the same secret")
    mac = proved[0].server_proof(transcript, bytes.fromhex(proof))
    channel.send(welcome(hello.key_id, mac.hex()))
    channel.flush()
    return hello


def transcribe(hello: bytes, challenge: bytes, binding: bytes) -> bytes:
    """T: the SHA-256 of all that both sides must have seen alike, each with its length."""
    parts = (b"xfer/1", hello, challenge, binding)
    return hashlib.sha256(b"".join(struct.pack("!I", len(p)) + p for p in parts)).digest()


def _require_version(version: int) -> None:
    if version != VERSION:
        raise ProtocolError(f"the other side speaks version {version}, this one {VERSION}")


def _same(shown: str, wanted: bytes) -> bool:
    return hmac.compare_digest(bytes.fromhex(shown), wanted)


_NOBODYS: Final = Key(secrets.token_bytes(32))
"""Tried where a key id has fewer keys than others."""
