"""What was offered or sent and has no answer yet. Both threads of a session use it."""

from msgspec import Struct

from xfer import digests
from xfer.errors import CorruptData, XferError
from xfer.outcomes import Outcome
from xfer.sending.observer import Result, Results
from xfer.source.tree import Entry, Kind
from xfer.wire.keepalive import StallLimit
from xfer.wire.messages import Receipt


class _Expected(Struct):
    """What the receipt for a name has to say."""

    kind: Kind
    content: tuple[int, str, str] = (0, "", "")
    """Size (bytes), algorithm and digest (hex): of a file, once all of it was read. The sending
    thread replaces it whole, since the receiving one may read it at any time."""
    offered: tuple[str, str] = ("", "")
    """Algorithm and digest (hex) that it was offered with: so a skipped one is the same by content,
    and has this digest."""
    differs: bool = False
    """Whether the receiver had other content of that size and time."""

    def matches(self, receipt: Receipt) -> bool:
        if self.kind in (Kind.DIRECTORY, Kind.SYMLINK):
            return True
        size, algorithm, digest = self.content
        acknowledged = (receipt.file_size, getattr(receipt, algorithm or digests.DEFAULT))
        return acknowledged == (size, digest)


class Outstanding:
    """Names that are to be answered. Whatever finishes one tells `results`, once.

    `stall_limit` learns the size of what the receiver may be at work on.
    """

    def __init__(self, results: Results, stall_limit: StallLimit) -> None:
        self._results = results
        self._stall_limit = stall_limit
        self._expected: dict[str, _Expected] = {}
        """By name. The sending thread adds, both remove, and the one that has removed a name tells
        its result. No lock is needed: each change is one operation of a dict whose keys are str,
        which Python does in one piece. (Locks made sending small files 4 % slower.)"""

    def __len__(self) -> int:
        return len(self._expected)

    def __contains__(self, name: object) -> bool:
        return name in self._expected

    # The sending thread

    def add(self, entry: Entry, offered: tuple[str, str] = ("", "")) -> None:
        """Expect an answer. Call this before the message that can be answered is queued."""
        self._stall_limit.expect_size(entry.size)
        self._expected[entry.name] = _Expected(entry.kind, offered=offered)

    def mark_differing(self, name: str) -> None:
        """Note that the receiver had other content, which size and time did not show."""
        if known := self._expected.get(name):
            known.differs = True

    def complete(self, name: str, size: int, algorithm: str, digest: str) -> None:
        """Say what the receipt has to say. Call this before the last part is queued."""
        if known := self._expected.get(name):  # it may have been refused meanwhile
            known.content = (size, algorithm, digest)

    def skip(self, entry: Entry, *, durable: bool) -> None:
        """Finish a file that the receiver has: there will be no receipt."""
        if known := self._expected.pop(entry.name, None):
            algorithm, digest = known.offered
            self._results.finished(
                Result(
                    entry.name,
                    entry.kind,
                    entry.size,
                    algorithm,
                    digest,
                    Outcome.UNCHANGED,
                    durable,
                    by_time=not digest,
                )
            )

    def fail_all(self, error: XferError) -> None:
        """Finish everything with the error that ended the session; nothing more is received."""
        for name in list(self._expected):
            self.fail(name, error, with_session=True)

    # The receiving thread

    def end(self) -> None:
        """The session is over, and nothing more is answered."""
        self._results.ended()

    def confirm(self, receipt: Receipt) -> None:
        """Finish what the receipt is for. CorruptData where it does not match what was sent."""
        name = receipt.file_name
        sent = self._expected.get(name)
        if sent is None or not sent.matches(receipt):
            raise CorruptData("a receipt for something that was not sent")
        if self._expected.pop(name, None):
            self._results.finished(
                Result(
                    name,
                    sent.kind,
                    *sent.content,
                    receipt.outcome,
                    receipt.durable,
                    differed=sent.differs,
                    previous_host=receipt.previous_host,
                )
            )

    # Both

    def fail(self, name: str, error: XferError, *, with_session: bool = False) -> bool:
        """Finish `name` with an error. Returns False where no answer was expected any more."""
        known = self._expected.pop(name, None)
        if known:
            self._results.finished(
                Result(
                    name,
                    known.kind,
                    *known.content,
                    error=error,
                    with_session=with_session,
                    differed=known.differs,
                )
            )
        return known is not None
