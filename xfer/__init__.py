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
    from xfer.auth.secret_files import find_secret
    from xfer.client.progress import SendProgress
    from xfer.client.send import send
    from xfer.errors import (
        AuthenticationError,
        Cancelled,
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
    from xfer.receiving.observer import Received
    from xfer.sending.observer import Observer, Result
    from xfer.server.receiver import Receiver
    from xfer.storage.contract import Limits
    from xfer.wire.cancel import CancelToken

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "CancelToken",
    "Cancelled",
    "ConnectionLost",
    "CorruptData",
    "Incomplete",
    "Limits",
    "LocalError",
    "Observer",
    "PeerTimeout",
    "ProtocolError",
    "Received",
    "Receiver",
    "Refused",
    "Result",
    "SendProgress",
    "UsageError",
    "XferError",
    "find_secret",
    "generate_secret",
    "send",
]

_HOMES = {
    "CancelToken": "wire.cancel",
    "Limits": "storage.contract",
    "Observer": "sending.observer",
    "Received": "receiving.observer",
    "Receiver": "server.receiver",
    "Result": "sending.observer",
    "SendProgress": "client.progress",
    "find_secret": "auth.secret_files",
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
