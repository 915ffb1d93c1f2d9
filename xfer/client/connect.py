"""From a host name to a channel on which both sides have proved themselves."""

import socket
import time
from typing import Final

from msgspec import Struct

from xfer.auth.identity import certificate_binding, client_context
from xfer.auth.keys import DEFAULT_KEY_ID, Key
from xfer.auth.opening import prove_to_receiver
from xfer.errors import (
    AuthenticationError,
    Code,
    ConnectionLost,
    PeerTimeout,
    ProtocolError,
    Refused,
    XferError,
)
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.channel import Channel

OPENING_SECONDS: Final = 30.0
"""Connecting, TLS and the opening together may take so long."""


class Target(Struct, frozen=True):
    """Where to send, and as whom. `timeout` in seconds; `plaintext` leaves TLS out."""

    host: str
    port: int
    key: Key
    timeout: float = 60.0
    plaintext: bool = False
    key_id: str = DEFAULT_KEY_ID
    bandwidth: Bandwidth | None = None
    """All connections to it share this."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def connect(target: Target, algorithm: str) -> Channel:
    """A channel on which both sides have proved themselves, and agree on a kind of digest.

    Raises ConnectionLost or AuthenticationError; whatever is raised, no file
    name has been sent.
    """
    began = time.monotonic()
    try:
        # A name in ASCII as it is: for text, Python would load the rules of all other names.
        host = target.host.encode("ascii") if target.host.isascii() else target.host
        patience = min(OPENING_SECONDS, target.timeout)
        connected = socket.create_connection((host, target.port), patience)  # type: ignore[arg-type]
    except (socket.gaierror, UnicodeError) as error:
        retryable = isinstance(error, OSError) and error.errno == socket.EAI_AGAIN
        raise ConnectionLost(f"unknown host {target.host}", retryable=retryable) from error
    except OSError as error:
        raise _nobody_answers(target, error) from error
    channel = Channel(connected, target.timeout)
    try:
        channel.set_deadline(OPENING_SECONDS - (time.monotonic() - began))
        _open(channel, target, algorithm)
    except XferError:
        channel.close()
        raise
    return channel


def _open(channel: Channel, target: Target, algorithm: str) -> None:
    certificate = b""
    try:
        if not target.plaintext:
            channel.start_tls(client_context(), server_side=False)
            certificate = channel.peer_certificate()
        binding = certificate_binding(certificate)
        welcome = prove_to_receiver(channel, target.key, binding, target.key_id)
    except ProtocolError as error:
        no_tls = not target.plaintext and not certificate
        hint = "; was it started with --insecure-plaintext?" if no_tls else ""
        raise AuthenticationError(
            f"what answers at {target} does not open like a receiver: {error.message}{hint}"
        ) from error
    if algorithm not in welcome.digests:
        raise Refused(f"the receiver cannot check {algorithm} digests", code=Code.UNSUPPORTED)
    channel.set_deadline(None)
    channel.mark_authenticated(outgoing=target.bandwidth, peer_flushes=welcome.durable)


def _nobody_answers(target: Target, error: OSError) -> ConnectionLost:
    if isinstance(error, ConnectionRefusedError):
        return ConnectionLost(f"no receiver answers at {target}: is `xfer receive` running there?")
    if isinstance(error, TimeoutError):
        return PeerTimeout(f"nothing answers at {target} in time")
    return ConnectionLost(f"cannot connect to {target}: {error.strerror}")
