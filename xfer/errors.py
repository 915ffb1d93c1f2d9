"""Everything that can go wrong, as one tree.

Each error carries the exit code of the command line, the code word that the
peer is told, and whether the same command run again can help.

    XferError
    ├── LocalError            1  a file cannot be read, a directory not written
    ├── UsageError            2  the command line makes no sense
    ├── AuthenticationError   3  one side could not prove that it holds the secret
    ├── ConnectionLost        4  no connection, or it went away           (retry)
    │   └── PeerTimeout       4  connected, but nothing moved any more    (retry)
    ├── CorruptData           5  what arrived is not what was sent        (retry)
    │   └── ProtocolError     5  what arrived is not this protocol        (retry)
    ├── Refused               6  the receiver will not take this          (depends)
    ├── Incomplete            7  some files went, some did not            (depends)
    ├── Held                  8  a snapshot of which somebody should look at what is gone
    └── Cancelled           130  the user interrupted it                  (retry)
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar, Final


class Code(StrEnum):
    """The words that a refusal or an error carries on the wire."""

    ACCESS = "access"
    AUTH_FAILED = "auth_failed"
    BAD_FRAME = "bad_frame"
    BAD_NAME = "bad_name"
    BAD_PART = "bad_part"
    BUSY = "busy"
    CANCELLED = "cancelled"
    DIGEST_MISMATCH = "digest_mismatch"
    EXISTS = "exists"
    HELD = "held"
    INTERNAL = "internal"
    LINES_LOST = "lines_lost"
    LOCAL = "local"
    LOST = "lost"
    NOT_FOUND = "not_found"
    NO_SPACE = "no_space"
    QUOTA = "quota"
    SHUTTING_DOWN = "shutting_down"
    STORAGE = "storage"
    TIMEOUT = "timeout"
    TLS_REQUIRED = "tls_required"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    USAGE = "usage"


RETRYABLE = frozenset(
    {
        Code.BAD_FRAME,
        Code.BUSY,
        Code.CANCELLED,
        Code.DIGEST_MISMATCH,
        Code.LINES_LOST,
        Code.LOST,
        Code.SHUTTING_DOWN,
        Code.TIMEOUT,
    }
)


class XferError(Exception):
    """Base of every error this package raises on purpose.

    `code` is a word from `Code` (a newer peer may send others), `retryable`
    says whether the same command run again can help, and `is_from_peer` whether the
    other side sent it.
    """

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[Code] = Code.INTERNAL

    def __init__(
        self, message: str, *, code: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.is_from_peer = False
        self.code: str = code or self.default_code
        self.retryable = self.code in RETRYABLE if retryable is None else retryable

    def add(self, sentence: str) -> None:
        """Append a sentence to the message."""
        self.message = f"{self.message}; {sentence}"
        self.args = (self.message,)


class LocalError(XferError):
    default_code = Code.LOCAL


class UsageError(XferError):
    exit_code = 2
    default_code = Code.USAGE


class AuthenticationError(XferError):
    exit_code = 3
    default_code = Code.AUTH_FAILED


class ConnectionLost(XferError):
    exit_code = 4
    default_code = Code.LOST


class PeerTimeout(ConnectionLost):
    default_code = Code.TIMEOUT


class CorruptData(XferError):
    exit_code = 5
    default_code = Code.DIGEST_MISMATCH


class ProtocolError(CorruptData):
    default_code = Code.BAD_FRAME


class Refused(XferError):
    exit_code = 6


class Incomplete(XferError):
    """Some files went and some did not.

    `receipts` and `failures` are `sending.observer.Result`s. Their type is not
    written here: that module imports this one.
    """

    exit_code = 7
    default_code = Code.LOCAL

    def __init__(self, message: str, receipts: Sequence[Any], failures: Sequence[Any]) -> None:
        retryable = any(failure.error.retryable for failure in failures)
        super().__init__(message, retryable=retryable)
        self.receipts = receipts
        self.failures = failures


class Held(XferError):
    exit_code = 8
    default_code = Code.HELD


class Cancelled(XferError):
    exit_code = 130
    default_code = Code.CANCELLED


_BY_CODE: dict[str, type[XferError]] = {
    Code.AUTH_FAILED: AuthenticationError,
    Code.BAD_FRAME: ProtocolError,
    Code.BUSY: ConnectionLost,
    Code.DIGEST_MISMATCH: CorruptData,
    Code.SHUTTING_DOWN: ConnectionLost,
    Code.TIMEOUT: PeerTimeout,
    Code.TLS_REQUIRED: AuthenticationError,
}


_MAX_PEER_MESSAGE: Final = 500
"""Characters that are kept of it: it is logged, and a peer without the secret can send one."""


def from_peer(code: str, message: str, *, retryable: bool) -> XferError:
    """The error that a peer's `refusal` or `error` message stands for.

    Refused for a code word that is not known here, which a later version may send.
    """
    error = _BY_CODE.get(code, Refused)(message[:_MAX_PEER_MESSAGE], code=code, retryable=retryable)
    error.is_from_peer = True
    return error
