"""One connection, from its first byte to its last: TLS, the opening, a session, the end.

    channel ──► TLS ──► opening (both sides prove their key) ──► admission (a sender's slot)
                                                                    │
            drained, closed ◄── error or `done` ◄── receiving session ◄── store writer
                                                 or an answer (see `requests`) ◄── store reader

The first message after the opening says which it is; whether the key allows it is
checked before anything is looked up. All of it runs in the connection's own thread,
and TLS, the opening and the first message have one deadline together. What goes
wrong is told to the peer in one `error`, and logged; nothing that a peer sends
ends any other connection.
"""

import contextlib
import logging
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from xfer import digests, logs
from xfer.auth.grants import Expired, Grant, Grants
from xfer.auth.identity import Identity
from xfer.auth.opening import admit_sender
from xfer.errors import AuthenticationError, Code, ProtocolError, Refused, XferError
from xfer.logs import Peer
from xfer.names import printable
from xfer.receiving.observer import Callback, OnReceipt
from xfer.receiving.session import Session
from xfer.server import requests, snapshots
from xfer.server.admission import Admission, Connection, ConnectionLimits
from xfer.server.sessions import OpenSessions
from xfer.storage.contract import Store
from xfer.system.stop import Interrupted, StopSignal
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.channel import Channel
from xfer.wire.keepalive import HEARTBEAT_SECONDS
from xfer.wire.messages import Commit, Hello, Message, Welcome

log = logging.getLogger("xfer.receiver")

_TLS_HANDSHAKE: Final = 0x16
"""The first byte of every TLS connection; a frame of ours begins with 0x00."""


class ServerConfig(Struct, frozen=True):
    """What a sender has to meet. `identity` is None for plaintext; `timeout` in seconds.

    `grants` is called for each connection, and returns what each key id opens.
    `on_receipt` is called in the threads of all sessions, see `ReceiptSender`.
    """

    grants: Grants
    identity: Identity | None
    timeout: float
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    on_receipt: OnReceipt | None = None


class ConnectionHandler:
    """Serves connections, each in the thread that calls `serve`.

    Its fields are shared by the threads of all connections, and never change: a
    server that is forked makes another handler. `stop` is set when the receiver
    stops, and `bandwidth` limits what all senders together may send.
    """

    def __init__(
        self,
        store: Store,
        config: ServerConfig,
        admission: Admission,
        stop: StopSignal,
        bandwidth: Bandwidth | None,
    ) -> None:
        self._store = store
        self._config = config
        self._admission = admission
        self._stop = stop
        self._bandwidth = bandwidth
        self._sessions = OpenSessions()

    def serve(self, channel: Channel, connection: Connection, address: str) -> None:
        """Receive what one sender sends, which the log calls `address` until it has proved a key.

        Errors of the peer and of the store end here. What is left is a fault of
        this program: the peer is told so, and it is raised.
        """
        peer = Peer(address)
        try:
            hello, grant = self._open(channel, connection)
            peer = Peer(address, hello.key_id, hello.host)
            first = self._first_message(channel)
            if isinstance(first, requests.Request):
                self._answer(first, channel, peer, grant)
            elif isinstance(first, Commit):
                grant.rights.require_writing()
                snapshots.commit(first, channel, self._store, peer, grant.access)
            else:
                self._receive(first, channel, peer, grant)
                channel.drain()
        except XferError as error:
            ended = logs.about("ended", peer, code=error.code)
            log.warning("%s: %s", peer, printable(error.message), extra=ended)
            if self._can_be_read(error, channel):
                channel.end_with(error)
            else:
                channel.drain()
        except Exception:
            channel.end_with(Refused("an internal error; the receiver's log has it"))
            raise

    def _first_message(self, channel: Channel) -> Message:
        """The one after the opening, whose deadline includes it."""
        try:
            while not channel.wait_for_message(self._stop, HEARTBEAT_SECONDS):
                pass
        except Interrupted:
            raise Refused("the receiver is stopping", code=Code.SHUTTING_DOWN) from None
        first = channel.receive()
        channel.set_deadline(None)
        return first

    def _answer(
        self, request: requests.Request, channel: Channel, peer: Peer, grant: Grant
    ) -> None:
        grant.rights.require_reading()
        with contextlib.closing(self._store.open_reader(grant.access)) as reader:
            requests.answer(request, channel, reader, peer)

    def _receive(self, first: Message, channel: Channel, peer: Peer, grant: Grant) -> None:
        grant.rights.require_writing()
        with contextlib.ExitStack() as opened:
            entry = opened.enter_context(self._sessions.opened(peer, channel))
            writer = self._store.open_writer(peer.key_id, grant.access, entry.take_over, peer.host)
            opened.callback(writer.close)
            on_receipt = self._config.on_receipt
            observer = Callback(on_receipt, peer) if on_receipt else None
            session = Session(channel, writer, self._stop, peer, observer)
            entry.attach(session.holds)
            session.run(first)

    def _open(self, channel: Channel, connection: Connection) -> tuple[Hello, Grant]:
        """What the sender said of itself, and what the key opens that it proved.

        The deadline of the opening still holds then: the session lifts it with
        the first message.
        """
        channel.set_deadline(self._config.limits.opening_seconds)
        identity = self._config.identity
        self._require_kind(channel, identity)
        if identity:
            channel.start_tls(identity.context, server_side=True)
        grants = self._config.grants()
        try:
            hello = admit_sender(
                channel,
                {key_id: grant.keys for key_id, grant in grants.items()},
                identity.binding if identity else b"",
                lambda key_id, mac: self._welcome(grants, key_id, mac),
            )
        except Expired:  # nobody guesses with a right proof
            raise
        except AuthenticationError:
            self._admission.failed_proof(connection)
            raise
        self._admission.proved(connection)
        channel.mark_authenticated(
            min_rate=self._config.limits.min_rate,
            incoming=self._bandwidth,
            outgoing=self._bandwidth,
        )
        return hello, grants[hello.key_id]

    def _welcome(self, grants: Mapping[str, Grant], key_id: str, mac: str) -> Welcome:
        """Expired for a key that has; only the holder of the key is told."""
        grants[key_id].require_valid()
        largest = self._store.limits.max_file_size
        kinds, features = list(digests.available()), requests.FEATURES
        return Welcome(mac, kinds, self._store.durable, largest, features)

    @staticmethod
    def _require_kind(channel: Channel, identity: Identity | None) -> None:
        """Refused or ProtocolError for a sender without TLS where there is TLS, or the reverse."""
        speaks_tls = channel.peek() == _TLS_HANDSHAKE
        if identity and not speaks_tls:
            raise Refused("this receiver speaks TLS only", code=Code.TLS_REQUIRED)
        if speaks_tls and not identity:
            raise ProtocolError("the sender speaks TLS, and this receiver was told not to")

    def _can_be_read(self, error: XferError, channel: Channel) -> bool:
        """Whether the peer understands an `error` frame as things stand.

        Before TLS is up, a plain frame would look like an attack to a sender that
        expects TLS; the one that is told `tls_required` speaks plaintext.
        """
        is_plain = not (self._config.identity and not channel.is_encrypted)
        return is_plain or error.code == Code.TLS_REQUIRED
