"""Send files to a machine of yours: encrypted, verified, never half-written.

    receipts = xfer.send(["docs", "a.txt"], "nas", secret=secret)

    with xfer.Receiver("/srv/backup", secret=secret) as receiver:
        receiver.serve_forever()

Whatever goes wrong is an `XferError`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xfer.auth.keys import generate_secret
    from xfer.client.send import send
    from xfer.errors import (
        AuthenticationError,
        ConnectionLost,
        CorruptData,
        Incomplete,
        LocalError,
        PeerTimeout,
        ProtocolError,
        Refused,
        UsageError,
        XferError,
    )
    from xfer.sending.observer import Result
    from xfer.server.receiver import Receiver
    from xfer.storage.contract import Limits

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "ConnectionLost",
    "CorruptData",
    "Incomplete",
    "Limits",
    "LocalError",
    "PeerTimeout",
    "ProtocolError",
    "Receiver",
    "Refused",
    "Result",
    "UsageError",
    "XferError",
    "generate_secret",
    "send",
]

_HOMES = {
    "Limits": "storage.contract",
    "Receiver": "server.receiver",
    "Result": "sending.observer",
    "generate_secret": "auth.keys",
    "send": "client.send",
}
"""Where each public name is defined, but for errors."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: a sender needs no store, and starts sooner."""
    if name not in __all__:
        raise AttributeError(f"module 'xfer' has no attribute {name!r}")
    home = importlib.import_module(f"xfer.{_HOMES.get(name, 'errors')}")
    return getattr(home, name)
