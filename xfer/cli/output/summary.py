"""What happened in a job: results counted, and the summary of them in words and for JSON.

It says "verified" only of what both sides hashed in this run, and "on disk" only
where something was stored in it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from xfer.config.sizes import in_units
from xfer.names import printable
from xfer.outcomes import Outcome
from xfer.sending.observer import SKIPPED, Result
from xfer.source.tree import Kind
from xfer.wire.messages import SnapshotMade

_NOT_DURABLE: Final = (
    "but NOT flushed to disk: the receiver runs with --no-fsync, or on a file system that "
    "promises nothing"
)
RESTORED: Final = "restored"
WOULD: Final = ("would_restore", "would_version", "would_resume")
"""Outcomes in a dry run."""
_FAILED: Final = "failed"
_SAID: Final = (*Outcome, *WOULD, _FAILED)
"""What is counted of each kind, in the order in which it is said."""
_NOUNS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.FILE: ("file", "files"),
    Kind.SYMLINK: ("link", "links"),
    Kind.DIRECTORY: ("directory", "directories"),
}


class Words(Struct, frozen=True):
    """How it is said, which depends on who has stored it: outcomes, and where."""

    outcomes: Mapping[str, str] = {}
    """In place of an outcome's own word."""
    verified: str = "verified and on disk at"
    placed: str = "on disk at"
    not_new: str = "nothing new for"
    not_stored: str = "nothing stored at"


SENT: Final = Words()
GOT: Final = Words(
    {Outcome.STORED: "restored", Outcome.VERSIONED: "restored over older content, which is kept"},
    "verified and on disk in",
    "on disk in",
    "nothing new in",
    "nothing restored in",
)
DRY: Final = Words(
    {
        "would_restore": "would be restored",
        "would_version": "would be restored over older content, which would be kept",
        "would_resume": "would be resumed",
    },
    not_new="nothing changed in",
    not_stored="nothing changed in",
)
STREAMED: Final = Words(
    {Outcome.STORED: "written"}, "verified, on", "on", "nothing for", "nothing whole on"
)


class Tally:
    """Counts results. Not thread-safe: guarded by the lock of the report that has it."""

    def __init__(self, words: Words = SENT) -> None:
        self._words = words
        self._ended = {kind: Counter[str]() for kind in _NOUNS}
        """By kind: how many ended so."""
        self._by_time = self._differed = self._skipped = 0
        self._previous_hosts: Counter[str] = Counter()
        """By machine: how many names it had written last that were replaced."""
        self._bytes = self._stored_bytes = self._verified_bytes = 0
        self._durable = True
        self.chosen: list[str] = []
        """The snapshots that what was got is of, each as its job and stamp."""
        self._snapshot: tuple[str, SnapshotMade] | None = None

    def set_snapshot(self, job: str, made: SnapshotMade) -> None:
        """What all of it has become."""
        self._snapshot = job, made

    def add(self, result: Result) -> None:
        if result.outcome == SKIPPED:
            self._skipped += 1
            return
        kind = Kind.FILE if result.kind is Kind.STREAM else result.kind
        self._ended[kind][result.outcome or _FAILED] += 1
        self._differed += result.differed
        if result.error:
            return
        self._durable &= result.durable
        if result.previous_host:
            self._previous_hosts[result.previous_host] += 1
        self._by_time += result.by_time
        self._bytes += result.size
        if not result.by_time:
            self._verified_bytes += result.size
        if result.outcome != Outcome.UNCHANGED:
            self._stored_bytes += result.size

    @property
    def failed(self) -> int:
        """How many things failed, of any kind."""
        return sum(ended[_FAILED] for ended in self._ended.values())

    @property
    def confirmed(self) -> int:
        """How many things are there, of any kind."""
        return sum(ended.total() for ended in self._ended.values()) - self.failed

    @property
    def is_worth_a_line(self) -> bool:
        """Whether the summary says more than the lines before it: a failure has had one."""
        return bool(self.confirmed or self._skipped or self.failed > 1)

    def described(self) -> dict[str, object]:
        """The counts as the JSON summary has them: of files, but for what failed or was skipped."""
        files = self._ended[Kind.FILE]
        counts = {outcome.value: files[outcome] for outcome in Outcome}
        if self._words is GOT:
            counts = {RESTORED: _stored(files), Outcome.UNCHANGED.value: files[Outcome.UNCHANGED]}
        if self._words is DRY:
            counts = {word: files[word] for word in (*WOULD, Outcome.UNCHANGED.value)}
        return {
            "files": files.total() - files[_FAILED],
            "bytes": self._bytes,
            **counts,
            "differed": self._differed,
            "failed": self.failed,
            "skipped": self._skipped,
            **({"previous_hosts": self._previous_hosts} if self._previous_hosts else {}),
            **self._snapshot_described(),
        }

    def _snapshot_described(self) -> dict[str, object]:
        if not self._snapshot:
            return {"snapshots": self.chosen} if self.chosen else {}
        job, made = self._snapshot
        counts = {"new": made.new, "changed": made.changed, "gone": made.gone}
        return {"job": job, "snapshot": made.stamp, "complete": made.complete, **counts}

    def in_words(self, where: str, sent: int, seconds: float) -> str:
        """The summary of a job that sent so many bytes to `where` in so many seconds."""
        told = [self._of_kind(kind) for kind in _NOUNS if self._is_told(kind)]
        if self._differed:
            told.append(f"{self._differed} differed although size and time agreed")
        for host, count in self._previous_hosts.most_common(3):
            told.append(f"{count} last written by another machine, {printable(host)}")
        if self._skipped:
            told.append(f"{self._skipped} skipped")
        told.append(self._result(where, sent, seconds))
        if self._snapshot:
            told.append(_snapshot_in_words(*self._snapshot))
        return "; ".join(told)

    def _is_told(self, kind: Kind) -> bool:
        """Files are; the rest where it failed, or is all that was stored, or all that there is."""
        ended = self._ended[kind]
        if kind is Kind.FILE or not ended:
            return bool(ended)
        is_all = not self._ended[Kind.FILE]
        return is_all or bool(ended[_FAILED] or (_stored(ended) and not self._stored_files))

    def _of_kind(self, kind: Kind) -> str:
        ended = self._ended[kind]
        counts = [f"{ended[how]} {self._in_word(how)}" for how in _SAID if ended[how]]
        return f"{ended.total()} {_NOUNS[kind][ended.total() != 1]}: {', '.join(counts)}"

    def _in_word(self, how: str) -> str:
        word = self._words.outcomes.get(how, how)
        return word + self._how_known() if how == Outcome.UNCHANGED else word

    def _how_known(self) -> str:
        unchanged = self._ended[Kind.FILE][Outcome.UNCHANGED]
        if not unchanged:
            return ""  # of links and directories
        if not self._by_time:
            return " (by content)"
        count = f"{self._by_time} " if self._by_time < unchanged else ""
        return f" ({count}by size and time)"

    @property
    def _stored_files(self) -> int:
        return _stored(self._ended[Kind.FILE])

    def _result(self, where: str, sent: int, seconds: float) -> str:
        rate = f" ({in_units(sent / max(seconds, 0.001))}/s)" if sent else ""
        if self._stored_files:
            part = f"{in_units(sent)} of " if sent < self._stored_bytes else ""  # it was resumed
            size = f"{part}{in_units(self._stored_bytes)}"
            return f"{size} in {seconds:.1f} s{rate}, {self._place(where)}"
        if any(map(_stored, self._ended.values())):
            return f"{seconds:.1f} s, {self._place(where)}"
        words = self._words
        nothing = f"{words.not_stored if self.failed else words.not_new} {where}"
        unsure = "" if self._durable else f", {_NOT_DURABLE}"
        if self._verified_bytes:
            size = in_units(self._verified_bytes)
            return f"{size} verified in {seconds:.1f} s{rate}, {nothing}{unsure}"
        return f"{nothing} in {seconds:.1f} s{rate}{unsure}"

    def _place(self, where: str) -> str:
        if not self._durable:
            return f"stored at {where}, {_NOT_DURABLE}"
        is_verified = self._stored_files and not self._by_time
        return f"{self._words.verified if is_verified else self._words.placed} {where}"


def _snapshot_in_words(job: str, made: SnapshotMade) -> str:
    state = "" if made.complete else ", held" if made.held else ", incomplete"
    changes = f"{made.new} new, {made.changed} changed, {made.gone} gone"
    return f"snapshot {job} {made.stamp}{state}: {changes}"


def _stored(ended: Counter[str]) -> int:
    return ended[Outcome.STORED] + ended[Outcome.VERSIONED]
