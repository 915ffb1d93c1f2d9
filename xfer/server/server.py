"""The receiver's server: one thread that accepts, and a thread for each connection.

    accepting thread:  poll ─► accept ─► admission ─► starts ┐
    connection's own:                                        └► ConnectionHandler.serve ─► leave

The accepting thread sends and receives nothing, so no peer can keep it waiting.
"""

import contextlib
import errno
import logging
import select
import socket
import socketserver
import time
from functools import partial
from typing import Any, Final

from xfer import logs
from xfer.config.addresses import format_address
from xfer.errors import XferError
from xfer.logs import Peer, ThrottledWarning
from xfer.server.admission import Admission, Connection
from xfer.server.connection import ConnectionHandler, ServerConfig
from xfer.storage.contract import Store
from xfer.system import background
from xfer.system.process import give_back_memory
from xfer.system.stop import StopSignal
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.channel import Channel

log = logging.getLogger("xfer.receiver")

STOPPING_SECONDS: Final = 30.0
"""When the receiver stops, files that are arriving have so long to finish."""
_STOPPING_OPENING_SECONDS: Final = 1.0
"""Likewise, connections that are in their opening."""
_ABORTING_SECONDS: Final = 5.0
"""Connections that were aborted have so long to store what had arrived whole."""
_ENDING_SECONDS: Final = 1.0
"""The threads of closed connections may take so long to end, and to free their memory."""
_TIDY_SECONDS: Final = 600.0
"""Between two searches for partials that have expired."""
_BREATH_SECONDS: Final = 0.1
"""Pause after an `accept` that failed for want of something: it would fail again at once."""
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
_CONNECTION_IS_GONE: Final = (
    errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN, errno.EINTR, errno.EPERM,
)  # fmt: skip
"""What `accept` says of a connection that went away meanwhile. Other errors are this side's."""


class Server(socketserver.ThreadingTCPServer):
    """Accepts connections at `listening`, a socket that it owns from here on.

    `serve` runs in one thread, `stop` may be called from any.
    """

    daemon_threads = True
    timeout = 0  # seconds in `handle_request`, which is called once `accept` will not wait

    def __init__(self, listening: socket.socket, store: Store, config: ServerConfig) -> None:
        where = listening.getsockname()
        super().__init__(where, socketserver.BaseRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.server_address = listening, where
        self._store = store
        self._config = config
        self._bandwidth = Bandwidth(config.limits.bwlimit) if config.limits.bwlimit else None
        # Put in by the thread that accepts, taken out by the connection's own: each a single
        # operation on a dict, which the interpreter does in one piece.
        self._admitted: dict[socket.socket, Connection] = {}
        self._dropping = ThrottledWarning(log, "dropped")
        self._running_out = ThrottledWarning(log, "exhausted")
        self._stop_signal = StopSignal()
        self._set_admission(Admission(config.limits))
        background.load()

    def _set_admission(self, admission: Admission) -> None:
        self._admission = admission
        self._handler = ConnectionHandler(
            self._store, self._config, admission, self._stop_signal, self._bandwidth
        )

    def prepare_fork(self, bandwidth: Bandwidth | None) -> None:
        """Be for several processes at one socket, which are forked after this.

        `bandwidth` limits all of them together.
        """
        self._bandwidth = bandwidth
        self.socket.setblocking(False)  # the first that wakes up accepts; the others go on

    def after_fork(self, admission: Admission) -> None:
        """Be one of several processes: its own stop signal, and an `admission` that counts for all.

        Nothing else is shared with the others, but the socket.
        """
        self._stop_signal.close()
        self._stop_signal = StopSignal()
        self._set_admission(admission)

    def serve(self) -> None:
        """Accept connections until `stop`; also remove expired partials now and then."""
        if self._stop_signal.is_set:
            return
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        poller.register(self._stop_signal.descriptor, select.POLLIN)
        tidy_at = time.monotonic() + _TIDY_SECONDS
        while not self._stop_signal.is_set:
            if poller.poll(_TIDY_SECONDS * 1000) and not self._stop_signal.is_set:
                self.handle_request()
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + _TIDY_SECONDS
                self._tidy()

    def _tidy(self) -> None:
        try:
            self._store.tidy()
        except (OSError, XferError) as error:
            log.warning("could not tidy up: %s", error, extra=logs.about("untidy"))

    def stop(self) -> None:
        """Accept no more connections; return at once. Any thread or signal handler may call it."""
        self._stop_signal.set()

    def finish(self, seconds: float = STOPPING_SECONDS) -> None:
        """Let what is arriving finish for `seconds`, then abort it. Call this once, at the end."""
        self._stop_signal.set()
        self._admission.abort_unauthenticated_after(_STOPPING_OPENING_SECONDS)
        self._admission.abort_all_after(seconds, _ABORTING_SECONDS)
        self.server_close()
        self._stop_signal.close()

    # What socketserver calls: the first three in the accepting thread, the others in the
    # connection's own.

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno not in _CONNECTION_IS_GONE:
                self._run_out("file descriptors" if error.errno in _NO_DESCRIPTORS else "memory")
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection is admitted; else it is closed, and gets no thread."""
        try:
            connection = self._admission.admit(str(client_address[0]), partial(_abort, request))
        except Exception:  # socketserver would let it end `serve`, and so the receiver
            log.exception("admission failed", extra=logs.about("internal_error"))
            return False
        if connection is None:
            self._dropping.warn("a connection was dropped: too many without a proof, or wrong ones")
            return False
        self._admitted[request] = connection
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no more threads
            self._admission.leave(self._admitted.pop(request))
            self.shutdown_request(request)
            self._run_out("threads")

    def finish_request(self, request: Any, client_address: Any) -> None:
        connection = self._admitted.pop(request)
        channel = Channel(request, self._config.timeout)
        connection.attach(channel.abort)
        try:
            self._handler.serve(channel, connection, _readable(client_address))
        finally:
            channel.close()
            del channel  # frees its buffers before memory is given back
            connection.detach()
            if self._admission.leave(connection):
                time.sleep(_ENDING_SECONDS)
                give_back_memory()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        peer = Peer(_readable(client_address))
        log.exception("%s: internal error", peer, extra=logs.about("internal_error", peer))

    def _run_out(self, of: str) -> None:
        self._running_out.warn(f"out of {of}, so nobody can connect")
        time.sleep(_BREATH_SECONDS)  # the connection waits in the backlog meanwhile


def _abort(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _readable(address: object) -> str:
    """HOST:PORT of a peer. IPv4 addresses that come in over an IPv6 socket are shown as IPv4."""
    if not isinstance(address, tuple):
        return str(address)
    return format_address(str(address[0]).removeprefix("::ffff:"), address[1])
