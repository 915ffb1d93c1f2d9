"""What comes back: receipts, refusals, heartbeats, and how a session ends."""

from xfer.outcomes import Outcome
from xfer.wire.messages.base import Message
from xfer.wire.messages.fields import Blake3, Host, Md5, Size, Text, Word


class Receipt(Message, frozen=True, tag="receipt"):
    """Receiver: what was sent is stored under this name, and on stable storage.

    Size (bytes) and digest are given for files only. `durable` is false where
    the receiver was told not to flush: then it is only stored. `previous_host` is the
    machine that wrote what this replaced, if it is another one.
    """

    file_name: Text
    outcome: Outcome
    file_size: Size | None = None
    md5: Md5 | None = None
    blake3: Blake3 | None = None
    durable: bool = True
    previous_host: Host = ""


class Refusal(Message, frozen=True, tag="refusal"):
    """Receiver: what was sent or offered under this name is not stored; the session goes on."""

    file_name: Text
    code: Word
    message: Text
    retryable: bool


class Error(Message, frozen=True, tag="error"):
    """Either side: the session ends here, for this reason."""

    code: Word
    message: Text
    retryable: bool


class Done(Message, frozen=True, tag="done"):
    """Sender: no more from me. Receiver: every receipt has gone out."""


class Working(Message, frozen=True, tag="working"):
    """Either side, a heartbeat: at work on a file, `done` of `size` bytes.

    It asks for nothing, and keeps the other side from giving up.
    """

    file_name: Text
    done: Size = 0
    size: Size = 0
