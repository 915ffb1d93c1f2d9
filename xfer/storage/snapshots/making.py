"""Making the manifest of a run, and putting it in its place."""

import contextlib
import io
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import remove
from xfer.storage.snapshots.contents import OwnContents
from xfer.storage.snapshots.digesting import Digester
from xfer.storage.snapshots.draft import Draft, Rules
from xfer.storage.snapshots.errors import DamagedManifest, LinesLost
from xfer.storage.snapshots.gone import GoneNames
from xfer.storage.snapshots.hashing import Pulse
from xfer.storage.snapshots.job import Committed, JobDirectory
from xfer.storage.snapshots.lines import FORMAT, Header
from xfer.storage.snapshots.places import RUNS, Placed, new_file, opened
from xfer.storage.snapshots.run_lines import latest, sortable
from xfer.storage.snapshots.runs import RunHeader
from xfer.storage.snapshots.sorting import Sorter

_PULSE_EVERY: Final = 256
"""Lines."""


class Backing(Struct, frozen=True):
    """What snapshots are made on: an open DIR/.xfer, the files in DIR, and how to flush."""

    state: int
    contents: OwnContents
    flusher: Flusher


class Maker:
    """Makes one snapshot in an open and locked job directory. Used by one thread."""

    def __init__(
        self, backing: Backing, job: JobDirectory, digester: Digester, pulse: Pulse
    ) -> None:
        self._backing = backing
        self._job = job
        self._digester = digester
        self._pulse = pulse

    def make(self, run: int, header: Header, rules: Rules, names: int = 0) -> Committed:
        """Of a run, by its open directory. The run stays, and so it does when this raises.

        LinesLost when it has fewer than so many names; OSError; Refused.
        """
        damaged: set[str] = set()
        with (
            opened(self._backing.state, RUNS) as runs,
            Sorter(runs) as sorter,
        ):
            for number, item in enumerate(sortable(run)):
                sorter.add(item)
                if number % _PULSE_EVERY == 0:
                    self._pulse()
            while True:
                try:
                    return self._compared(sorter, header, rules, names, damaged)
                except DamagedManifest as error:  # the one before: then the one before that
                    damaged.add(error.file)

    def _compared(
        self, sorter: Sorter, header: Header, rules: Rules, names: int, damaged: set[str]
    ) -> Committed:
        with (
            _temporary(self._job.directory) as (draft_name, file),
            opened(self._backing.state, RUNS) as runs,
            GoneNames(runs) if rules.gone_to_versions else contextlib.nullcontext() as gone,
        ):
            draft = Draft(file, header, self._digester, gone)
            with self._job.before(damaged) as before:
                draft.write(latest(sorter), before or (), self._pulse)
            if draft.lines < names:
                raise LinesLost(draft.lines, names)
            footer = draft.end(rules)
            if gone and footer.complete:
                gone.move(self._backing.contents, self._pulse)
            file.flush()
            self._backing.flusher.flush([file.fileno()])
            placed = Placed(header.completed, self._job.key_id, self._job.job, footer.complete)
            self._job.place(draft_name, file.fileno(), placed, self._backing.flusher)
        return Committed(placed.stamp, footer, tuple(draft.failures))


def header_of(
    described: RunHeader, job: JobDirectory, run: str, *, abandoned: bool = False
) -> Header:
    """The header of the manifest that a run becomes now."""
    return Header(
        format=FORMAT,
        job=job.job,
        key_id=job.key_id,
        directory=described.directory,
        host=described.host,
        roots=described.roots,
        excludes=described.excludes,
        run=run,
        began=described.began,
        completed=job.next_stamp(),
        abandoned=abandoned,
    )


@contextlib.contextmanager
def _temporary(directory: int) -> Iterator[tuple[str, io.BufferedWriter]]:
    """A new file, open for writing, whose temporary name is gone in the end."""
    name, descriptor = new_file(directory)
    try:
        with open(descriptor, "wb") as file:
            yield name, file
    finally:
        remove(name.encode(), directory)
