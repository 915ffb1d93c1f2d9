"""A receiver as a library offers it: a store, keys and a server in one."""

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Self

from msgspec import structs

from xfer.auth.grants import Grant, Grants, Rights
from xfer.auth.identity import load_identity
from xfer.auth.keyring import Keyring
from xfer.auth.keys import DEFAULT_KEY_ID, derive_key
from xfer.config.defaults import DEFAULT_PORT, MAX_CONNECTIONS, MAX_UNAUTHENTICATED
from xfer.config.locations import default_state_directory
from xfer.errors import UsageError
from xfer.receiving.observer import OnReceipt
from xfer.server.admission import ConnectionLimits
from xfer.server.connection import ServerConfig
from xfer.server.listen import listen
from xfer.server.server import Server
from xfer.server.settings import ReceiverSettings
from xfer.storage.contract import PARTIAL_DAYS, Access, IfExists, Limits
from xfer.storage.local.store import LocalStore

if TYPE_CHECKING:
    from xfer.server.shared_admission import SharedAdmission


class Receiver:
    """A receiver into `directory`, which must exist: listens at once, serves on `serve_forever`.

    Senders prove `secret`; or `keys` is a file with a key for each client, read again
    when it changes and by `reload_keys`. UsageError unless there is one of the two.

    access            what `secret` allows: "write", "read", "read-write", "drop"
    bind, port        where to listen; port 0 takes a free one, see `address`
    listening         a socket that listens already, in their place; the receiver closes it
    if_exists         what happens to other content of a name: "version", "refuse", "replace"
    limits            what may be stored; a quota is for `directory`, or each key's part of it
    partial_days      how long what is left of interrupted files is kept
    fsync             False: receipts that a crash may break, and that say so
    state_directory   where the TLS identity is kept, by default the user's own
    insecure_plaintext    True: no TLS
    timeout           seconds in which nothing moves, after which a session ends
    max_unauthenticated   connections at once without a proof
    max_connections   senders at once
    min_rate          bytes a second that bodies have to arrive at, 0 for any rate
    bwlimit           bytes a second that all senders together may send, 0 for no limit
    on_receipt        called with a Received for each thing that was stored, or was there, once
                      its receipt is sent (or its sender gone), in the session's thread, of
                      which there are many; the session waits for it. What it raises is logged.
                      Not called for files that were skipped unread, which have no receipt.

    Leaving the context lets what is arriving finish, for a bounded time. One process,
    with a thread for each sender. LocalError when the directory, the keys, the
    identity or the address can't be used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        secret: str | None = None,
        keys: str | os.PathLike[str] | None = None,
        access: str = Rights.WRITE,
        bind: str = "",
        port: int = DEFAULT_PORT,
        if_exists: str = IfExists.VERSION,
        timeout: float = 60.0,
        insecure_plaintext: bool = False,
        partial_days: float = PARTIAL_DAYS,
        fsync: bool = True,
        limits: Limits | None = None,
        state_directory: str | os.PathLike[str] | None = None,
        max_unauthenticated: int = MAX_UNAUTHENTICATED,
        max_connections: int = MAX_CONNECTIONS,
        min_rate: int = 0,
        bwlimit: int = 0,
        listening: socket.socket | None = None,
        on_receipt: OnReceipt | None = None,
    ) -> None:
        self._keyring = None if keys is None else Keyring(os.fspath(keys))
        grants = _grants(secret, Rights(access), self._keyring)
        identity = None
        if not insecure_plaintext:
            identity = load_identity(os.fspath(state_directory or default_state_directory()))
        with contextlib.ExitStack() as opened:
            store = opened.enter_context(
                LocalStore(
                    os.fspath(directory),
                    IfExists(if_exists),
                    durable=fsync,
                    partial_days=partial_days,
                    limits=limits or Limits(),
                )
            )
            for grant in grants().values():
                store.prepare(grant.access)
            connection_limits = ConnectionLimits(
                max_unauthenticated, max_connections, min_rate=min_rate, bwlimit=bwlimit
            )
            config = ServerConfig(grants, identity, timeout, connection_limits, on_receipt)
            self._server = Server(listening or listen(bind, port), store, config)
            self._store, self._connection_limits = store, connection_limits
            self._shared_admission: SharedAdmission | None = None
            opened.callback(self._server.finish)
            self._opened = opened.pop_all()
        self.leftovers, self.doubt = store.leftovers, store.doubt
        self._serving = threading.Lock()
        """Held by `serve_forever`: the context is left once it has returned."""

    @classmethod
    def from_settings(
        cls, settings: ReceiverSettings, secret: str | None, listening: socket.socket | None
    ) -> Self:
        """One receiver of `settings`, without those that it has workers for."""
        options = structs.asdict(settings)
        del options["workers"]
        return cls(**options, secret=secret, listening=listening)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        with self._serving:
            self._opened.close()

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that it listens on."""
        host, port = self._server.server_address[:2]
        return str(host), port

    def serve_forever(self) -> None:
        """Serve senders, each in a thread of its own, until `stop`. One thread at a time."""
        with self._serving:
            self._server.serve()

    def stop(self) -> None:
        """Accept no more connections. Any thread or signal handler may call it; returns at once."""
        self._server.stop()

    def reload_keys(self) -> None:
        """Read the keys file again, now. A mistake in it is logged, and changes nothing.

        Sessions that are under way go on with the keys they began with.
        """
        if self._keyring:
            self._keyring.reload()

    # For several processes, see `daemon.workers`

    def prepare_fork(self, workers: int) -> None:
        """Make what so many processes share; each is forked after this, and calls `after_fork`.

        UsageError for quotas, which one process would have to count for all, and when
        fewer connections are allowed than there are workers.
        """
        from xfer.server.shared_admission import SharedAdmission  # noqa: PLC0415
        from xfer.wire.bandwidth import SharedBandwidth  # noqa: PLC0415 (only several need these)

        if self._keyring:
            self._keyring.refuse_quotas()
        self._store.prepare_fork(workers)
        self._shared_admission = SharedAdmission(self._connection_limits, workers)
        rate = self._connection_limits.bwlimit
        self._server.prepare_fork(SharedBandwidth(rate) if rate else None)

    def after_fork(self, number: int, predecessor: int | None) -> None:
        """Be worker `number`, in a process that was just forked.

        `predecessor` is the killed process that had the number before, if any: what it
        left is cleaned up. LocalError when that, or using the store, fails.
        """
        if self._shared_admission is None:
            raise RuntimeError("prepare_fork comes first")
        self._store.after_fork(number, predecessor)
        self._server.after_fork(self._shared_admission.admission(number))


def _grants(secret: str | None, rights: Rights, keyring: Keyring | None) -> Grants:
    if keyring and secret is None:
        if rights is not Rights.WRITE:
            raise UsageError("with keys, access is said for each key in their file")
        return keyring.current
    if keyring or secret is None:
        raise UsageError("a receiver takes one secret, or a file of keys")
    access = Access(adds=rights is Rights.DROP)
    grants = {DEFAULT_KEY_ID: Grant((derive_key(secret),), access, rights=rights)}
    return lambda: grants
