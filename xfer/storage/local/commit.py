"""Putting a batch under its names: the order in which nothing is lost.

    0. make way  a directory in place of what has become one (see `obstacles`)
    1. flush     the bytes of every file
    2. link      each name that is free, in one step; the rest only if some are taken:
    3. compare   what already has the same content is left where it is
    4. version   older content gets a second link, in versions/; flush
    5. replace   each name in one step
    6. flush     the directories, once theirs have mode and time

Whatever cuts this short, each name shows nothing, the old content or the whole
new content, and older content is in versions/ before its name is taken. Steps 3
to 5 are in `replacement`. Receipts are sent when `run` has returned, so never
before the last flush.
"""

import os
from collections.abc import Sequence
from functools import partial

from xfer import names
from xfer.outcomes import Outcome
from xfer.storage.contract import CommitSteps, IfExists, Item, NewDirectory, NewFile, NewSymlink
from xfer.storage.local.layout import Layout
from xfer.storage.local.obstacles import Obstacles
from xfer.storage.local.partials import LocalPartial
from xfer.storage.local.pending import PendingItem, each, flush_for, undecided
from xfer.storage.local.replacement import Replacement
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import apply_metadata
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import NOWHERE, NameAt, is_link_impossible, link, symlink
from xfer.storage.posix.tree import awaits_mode, give_default_mode


class Commit:
    """One batch, committed once by `run`.

    What `run` does between two yields is quick, and is done in the thread that
    advances it: the session's. What it yields waits for a disk (1, 4, 6) or for
    another session's lock (3 to 5), and is called in the session's thread or in
    its background thread. `run` does not go on before that call has returned, so
    that only one thread at a time is in here, and nothing needs a lock.
    """

    def __init__(
        self,
        layout: Layout,
        if_exists: IfExists | None,
        flusher: Flusher,
        directories: Directories,
        items: Sequence[Item],
    ) -> None:
        """`directories` are those of `layout.files`, and are closed in the end.

        Without `if_exists`, whatever has a name stays as it is, directories too.
        """
        self._layout = layout
        self._if_exists = if_exists
        self._flusher = flusher
        self._batch = [PendingItem(item) for item in items]
        self._directories = directories
        self._new_bytes: set[int] = set()
        self._taken: list[PendingItem] = []
        self._obstructed: list[PendingItem] = []
        self._has_made_way = self._is_recorded = False

    @property
    def freed(self) -> list[int]:
        """For each item that was stored, how many bytes of older content are gone."""
        return [pending.freed for pending in self._batch]

    def run(self) -> CommitSteps:
        """All steps. In the end, whatever happened, nothing is left open, nor in partials/."""
        try:
            with self._directories:
                each(self._batch, self._prepare)
                if self._obstructed:
                    yield self._make_way
                if self._new_bytes:
                    yield self._flush_bytes
                self._link_all()
                if self._taken:
                    yield self._replace_taken
                each(undecided(self._batch), self._place_directory)
                if self._obstructed:
                    yield self._make_way
                if self._directories.changed:
                    yield self._flush_names
                if self._is_recorded:
                    each(self._batch, _note_stored)
        finally:
            for pending in self._batch:
                if isinstance(pending.item, NewFile):
                    pending.item.partial.discard()
        return [pending.result for pending in self._batch]

    # 0. make way

    def _make_way(self) -> None:
        """Go on with items that something was in the way of."""
        obstructed, self._obstructed = self._obstructed, []
        self._has_made_way = True
        with Obstacles(
            self._layout, self._if_exists, self._flusher, self._directories
        ) as obstacles:

            def clear(pending: PendingItem) -> None:
                if pending.at is NOWHERE:
                    obstacles.clear(pending, pending.path.rpartition(b"/")[0])
                    self._prepare(pending)
                else:
                    obstacles.clear(pending, pending.path)
                    self._place_directory(pending)

            each(obstructed, clear)

    # 1. flush

    def _prepare(self, pending: PendingItem) -> None:
        pending.path = names.to_bytes(pending.item.name)
        parent, _, name = pending.path.rpartition(b"/")
        try:
            pending.at = NameAt(self._directories.open(parent), name)
        except NotADirectoryError:
            self._obstructed.append(pending)
            return
        if isinstance(pending.item, NewFile) and isinstance(pending.item.partial, LocalPartial):
            pending.partial = pending.item.partial
            self._is_recorded |= pending.partial.is_recorded
            self._new_bytes.add(pending.partial.descriptor)

    def _flush_bytes(self) -> None:
        flush_for(self._batch, partial(self._flusher.flush, self._new_bytes))

    # 2. link

    def _link_all(self) -> None:
        linked = [one for one in undecided(self._batch) if not isinstance(one.item, NewDirectory)]
        self._directories.mark_unflushed(one.path for one in linked)
        each(linked, self._link)
        self._taken = [one for one in linked if one.is_taken]

    def _link(self, pending: PendingItem) -> None:
        self._directories.changed.add(pending.at.directory)
        try:
            if pending.partial:
                link(pending.partial.name, self._layout.partials, pending.at)
            elif isinstance(pending.item, NewSymlink):
                symlink(names.to_bytes(pending.item.target), pending.at)
            pending.outcome = Outcome.STORED
        except OSError as error:
            if not (isinstance(error, FileExistsError) or is_link_impossible(error)):
                raise
            pending.is_taken = True

    # 3 to 5. compare, version, replace

    def _replace_taken(self) -> None:
        with Replacement(
            self._layout, self._if_exists, self._flusher, self._directories
        ) as replacement:
            replacement.run(self._taken)

    # 6. flush

    def _place_directory(self, pending: PendingItem) -> None:
        """After the files, each of which changes the time of its directory."""
        if not isinstance(pending.item, NewDirectory):
            return
        existed = pending.at.status() is not None
        try:
            descriptor = self._directories.open(pending.path)
        except NotADirectoryError:
            self._obstructed.append(pending)
            return
        before = os.fstat(descriptor)
        if self._if_exists is None and existed and not awaits_mode(before):
            pending.outcome = Outcome.STORED  # as if it had not been there
            return
        apply_metadata(descriptor, pending.item.metadata)
        give_default_mode(descriptor)  # if its own is unknown still
        self._directories.awaiting.discard(pending.path)
        after = os.fstat(descriptor)
        self._directories.changed.update((pending.at.directory, descriptor))
        same = (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)
        pending.outcome = Outcome.UNCHANGED if existed and same else Outcome.STORED

    def _flush_names(self) -> None:
        linked = {one.partial.descriptor for one in self._batch if one.partial and one.is_stored}
        has_others = self._has_made_way or any(
            one.is_taken or not one.partial for one in self._batch
        )
        has_links = any(isinstance(one.item, NewSymlink) for one in self._batch)

        def flush() -> None:
            self._directories.flush_passed(self._flusher.flush)
            self._flusher.flush_names(
                self._directories.changed, linked, has_others=has_others, has_links=has_links
            )

        if flush_for(self._batch, flush):
            self._directories.mark_flushed()


def _note_stored(pending: PendingItem) -> None:
    if pending.partial and pending.is_stored:
        pending.partial.note_stored()
