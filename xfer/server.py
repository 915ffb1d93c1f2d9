"""The receiver's server: accepts connections, opens them, hands them to sessions."""

import contextlib
import errno
import logging
import select
import socket
import socketserver
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from xfer import auth, digests
from xfer.channel import Channel
from xfer.errors import Code, LocalError, ProtocolError, Refused, XferError
from xfer.keyring import Grant, Grants
from xfer.messages import Welcome
from xfer.names import printable
from xfer.receiver import Session
from xfer.storage import Store
from xfer.tls import Identity
from xfer.transport import StopSignal

log = logging.getLogger("xfer.receiver")

OPENING_SECONDS: Final = 30.0
"""TLS and the opening together may take so long."""
STOPPING_SECONDS: Final = 30.0
"""What is arriving when the receiver stops may take so long to finish."""
_GREETING_SECONDS: Final = 1.0
_CUTTING_SECONDS: Final = 5.0
_TIDY_SECONDS: Final = 600.0
_TLS_HANDSHAKE: Final = 0x16
_BREATH_SECONDS: Final = 0.1
_ANY: Final = ("::", "0.0.0.0")  # noqa: S104 (a receiver is there to be reached)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a sender has to meet. `identity` is None for plaintext; `timeout` in seconds.

    `grants` is asked at each connection for what the key ids open.
    """

    grants: Grants
    identity: Identity | None
    timeout: float


class Server(socketserver.ThreadingTCPServer):
    """A listening socket and a thread for each connection.

    `bind` is an address or a host name; empty means all addresses, of both
    families where the system has both. LocalError when it can't be had.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    timeout = 0  # of `handle_request`, which is called when somebody is there

    def __init__(self, bind: str, port: int, store: Store, terms: Terms) -> None:
        self.store = store
        self.terms = terms
        self.stop_signal = StopSignal()
        self._channels: set[Channel] = set()
        self._opening: set[Channel] = set()
        self._changed = threading.Condition()
        try:
            self._listen(bind, port)
        except OSError as error:
            self.stop_signal.close()
            where = f"{bind or 'any address'}, port {port}"
            raise LocalError(f"cannot listen on {where}: {error.strerror}") from error

    def serve(self) -> None:
        """Answer senders, each in a thread of its own, until `stop`."""
        if self.stop_signal.is_set:
            return
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        poller.register(self.stop_signal.descriptor, select.POLLIN)
        tidy_at = time.monotonic() + _TIDY_SECONDS
        while not self.stop_signal.is_set:
            if poller.poll(_TIDY_SECONDS * 1000) and not self.stop_signal.is_set:
                self.handle_request()
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + _TIDY_SECONDS
                self._tidy()

    def _tidy(self) -> None:
        try:
            self.store.tidy()
        except OSError as error:
            log.warning("could not remove old partials: %s", error)

    def stop(self) -> None:
        """Accept nobody any more; return at once. Call it from any thread or signal handler."""
        self.stop_signal.set()

    def finish(self, seconds: float = STOPPING_SECONDS) -> None:
        """Let what is arriving finish for so long, then cut it off. Call it once, at the end."""
        self.stop_signal.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._opening, _GREETING_SECONDS)
            for channel in self._opening:
                channel.abort()  # a stranger is not waited for
            if not self._changed.wait_for(lambda: not self._channels, seconds):
                for channel in self._channels:
                    channel.abort()
                self._changed.wait_for(lambda: not self._channels, _CUTTING_SECONDS)
        self.server_close()
        self.stop_signal.close()

    # socketserver

    def server_bind(self) -> None:
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        try:
            connected, address = super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log.warning("out of file descriptors, so nobody can connect")
                time.sleep(_BREATH_SECONDS)  # the connection stays there to be accepted
            raise
        return connected, address

    def finish_request(self, request: Any, client_address: object) -> None:
        channel = Channel(request, self.terms.timeout)
        with self._changed:
            self._channels.add(channel)
            self._opening.add(channel)
        try:
            self._converse(channel, _readable(client_address))
        finally:
            channel.close()
            with self._changed:
                self._channels.remove(channel)
                self._opening.discard(channel)
                self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        log.exception("%s: internal error", _readable(client_address))

    # One connection

    def _converse(self, channel: Channel, peer: str) -> None:
        label = peer
        try:
            key_id, grant = self._open(channel)
            label = f"{peer} {printable(key_id)}"
            intake = self.store.open_intake(key_id, grant.access)
            with contextlib.closing(intake):
                Session(channel, intake, self.stop_signal, label).run()
            channel.drain()
        except XferError as error:
            log.warning("%s: %s", label, printable(error.message))
            if self.terms.identity and not channel.is_encrypted and not _is_plain(error):
                channel.drain()  # a plain word would look like an attack to who expects TLS
            else:
                channel.end_with(error)
        except Exception:
            channel.end_with(Refused("an internal error; the receiver's log has it"))
            raise

    def _open(self, channel: Channel) -> tuple[str, Grant]:
        channel.must_end_within(OPENING_SECONDS)
        speaks_tls = channel.peek() == _TLS_HANDSHAKE
        identity = self.terms.identity
        if identity and not speaks_tls:
            raise Refused("this receiver speaks TLS only", code=Code.TLS_REQUIRED)
        if speaks_tls and not identity:
            raise ProtocolError("the sender speaks TLS, and this receiver was told not to")
        if identity:
            channel.start_tls(identity.context, server_side=True)
        binding = identity.binding if identity else b""
        grants = self.terms.grants()
        keys = {key_id: grant.keys for key_id, grant in grants.items()}

        def welcome(key_id: str, mac: str) -> Welcome:
            grants[key_id].require_valid()
            most = self.store.limits.max_file_size
            return Welcome(mac, list(digests.available()), self.store.durable, most)

        key_id = auth.admit_sender(channel, keys, binding, welcome)
        channel.must_end_within(None)
        channel.expect_much()
        with self._changed:
            self._opening.discard(channel)
            self._changed.notify_all()
        return key_id, grants[key_id]

    def _listen(self, bind: str, port: int) -> None:
        for address in [bind] if bind else _ANY:
            try:
                found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
                self.address_family, *_, server_address = found[0]
                numeric = str(server_address[0])
                super().__init__((numeric, port), socketserver.BaseRequestHandler)
            except UnicodeError as error:
                raise LocalError(f"cannot listen on {bind}: no such host") from error
            except OSError as error:
                no_ipv6 = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                if not no_ipv6 or address == ([bind] if bind else _ANY)[-1]:
                    raise
            else:
                return


def _is_plain(error: XferError) -> bool:
    """Whether it is about a sender that speaks plaintext, and so can read it."""
    return error.code == Code.TLS_REQUIRED


def _readable(address: object) -> str:
    """host:port of a client; IPv4 ones as such, although they come in over IPv6."""
    if not isinstance(address, tuple):
        return str(address)
    host = str(address[0]).removeprefix("::ffff:")
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
