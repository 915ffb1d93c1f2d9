"""What a get asked for, and what has come of it so far: over all attempts and connections.

    sessions ── require, received, unchanged, refused, not_sent ──▶ Restored ──▶ Observer

Each name is told once, however often it was tried: a failure that may go well the
next time is kept back until there is no next time.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from xfer.client.completed import CompletedNames
from xfer.errors import (
    Code,
    CorruptData,
    LocalError,
    ProtocolError,
    Refused,
    UsageError,
    XferError,
    from_peer,
)
from xfer.names import check, printable
from xfer.outcomes import Outcome
from xfer.receiving.observer import Received, ReceivingObserver
from xfer.sending.observer import Observer, Result
from xfer.source.tree import Kind
from xfer.wire.messages import ListedSnapshot
from xfer.wire.messages.requests import EVERYTHING

_SENTENCES = {
    Code.EXISTS: "other content is there: --if-exists version keeps that as well, replace gives "
    "it up",
    Code.NO_SPACE: "no space left on this machine's disk",
}
"""What this side refuses, in the words of somebody who gets it and not of one who sent it."""

_MOST_AWAITED: Final = 100_000
"""Names on offer at once. A receiver of ours has a few thousand."""


WOULD: Final = {
    Outcome.STORED: "would_restore",
    Outcome.VERSIONED: "would_version",
    Outcome.UNCHANGED: Outcome.UNCHANGED,
    None: "would_resume",
}
"""The outcome in a dry run, by that of the real one."""
WouldBecome = Callable[[str, int], Outcome | None]
"""Of a name and a size (bytes); None for what would be resumed. Refused for what would be."""


class Asked:
    """The names that are asked for, and what each arrives as: its last component.

    UsageError for names that no receiver can have, and for two that would arrive as one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not names:
            raise UsageError("nothing to get: name what you want, or . for everything")
        self.names = list(dict.fromkeys(map(normalized, names)))
        self._own: dict[str, str] = {}
        for name in self.names:
            own = name.rpartition("/")[2]
            other = self._own.setdefault(own, name)
            if other != name:
                raise UsageError(f"{other} and {name} would both arrive as {own}")
        self._has_all = EVERYTHING in self.names
        if self._has_all and len(self._own) > 1:
            raise UsageError(f"{EVERYTHING} is everything: leave out the other names")

    def covers(self, name: str) -> bool:
        """Whether this name, as it arrives, was asked for, or lies below one that was."""
        return self._has_all or name.partition("/")[0] in self._own

    @property
    def own_names(self) -> frozenset[str]:
        """What has to arrive, or be refused; of everything nothing needs to."""
        return frozenset(() if self._has_all else self._own)

    @property
    def only(self) -> str:
        """What the only name arrives as. UsageError if there are several, or it is everything."""
        if len(self._own) != 1 or self._has_all:
            raise UsageError("one file at a time goes to standard output")
        return next(iter(self._own))


def normalized(name: str) -> str:
    """A name as it travels. UsageError for one that no receiver can have."""
    stripped = name.rstrip("/")
    while stripped.startswith("./"):
        stripped = stripped[2:].lstrip("/")
    if stripped in ("", EVERYTHING) and not name.startswith("/"):
        return EVERYTHING
    try:
        return check(stripped)
    except Refused as error:
        sentence = f"{printable(name)} is no name on a receiver: {error.message}"
        raise UsageError(sentence) from error


class Restored(ReceivingObserver):
    """Receives what the sessions of one job tell; the threads of all connections call it."""

    def __init__(
        self,
        asked: Asked,
        observer: Observer,
        only: str | None = None,
        would_become: WouldBecome | None = None,
    ) -> None:
        """`only` is the one file that is asked for, where nothing else can be taken.

        In a dry run, `would_become` says what would become of a file that is wanted.
        """
        self._would_become = would_become
        self._asked = asked
        self._only = only
        self._observer = observer
        self._lock = threading.Lock()
        """Guards what follows, and is held while the observer is told of a result."""
        self._completed = CompletedNames()
        self._to_retry: dict[str, Result] = {}
        self._chosen: list[ListedSnapshot] = []

        self._awaited: set[str] = set()
        """Names that the receiver has said, or has to say again, and that have not come yet."""
        self._unanswered = set(asked.own_names)
        self.made_progress = False
        self.first_failure: XferError | None = None

    def start_attempt(self) -> None:
        """Call it when no session is open."""
        self.made_progress = False
        self.first_failure = None
        self._awaited = set(self._to_retry)
        self._to_retry.clear()

    def require_all(self) -> None:
        """CorruptData unless all that was asked for, or offered, has come or was refused.

        Call it when the sessions of an attempt have ended well.
        """
        missing = self._unanswered or self._awaited
        if missing:
            raise CorruptData(f"the receiver ended without giving {printable(min(missing))}")

    def tell_failures(self) -> None:
        """There is no other attempt."""
        for result in self._to_retry.values():
            self._observer.finished(result)

    # What sessions tell

    def require(self, name: str) -> None:
        if self._only is not None and name != self._only and self._asked.covers(name):
            raise Refused(
                f"{self._only} is a directory: one file at a time goes to standard output",
                code=Code.BAD_NAME,
            )
        if not self._asked.covers(name):
            raise ProtocolError("the receiver gave a name that was not asked for")
        with self._lock:
            if name not in self._completed and name not in self._to_retry:
                self._awaited.add(name)
            if len(self._awaited) > _MOST_AWAITED:
                raise ProtocolError("the receiver offers more than it gives")
        self._observer.sending(name)

    def wanted(self, name: str, size: int) -> None:
        if self._would_become is None:
            return
        try:
            outcome = WOULD[self._would_become(name, size)]
        except Refused as error:
            self.refused(name, error)
        else:
            self._finish(Result(name, Kind.FILE, size, outcome=outcome))

    def resumed(self, name: str, offset: int) -> None:
        self._observer.resumed(name, offset)

    def arrived(self, size: int) -> None:
        self.made_progress |= size > 0  # any thread sets it, and none clears it meanwhile
        self._observer.sent(size)

    def unchanged(self, name: str, size: int, algorithm: str, digest: str) -> None:
        self._observer.skipped(size)
        outcome = Outcome.UNCHANGED
        self._finish(Result(name, Kind.FILE, size, algorithm, digest, outcome, by_time=not digest))

    def received(self, received: Received) -> None:
        name, kind, outcome = received.name, Kind(received.kind), received.outcome
        size, algorithm, digest = received.size, received.algorithm, received.digest
        said = WOULD[outcome] if self._would_become else outcome
        self._finish(Result(name, kind, size, algorithm, digest, said))

    def refused(self, name: str, error: XferError) -> None:
        self._finish(Result(name, Kind.FILE, error=_own(error)))

    def chosen(self, snapshots: Sequence[ListedSnapshot]) -> None:
        with self._lock:
            if new := [one for one in snapshots if one not in self._chosen]:
                self._chosen.extend(new)
                self._observer.chosen(new)

    def not_sent(self, name: str, error: XferError) -> None:
        self._finish(Result(name, Kind.FILE, error=error))

    def _finish(self, result: Result) -> None:
        with self._lock:
            self._awaited.discard(result.name)
            self._unanswered.discard(result.name)
            if result.error and result.error.retryable:
                self._to_retry[result.name] = result
                self.first_failure = self.first_failure or result.error
                return
            if result.name in self._completed:
                return
            self._completed.add(result.name)
            self.made_progress |= not result.error
            self._observer.finished(result)


def _own(error: XferError) -> XferError:
    """A refusal of this side as what it is to its user: nobody else has refused anything."""
    message, cause = error.message, error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        message = f"cannot be stored here: {cause.strerror}"
    message = _SENTENCES.get(Code(error.code), message)
    if error.code in (Code.NO_SPACE, Code.STORAGE):
        return LocalError(message, code=error.code)
    mine = from_peer(error.code, message, retryable=error.retryable)
    mine.is_from_peer = False
    return mine
