"""What a receiver is started with: one struct for the receiver, its workers, check and units."""

from msgspec import Struct

from xfer.auth.grants import Rights
from xfer.config.defaults import DEFAULT_PORT, MAX_CONNECTIONS, MAX_UNAUTHENTICATED
from xfer.server.admission import ConnectionLimits
from xfer.storage.contract import PARTIAL_DAYS, IfExists, Limits


class ReceiverSettings(Struct, frozen=True, kw_only=True):
    """The options of `Receiver`, by the same names and with the same defaults.

    Without `keys` there is one secret, which is in no settings. `workers` is how
    many processes receive; each is a `Receiver` of its own.
    """

    directory: str
    keys: str | None = None
    access: Rights = Rights.WRITE
    bind: str = ""
    port: int = DEFAULT_PORT
    if_exists: IfExists = IfExists.VERSION
    timeout: float = 60.0
    insecure_plaintext: bool = False
    partial_days: float = PARTIAL_DAYS
    fsync: bool = True
    limits: Limits = Limits()
    state_directory: str | None = None
    max_unauthenticated: int = MAX_UNAUTHENTICATED
    max_connections: int = MAX_CONNECTIONS
    min_rate: int = 0
    bwlimit: int = 0
    workers: int = 1

    @property
    def connection_limits(self) -> ConnectionLimits:
        return ConnectionLimits(
            self.max_unauthenticated,
            self.max_connections,
            min_rate=self.min_rate,
            bwlimit=self.bwlimit,
        )
