"""Send files to a machine of yours: encrypted, verified, never half-written.

receipts = xfer.send(["docs", "a.txt"], "nas", secret=secret)

with xfer.Receiver("/srv/backup", secret=secret) as receiver:
    receiver.serve_forever()
"""

from xfer.api import Receiver, send
from xfer.auth import generate_secret
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
from xfer.sender import Result
from xfer.storage import Limits

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
