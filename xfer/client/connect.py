"""From a host name to a channel on which both sides have proved themselves."""

import socket
import time
from typing import Final

from msgspec import Struct

from xfer.auth.identity import certificate_binding, client_context
from xfer.auth.keys import DEFAULT_KEY_ID, Key
from xfer.auth.opening import prove_to_receiver
from xfer.client.dial import dial
from xfer.config.addresses import format_address
from xfer.config.defaults import OPENING_SECONDS
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
from xfer.wire.cancel import CancelToken
from xfer.wire.channel import Channel
from xfer.wire.messages import Welcome

_MAX_HOST: Final = 64
"""Characters of this machine's name that a receiver is told."""


class Target(Struct, frozen=True):
    """The receiver to connect to, and the key to prove.

    `timeout` in seconds, see `Transport`; `plaintext` leaves TLS out.
    """

    host: str
    port: int
    key: Key
    timeout: float = 60.0
    plaintext: bool = False
    key_id: str = DEFAULT_KEY_ID
    bandwidth: Bandwidth | None = None
    """Limits all connections to this target together."""
    cancel: CancelToken | None = None
    """Ends all of them."""

    def __str__(self) -> str:
        return format_address(self.host, self.port)


def connect(target: Target, algorithm: str, feature: str = "") -> Channel:
    """Connect, authenticate both sides, and agree on `algorithm` for digests.

    `feature` is what the receiver must be able to do beside receiving, if anything.
    Raises ConnectionLost where nothing answers (PeerTimeout: in time),
    AuthenticationError where a side cannot prove itself, and Refused where the
    receiver does not know the algorithm or the feature. Whatever is raised, no
    file name has been sent. Cancelled, at any point, by the target's token.
    """
    began = time.monotonic()
    channel = Channel(_connected_socket(target), target.timeout, target.cancel)
    try:
        channel.set_deadline(OPENING_SECONDS - (time.monotonic() - began))
        welcome = _open(channel, target)
        _require(welcome, algorithm, feature)
    except XferError:
        channel.close()
        raise
    return channel


def _connected_socket(target: Target) -> socket.socket:
    try:
        # An ASCII name goes in as bytes: for str, Python loads the IDNA tables, which takes time.
        host = target.host.encode("ascii") if target.host.isascii() else target.host
        seconds = min(OPENING_SECONDS, target.timeout)
        return dial(host, target.port, seconds, target.cancel)
    except (socket.gaierror, UnicodeError) as error:
        retryable = isinstance(error, OSError) and error.errno == socket.EAI_AGAIN
        raise ConnectionLost(f"unknown host {target.host}", retryable=retryable) from error
    except OSError as error:
        raise _not_connected(target, error) from error


def _open(channel: Channel, target: Target) -> Welcome:
    """The TLS handshake, and both proofs."""
    certificate = b""
    try:
        if not target.plaintext:
            channel.start_tls(client_context(), server_side=False)
            certificate = channel.peer_certificate()
        binding = certificate_binding(certificate)
        host = socket.gethostname()[:_MAX_HOST]
        welcome = prove_to_receiver(channel, target.key, binding, target.key_id, host)
    except ProtocolError as error:
        no_tls = not target.plaintext and not certificate
        hint = "; was it started with --insecure-plaintext?" if no_tls else ""
        raise AuthenticationError(
            f"what answers at {target} does not open like a receiver: {error.message}{hint}"
        ) from error
    channel.set_deadline(None)
    channel.mark_authenticated(
        outgoing=target.bandwidth, incoming=target.bandwidth, peer_flushes=welcome.durable
    )
    return welcome


def _require(welcome: Welcome, algorithm: str, feature: str) -> None:
    """Refused for a receiver that cannot do what is wanted of it."""
    if algorithm not in welcome.digests:
        raise Refused(f"the receiver cannot check {algorithm} digests", code=Code.UNSUPPORTED)
    if feature and feature not in welcome.features:
        raise Refused(
            f"the receiver is of an earlier version, which knows no {feature}: update it first",
            code=Code.UNSUPPORTED,
        )


def _not_connected(target: Target, error: OSError) -> ConnectionLost:
    if isinstance(error, ConnectionRefusedError):
        return ConnectionLost(f"no receiver answers at {target}: is `xfer receive` running there?")
    if isinstance(error, TimeoutError):
        return PeerTimeout(f"nothing answers at {target} in time")
    return ConnectionLost(f"cannot connect to {target}: {error.strerror}")
