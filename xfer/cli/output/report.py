"""What `xfer send` tells its user: a bar, lines of JSON, errors and the summary.

standard output  with --json, one object for each result, then the summary
standard error   a bar if it is a terminal, errors, the summary in words
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xfer.cli.output.console import discard_output, say, write, write_out
from xfer.cli.output.summary import GOT, RESTORED, SENT, Tally, Words
from xfer.config.sizes import in_units
from xfer.errors import XferError
from xfer.names import printable
from xfer.outcomes import Outcome
from xfer.sending.observer import Observer, Result, only_error
from xfer.source.tree import Kind
from xfer.wire.keepalive import Progress
from xfer.wire.messages import ListedSnapshot, SnapshotMade

if TYPE_CHECKING:
    from xfer.cli.output.progress import Bar  # where there is a terminal, `send` loads it

_INCOMPLETE_EXIT: Final = 7
_RETRYABLE: Final = {1: False, 2: False, 3: False, 4: True, 5: True, 130: True}
"""By exit code, where it says by itself whether to try again, as the README's table does."""
_DAY_SECONDS: Final = 24 * 3600
_FAR_SECONDS: Final = 10000 * _DAY_SECONDS
_KEPT_AS: Final = {
    Outcome.VERSIONED: "kept as a version",
    Outcome.STORED: "replaced",
    Outcome.UNCHANGED: "gone meanwhile",
}
"""What became of content that differed, by the outcome of what replaces it."""


class Report(Observer):
    """Shows the progress and the results of one job.

    `bar` is drawn while files are sent, if there is one. With `as_json`,
    results are printed as JSON, each with what is in `about`. `quiet` leaves
    out everything but errors (and JSON). `words` are those for a send, or a get.
    """

    def __init__(
        self,
        *,
        bar: "Bar | None",
        as_json: bool,
        quiet: bool,
        about: Mapping[str, object] = MappingProxyType({}),
        words: Words = SENT,
    ) -> None:
        self._bar = bar
        self._about = about
        self._as_json = as_json
        self._quiet = quiet
        self._began = time.monotonic()
        self._progress_lock = threading.Lock()
        """Guards the bytes sent: sessions tell their progress in several threads."""
        self._sent = 0
        self._paused_for = ""
        """Why the last pause was. Of the thread of the job alone."""
        self._results_lock = threading.Lock()
        """Guards what follows. Another lock, because a reader of standard output that is slow must
        not hold up a session that tells progress."""
        self._words = words
        self._tally = Tally(words)
        self._stdout_error = ""
        self._retryable = False
        """Whether one of the failures may go well the next time."""
        self._errors: dict[int, XferError] = {}
        """The first error of each exit code."""

    # What the job tells

    def sending(self, name: str) -> None:
        if self._bar:
            self._bar.sending(name)

    def sent(self, size: int) -> None:
        with self._progress_lock:
            self._sent += size
        if self._bar:
            self._bar.sent(size)

    def skipped(self, size: int) -> None:
        if self._bar:
            self._bar.skipped(size)

    def resumed(self, name: str, offset: int) -> None:
        super().resumed(name, offset)
        if not (self._quiet or self._as_json):
            self._say(f"{name}: resumed at {in_units(offset)}")

    def waiting(self, name: str, done: int, size: int) -> None:
        if size:
            self._note(f"the receiver is checking ({100 * done // size}%)", name)

    def checking(self, progress: Progress) -> None:
        share = 100 * progress.done // max(progress.size, 1)
        self._note(f"checking ({share}%)", progress.name)

    def pausing(self, error: XferError, seconds: float, until: float) -> None:
        if self._bar:
            self._bar.restart()  # no session runs during a pause
            self._note(f"trying again in {seconds:.0f} s")
            if error.message != self._paused_for:  # once, and not at each attempt
                self._say(f"{error.message}; trying again {_until(until)}")
            self._paused_for = error.message
        elif not self._quiet:
            self._say(f"{error.message}; trying again in {seconds:.1f} s, {_until(until)}")

    def finished(self, result: Result) -> None:
        with self._results_lock:
            self._tally.add(result)
            if self._bar and result.kind in (Kind.FILE, Kind.STREAM):
                self._bar.file_done()
            if result.differed:
                self._say(_difference(result))
            if result.error:
                self._retryable |= result.error.retryable
                self._errors.setdefault(result.error.exit_code, result.error)
                if not result.with_session:  # why the session ended is said once, at the end
                    self._say(f"{result.name}: {result.error.message}")
            elif not self._quiet and (note := result.message or self._about_link(result)):
                self._say(note)
            if self._as_json:
                self._print(_described(result, self._words))

    def chosen(self, snapshots: Sequence[ListedSnapshot]) -> None:
        with self._results_lock:
            self._tally.chosen = [f"{one.job} {one.stamp}" for one in snapshots]
            if not self._quiet:
                self._say(f"as of {', '.join(self._tally.chosen)}")

    def snapshot_made(self, job: str, made: SnapshotMade) -> None:
        with self._results_lock:
            self._tally.set_snapshot(job, made)

    # How it ended

    def finish(self, error: XferError | None, where: str) -> int:
        """Close the bar, say how the job ended at `where`, and return the exit code.

        `error` is what ended the job early, if anything did. Call it when no
        session is left.
        """
        if self._bar:
            self._bar.close()
            self._bar = None
        if error:
            self._say(error.message)
            code = error.exit_code
        else:
            code = self._exit_code()
        if self._as_json:
            self._print(self._summary(error, code))
        elif not self._quiet and self._tally.is_worth_a_line:
            self._write(self._tally.in_words(where, self._sent, self._seconds()))
        if self._stdout_error:
            self._say(self._stdout_error)
        return code or (1 if self._stdout_error else 0)

    def _exit_code(self) -> int:
        if not self._tally.failed:
            return 0
        only = only_error(self._tally.confirmed > 0, self._errors.values())
        return only.exit_code if only else _INCOMPLETE_EXIT

    def _summary(self, error: XferError | None, code: int) -> dict[str, object]:
        ended_by = {"code": error.code, "message": error.message} if error else {}
        return {
            "type": "summary",
            **self._tally.described(),
            "seconds": round(self._seconds(), 3),
            "exit_code": code,
            "retryable": _RETRYABLE.get(code, error.retryable if error else self._retryable),
            **ended_by,
        }

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _print(self, described: dict[str, object]) -> None:
        """Print a line on standard output. Once that fails, the job goes on without it."""
        if self._stdout_error:
            return
        try:
            write_out(json.dumps({**described, **self._about}))
        except (OSError, ValueError) as error:
            self._stdout_error = f"standard output cannot be written: {error}"
            discard_output()

    def _about_link(self, result: Result) -> str:
        """What to say of a symbolic link that the user named: it may be taken for its target."""
        if self._words is GOT or result.kind is not Kind.SYMLINK or "/" in result.name:
            return ""
        return f"{result.name} is a symbolic link, and was sent as one: it was not followed"

    def _note(self, doing: str, name: str = "") -> None:
        if self._bar:
            self._bar.note(doing, name)

    def _say(self, message: str) -> None:
        if self._bar:
            self._bar.say(f"xfer: {printable(message)}")
        else:
            say(message)

    def _write(self, line: str) -> None:
        if self._bar:
            self._bar.say(line)
        else:
            write(line)


def _until(seconds: float) -> str:
    """When it will be so many seconds from now, by the clock of this machine."""
    if seconds > _FAR_SECONDS:
        return "until it is stopped"
    moment = time.localtime(time.time() + seconds)
    day = "" if seconds < _DAY_SECONDS else "%Y-%m-%d "
    return time.strftime(f"until {day}%H:%M:%S", moment)


def _difference(result: Result) -> str:
    because = "it stays" if result.error else f"it was {_KEPT_AS[Outcome(result.outcome)]}"
    return (
        f"{result.name} differed: the receiver had other content of the same size and time; "
        + because
    )


def _described(result: Result, words: Words) -> dict[str, object]:
    described: dict[str, object] = {
        "type": (Kind.FILE if result.kind is Kind.STREAM else result.kind).value,
        "file_name": result.name,
        "outcome": result.outcome or "failed",
    }
    if words is GOT and result.outcome in (Outcome.STORED, Outcome.VERSIONED):
        described["outcome"] = RESTORED
        if result.outcome == Outcome.VERSIONED:
            described["versioned"] = True
    if result.digest:
        described |= {"file_size": result.size, result.algorithm: result.digest}
    if not result.durable:
        described["durable"] = False
    if result.differed:
        described["differed"] = True
    if result.previous_host:
        described["previous_host"] = result.previous_host
    if result.message:
        described["message"] = result.message
    if error := result.error:
        described |= {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
        }
    return described
