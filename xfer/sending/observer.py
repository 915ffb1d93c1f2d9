"""What a job tells whoever watches it: what is under way, and how each thing ended."""

from collections.abc import Collection

from msgspec import Struct

from xfer.errors import XferError
from xfer.source.tree import Kind
from xfer.wire.keepalive import Progress


class Result(Struct, frozen=True):
    """How one thing that was to be sent ended: with an outcome, or with an error.

    `size` in bytes and `digest` as hex, for files that were stored.
    """

    name: str
    kind: Kind
    size: int = 0
    algorithm: str = ""
    digest: str = ""
    outcome: str = ""
    durable: bool = True
    error: XferError | None = None


def only_error(something_went: bool, errors: Collection[XferError]) -> XferError | None:
    """The one error that a job with `errors` amounts to; None when it went in part."""
    if something_went or len({error.exit_code for error in errors}) != 1:
        return None
    return next(iter(errors))


class Observer:
    """Is told what happens. `waiting` and `finished` come from another thread."""

    def sending(self, name: str) -> None:
        """It is this one's turn."""

    def sent(self, size: int) -> None:
        """So many more bytes have travelled."""

    def resuming(self, name: str, offset: int) -> None:
        """So many bytes of this one are with the receiver already; 0 for none."""

    def skipped(self, size: int) -> None:
        """So many bytes need not travel."""

    def waiting(self, name: str, done: int, size: int) -> None:
        """The receiver is at work on this one, `done` of `size` bytes."""

    def checking(self, progress: Progress) -> None:
        """This side is at work on what the receiver has already, or might have."""

    def pausing(self, error: XferError, seconds: float) -> None:
        """There will be another attempt after so many seconds."""

    def finished(self, result: Result) -> None:
        """This is how it ended."""
