"""A manifest in the making: the lines of a run, completed and compared with the snapshot before.

run's lines ──┐
              ├─ paired by name ─> digest, if it lacks one ─> line of the new manifest
manifest ─────┘                 └> name that is gone
before
"""

import io
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from xfer.storage.snapshots.comparing import Changes, paired
from xfer.storage.snapshots.digesting import Digester
from xfer.storage.snapshots.gone import GoneNames
from xfer.storage.snapshots.hashing import Pulse
from xfer.storage.snapshots.lines import FailedLine, FileLine, Footer, Header, Line, NameLine
from xfer.storage.snapshots.manifest import ManifestWriter
from xfer.storage.snapshots.tally import Tally

MOST_NAMED: Final = 100
"""Failures of a run that its client is told of; the manifest has them all."""
_MANY: Final = 100
"""Names that vanish or change without anybody having to look."""
_PULSE_EVERY: Final = 256
"""Names."""


class Rules(Struct, frozen=True, kw_only=True):
    """What decides whether a run is a complete snapshot, and what happens to gone names.

    `failed` names its client could not send; `complete` is False if it knows of more.
    `gone_to_versions` moves names that are gone to the versions, `may_hold` keeps that from
    happening when much is gone at once, and holds the snapshot back instead.
    """

    failed: int = 0
    complete: bool = True
    gone_to_versions: bool = False
    may_hold: bool = True


class Draft:
    """Writes the lines into an open file, and knows their counts. Used by one thread."""

    def __init__(
        self, file: io.BufferedIOBase, header: Header, digester: Digester, gone: GoneNames | None
    ) -> None:
        self._writer = ManifestWriter(file, header)
        self._digester = digester
        self._gone = gone
        self._tally = Tally()
        self._changes = Changes()
        self.failures: list[FailedLine] = []

    @property
    def lines(self) -> int:
        """Names that the run had, those that failed among them."""
        return self._tally.names + self._tally.failed

    def write(self, lines: Iterable[NameLine], before: Iterable[Line], pulse: Pulse) -> None:
        """All lines of the run. OSError; DamagedManifest of the one before."""
        for number, (line, older) in enumerate(paired(lines, before)):
            if number % _PULSE_EVERY == 0:
                pulse()
            if isinstance(line, FileLine):
                line = self._digester.completed(line, older)  # noqa: PLW2901
            self._changes.add(line, older)
            if line:
                self._add(line)
            elif older and self._gone:
                self._gone.add(older)

    def _add(self, line: Line) -> None:
        self._writer.add(line)
        self._tally.add(line)
        if isinstance(line, FailedLine) and len(self.failures) < MOST_NAMED:
            self.failures.append(line)

    def end(self, rules: Rules) -> Footer:
        """Write the footer, and return it."""
        failed = self._tally.failed + rules.failed
        is_whole = rules.complete and not failed
        held = is_whole and rules.gone_to_versions and rules.may_hold and self._is_much_gone()
        counted, changes = self._tally, self._changes
        footer = Footer(
            names=counted.names,
            files=counted.files,
            directories=counted.directories,
            links=counted.links,
            bytes=counted.bytes,
            new=changes.new,
            changed=changes.changed,
            unchanged=changes.unchanged,
            gone=changes.gone,
            failed=failed,
            complete=is_whole and not held,
            held=held,
        )
        self._writer.end(footer)
        return footer

    def _is_much_gone(self) -> bool:
        """More than half: a source disk that is not mounted must not empty the mirror."""
        touched = self._changes.gone + self._changes.changed
        return touched > _MANY and touched * 2 > self._changes.before
