"""The receiver's server: accepts connections, opens them, hands them to sessions."""

import contextlib
import errno
import logging
import select
import socket
import socketserver
import time
from functools import partial
from typing import Any, Final

from msgspec import Struct, field

from xfer import digests, logs
from xfer.auth.grants import Expired, Grant, Grants
from xfer.auth.identity import Identity
from xfer.auth.opening import admit_sender
from xfer.errors import AuthenticationError, Code, ProtocolError, Refused, XferError
from xfer.logs import Peer, ThrottledWarning
from xfer.names import printable
from xfer.receiving.session import Session
from xfer.server.admission import Admission, Connection, ConnectionLimits
from xfer.storage.contract import Store
from xfer.system.process import give_back_memory
from xfer.system.stop import StopSignal
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.channel import Channel
from xfer.wire.messages import Welcome

log = logging.getLogger("xfer.receiver")

STOPPING_SECONDS: Final = 30.0
"""What is arriving when the receiver stops may take so long to finish."""
_GREETING_SECONDS: Final = 1.0
_CUTTING_SECONDS: Final = 5.0
_ENDING_SECONDS: Final = 1.0
"""The threads of those who have just left may take so long to end, and to free what they had."""
_TIDY_SECONDS: Final = 600.0
_TLS_HANDSHAKE: Final = 0x16
_BREATH_SECONDS: Final = 0.1
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
_ITS_OWN_FAULT: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN, errno.EINTR, errno.EPERM)
"""Errors of `accept` that the connection has gone away with. The others are this side's."""
_UNAUTHENTICATED_DRAIN_BYTES: Final = 1024 * 1024


class ServerConfig(Struct, frozen=True):
    """What a sender has to meet. `identity` is None for plaintext; `timeout` in seconds.

    `grants` is asked at each connection for what the key ids open.
    """

    grants: Grants
    identity: Identity | None
    timeout: float
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection to `listening`, a socket that it owns from here on."""

    daemon_threads = True
    timeout = 0  # of `handle_request`, which is called when somebody is there

    def __init__(self, listening: socket.socket, store: Store, config: ServerConfig) -> None:
        where = listening.getsockname()
        super().__init__(where, socketserver.BaseRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.server_address = listening, where
        self.store = store
        self.config = config
        self.stop_signal = StopSignal()
        self._admission = Admission(config.limits)
        self.bandwidth = Bandwidth(config.limits.bwlimit) if config.limits.bwlimit else None
        self._admitted: dict[socket.socket, Connection] = {}
        self._dropping = ThrottledWarning(log, "dropped")
        self._running_out = ThrottledWarning(log, "exhausted")

    def after_fork(self, admission: Admission) -> None:
        """Be one of several processes at one socket, after a fork: nothing else is shared.

        `admission` may keep count of who is in with the others.
        """
        self.stop_signal.close()
        self.stop_signal = StopSignal()
        self._admission = admission

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
            log.warning("could not remove old partials: %s", error, extra=logs.about("untidy"))

    def stop(self) -> None:
        """Accept nobody any more; return at once. Call it from any thread or signal handler."""
        self.stop_signal.set()

    def finish(self, seconds: float = STOPPING_SECONDS) -> None:
        """Let what is arriving finish for so long, then cut it off. Call it once, at the end."""
        self.stop_signal.set()
        self._admission.abort_unauthenticated_after(_GREETING_SECONDS)
        self._admission.abort_all_after(seconds, _CUTTING_SECONDS)
        self.server_close()
        self.stop_signal.close()

    # socketserver

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno not in _ITS_OWN_FAULT:
                self._run_out("file descriptors" if error.errno in _NO_DESCRIPTORS else "memory")
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Called for each connection before it has a thread; False closes it."""
        connection = self._admission.admit(str(client_address[0]), partial(_abort, request))
        if connection is None:
            self._dropping.warn("a connection was dropped: too many without a proof, or wrong ones")
            return False
        self._admitted[request] = connection
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system gives us no more threads
            self._admission.leave(self._admitted.pop(request))
            self.shutdown_request(request)
            self._run_out("threads")

    def finish_request(self, request: Any, client_address: Any) -> None:
        connection = self._admitted.pop(request)
        channel = Channel(request, self.config.timeout)
        connection.abort = channel.abort
        try:
            self._converse(channel, connection, _readable(client_address))
        finally:
            channel.close()
            del channel
            connection.abort = _nothing
            if self._admission.leave(connection):
                time.sleep(_ENDING_SECONDS)
                give_back_memory()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        peer = Peer(_readable(client_address))
        log.exception("%s: internal error", peer, extra=logs.about("internal_error", peer))

    def _run_out(self, of: str) -> None:
        self._running_out.warn(f"out of {of}, so nobody can connect")
        time.sleep(_BREATH_SECONDS)  # the connection stays there to be accepted

    # One connection

    def _converse(self, channel: Channel, connection: Connection, address: str) -> None:
        peer = Peer(address)
        try:
            key_id, grant = self._open(channel, connection)
            peer = Peer(address, key_id)
            with contextlib.closing(self.store.open_writer(key_id, grant.access)) as writer:
                Session(channel, writer, self.stop_signal, peer).run()
            channel.drain()
        except XferError as error:
            ended = logs.about("ended", peer, code=error.code)
            log.warning("%s: %s", peer, printable(error.message), extra=ended)
            if self.config.identity and not channel.is_encrypted and not _is_plain(error):
                channel.drain()  # a plain word would look like an attack to who expects TLS
            else:
                channel.end_with(error)
        except Exception:
            channel.end_with(Refused("an internal error; the receiver's log has it"))
            raise

    def _open(self, channel: Channel, connection: Connection) -> tuple[str, Grant]:
        """What a sender that proved itself may do; its first message is still to come in time."""
        channel.set_deadline(self.config.limits.opening_seconds)
        channel.most_to_drain = _UNAUTHENTICATED_DRAIN_BYTES
        speaks_tls = channel.peek() == _TLS_HANDSHAKE
        identity = self.config.identity
        if identity and not speaks_tls:
            raise Refused("this receiver speaks TLS only", code=Code.TLS_REQUIRED)
        if speaks_tls and not identity:
            raise ProtocolError("the sender speaks TLS, and this receiver was told not to")
        if identity:
            channel.start_tls(identity.context, server_side=True)
        binding = identity.binding if identity else b""
        grants = self.config.grants()
        keys = {key_id: grant.keys for key_id, grant in grants.items()}

        def welcome(key_id: str, mac: str) -> Welcome:
            grants[key_id].require_valid()
            most = self.store.limits.max_file_size
            return Welcome(mac, list(digests.available()), self.store.durable, most)

        try:
            key_id = admit_sender(channel, keys, binding, welcome)
        except Expired:  # nobody guesses with a right proof
            raise
        except AuthenticationError:
            self._admission.failed_proof(connection)
            raise
        self._admission.proved(connection)
        channel.mark_authenticated(self.config.limits.min_rate)
        channel.limit(incoming=self.bandwidth)
        return key_id, grants[key_id]


def _abort(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _nothing() -> None:
    """What cuts off who has gone already: the channel need not be kept for it."""


def _is_plain(error: XferError) -> bool:
    """Whether it is about a sender that speaks plaintext, and so can read it."""
    return error.code == Code.TLS_REQUIRED


def _readable(address: object) -> str:
    """host:port of a client; IPv4 ones as such, although they come in over IPv6."""
    if not isinstance(address, tuple):
        return str(address)
    host = str(address[0]).removeprefix("::ffff:")
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
