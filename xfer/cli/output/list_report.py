"""What `xfer list` tells its user: a line for each name, errors, and how it ended.

standard output  the lines, in columns or as JSON, then (JSON) the summary
standard error   a bar while nothing else is said, if it is a terminal; errors

    file               12 2026-11-23T03:00:02Z 0644 docs/a.txt

Columns are separated by blanks and hold none, but for the name, which is last.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xfer.cli.output.console import discard_output, is_terminal, say
from xfer.cli.output.report import INCOMPLETE_EXIT, RETRYABLE, at_most_until
from xfer.cli.output.snapshots import as_of, of_snapshot, snapshot_line
from xfer.config.sizes import in_units
from xfer.errors import LocalError, XferError
from xfer.names import printable
from xfer.sending.observer import Observer, only_error
from xfer.source.directory_sizes import Unlisted
from xfer.source.listing import Listed
from xfer.storage.reading import HeldKind, SnapshotInfo
from xfer.wire.messages import ListedSnapshot

if TYPE_CHECKING:
    from xfer.cli.output.progress import Bar  # only where there is a terminal

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTED: Final[Mapping[HeldKind, str]] = MappingProxyType(
    {HeldKind.FILE: "files", HeldKind.DIRECTORY: "directories", HeldKind.SYMLINK: "symlinks"}
)
_UNKNOWN: Final = "-"


class NobodyReads(Exception):
    """Whoever read standard output has seen enough, as `head` has."""


class ListReport(Observer):
    """Prints the lines of one list. Used by one thread."""

    def __init__(self, *, sums_directories: bool, as_json: bool, quiet: bool) -> None:
        """There is a bar while adding up takes long, on a terminal and unless `quiet`."""
        self._as_json = as_json
        self._quiet = quiet
        self._shows_bar = not quiet and is_terminal()
        self._sums_directories = sums_directories
        self._bar: Bar | None = None
        self._began = time.monotonic()
        self._counts = Counter[str]()
        self._bytes = 0
        self._errors: dict[int, XferError] = {}
        """The first of each exit code."""
        self._failed = 0
        self._retryable = False
        if sys.stdout:
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file

    # What the job tells

    def waiting(self, name: str, done: int, size: int) -> None:  # noqa: ARG002 (not known)
        if not self._shows_bar:
            return
        if self._bar is None:
            from xfer.cli.output.progress import Bar  # noqa: PLC0415 (slow to load)

            self._bar = Bar(None, sys.stderr)
        self._bar.note("adding up", f"{name or '.'} ({in_units(done)} so far)")

    def pausing(self, error: XferError, seconds: float, until: float) -> None:
        if not self._quiet:
            when = at_most_until(until)
            self._say(f"{error.message}; trying again in {seconds:.1f} s, {when}")

    def chosen(self, snapshots: Sequence[ListedSnapshot]) -> None:
        if not self._quiet:
            for sentence in as_of(snapshots):
                self._say(sentence)

    def listed(self, line: Listed | SnapshotInfo) -> None:
        """Print it. NobodyReads, or LocalError where it cannot be printed."""
        if isinstance(line, SnapshotInfo):
            self._counts["snapshots"] += 1
            self._print(json.dumps(of_snapshot(line)) if self._as_json else snapshot_line(line))
            return
        self._counts[_COUNTED.get(line.kind, "others")] += 1
        if line.kind is not HeldKind.DIRECTORY or self._sums_directories:
            self._bytes += line.size
        self._print(json.dumps(described(line)) if self._as_json else in_columns(line))

    def unlisted(self, failed: Unlisted) -> None:
        error = failed.error
        self._failed += 1
        self._errors.setdefault(error.exit_code, error)
        self._retryable |= error.retryable
        self._say(error.message if failed.name in error.message else _about(failed))
        if self._as_json:
            about = {"type": "failed", "file_name": failed.name, "code": error.code}
            about |= {"message": error.message}
            self._print(json.dumps({**about, "retryable": error.retryable}))

    # How it ended

    def finish(self, error: XferError | None) -> int:
        """Say what ended it early, if anything did; the exit code."""
        self._close_bar()
        code = error.exit_code if error else self._exit_code()
        if error:
            say(error.message)
        if self._as_json:
            try:
                self._print(json.dumps(self._summary(error, code)))
            except NobodyReads:
                pass
            except LocalError as failed:
                if not error:
                    say(failed.message)
                return code or failed.exit_code
        return code

    def _exit_code(self) -> int:
        if not self._failed:
            return 0
        only = only_error(self._counts.total() > 0, self._errors.values())
        return only.exit_code if only else INCOMPLETE_EXIT

    def _summary(self, error: XferError | None, code: int) -> dict[str, object]:
        ended_by = {"code": error.code, "message": error.message} if error else {}
        others = {"others": self._counts["others"]} if self._counts["others"] else {}
        return {
            "type": "summary",
            **{noun: self._counts[noun] for noun in _COUNTED.values()},
            **others,
            **({"snapshots": self._counts["snapshots"]} if self._counts["snapshots"] else {}),
            "bytes": self._bytes,
            "failed": self._failed,
            "seconds": round(time.monotonic() - self._began, 3),
            "exit_code": code,
            "retryable": RETRYABLE.get(code, error.retryable if error else self._retryable),
            **ended_by,
        }

    def _print(self, line: str) -> None:
        self._close_bar()
        try:
            print(line, flush=True)
        except BrokenPipeError:
            discard_output()
            raise NobodyReads from None
        except (OSError, ValueError) as error:
            discard_output()
            raise LocalError(f"standard output cannot be written: {error}") from error

    def _say(self, message: str) -> None:
        self._close_bar()
        say(message)

    def _close_bar(self) -> None:
        if self._bar:
            self._bar.close()
            self._bar = None


def _about(failed: Unlisted) -> str:
    return f"{failed.name}: {failed.error.message}"


def in_columns(line: Listed) -> str:
    """Kind, size, time, mode, when it was replaced, name."""
    mode = _UNKNOWN if line.mode is None else f"{line.mode:04o}"
    moment = _UNKNOWN if line.mtime_ns is None else _iso(line.mtime_ns)
    replaced = f" {line.replaced}" if line.replaced else ""
    target = f" -> {printable(line.target)}" if line.kind is HeldKind.SYMLINK else ""
    name = printable(line.name)
    return f"{line.kind.value:9} {line.size:14} {moment:20} {mode:>4}{replaced} {name}{target}"


def described(line: Listed) -> dict[str, object]:
    """As an object of JSON has it; what is not known is left out."""
    about: dict[str, object] = {"type": line.kind.value, "file_name": line.name}
    if line.kind in (HeldKind.FILE, HeldKind.DIRECTORY):
        about["file_size"] = line.size
    if line.mtime_ns is not None:
        about |= {"mtime": _iso(line.mtime_ns), "mtime_ns": line.mtime_ns}
    if line.mode is not None:
        about["mode"] = f"{line.mode:04o}"
    if line.kind is HeldKind.SYMLINK:
        about["target"] = line.target
    if line.replaced:
        about["replaced"] = line.replaced
    return about


def _iso(mtime_ns: int) -> str:
    """In UTC, and whole seconds."""
    moment = _EPOCH + timedelta(seconds=mtime_ns // 1_000_000_000)
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
