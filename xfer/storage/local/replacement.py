"""Steps 3 to 5 of a commit (see `commit`): items whose names are taken already.

Comparing comes first, without a lock, for it can take long. Then, under
`Layout.installing`, no other session or worker changes names, and whatever was
compared is looked at again: it can have been replaced meanwhile. Other programs
take no lock, so right before a name is replaced it is looked at once more. Only
what they put there between these two system calls is lost.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import Final, Self

from xfer import names
from xfer.errors import Code, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import IfExists, Metadata, NewSymlink
from xfer.storage.local.layout import Layout
from xfer.storage.local.partials import LocalPartial, temporary_name
from xfer.storage.local.pending import FileId, PendingItem, each, flush_for, taken, undecided
from xfer.storage.posix.access import open_for_reading
from xfer.storage.posix.directories import Directories
from xfer.storage.posix.files import apply_metadata, has_metadata, same_content
from xfer.storage.posix.flush import Flusher
from xfer.storage.posix.links import NameAt, link_or_rename, remove, replace
from xfer.storage.posix.versions import link_version, move_version
from xfer.storage.posix.written_by import other_than

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Replacement:
    """Decides the items of one batch whose names are taken; everything it opens it closes."""

    def __init__(
        self, layout: Layout, if_exists: IfExists | None, flusher: Flusher, directories: Directories
    ) -> None:
        """`directories` are those of the batch."""
        self._files = layout.files
        self._timestamps = layout.timestamps
        self._directories = directories
        self._layout = layout
        self._partials = layout.partials
        self._installing = layout.installing
        self._if_exists = if_exists
        self._flusher = flusher
        self._opened = contextlib.ExitStack()
        self._versions = self._opened.enter_context(Directories(layout.versions))
        self._unchanged: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(self, batch: Sequence[PendingItem]) -> None:
        """Give each item of `batch` its outcome. Waits for other sessions and for the disk."""
        if self._if_exists is None:
            each(batch, self._prepare_to_add)
        else:
            each(batch, self._compare)
        flush_for(batch, self._flush_unchanged)
        with self._installing:
            if self._if_exists is IfExists.VERSION:
                flush_for(undecided(batch), self._layout.restore_versions)
            each(undecided(batch), self._keep_version)
            versioned = undecided(batch)
            flush_for(versioned, self._flush_versions)
            each(undecided(versioned), self._replace)
            moved = [pending for pending in versioned if pending.moves]
            if moved:
                flush_for(moved, self._flush_versions)

    # 3. compare

    def _prepare_to_add(self, pending: PendingItem) -> None:
        """Refuse what has a name already, uncompared. What is left could not be linked."""
        if pending.at.status() is not None:
            raise taken()
        self._make_ready(pending)

    def _compare(self, pending: PendingItem) -> None:
        if pending.partial:
            self._compare_file(pending, pending.partial)
        elif isinstance(pending.item, NewSymlink) and self._is_same_link(pending, pending.item):
            pending.outcome = Outcome.UNCHANGED
        if pending.outcome is None:
            self._make_ready(pending)

    def _make_ready(self, pending: PendingItem) -> None:
        """Have what is to take the name under a name in partials/."""
        if pending.partial:
            pending.ready = pending.partial.name
        elif isinstance(pending.item, NewSymlink):
            pending.ready = temporary_name()
            os.symlink(names.to_bytes(pending.item.target), pending.ready, dir_fd=self._partials)
            self._opened.callback(remove, pending.ready, self._partials)

    def _compare_file(self, pending: PendingItem, partial: LocalPartial) -> None:
        """Unchanged if the file there has the same bytes; then it gets the new mode and time.

        Not if that would change them under another name that the file has:
        then it is replaced, though its content is the same.
        """
        existing = self._open_existing(pending)
        if existing is None:
            return
        status = os.fstat(existing)
        pending.compared, pending.renews = _id_of(status), False
        pending.previous_host = self._other_host(partial.host, existing, status)
        has_all = has_metadata(status, self._held(partial.metadata))
        is_shared = status.st_nlink > 1 and not has_all
        if is_shared or not same_content(existing, partial.descriptor):
            return
        if self._layout.flushed.is_doubtful(status.st_ctime_ns):
            pending.renews = True  # what was read may be in memory only
            return
        if not has_all:
            if not pending.at.is_only_name_of(existing):  # no more: another program was here
                return
            with contextlib.suppress(PermissionError):  # the content is what was asked for
                apply_metadata(existing, partial.metadata)
        partial.note_stored(existing)
        self._unchanged.add(existing)
        pending.outcome = Outcome.UNCHANGED

    def _other_host(self, host: bytes, existing: int, status: os.stat_result) -> str:
        """The machine that wrote what is there, if that is known and not `host`."""
        alone = self._layout.lone_host
        unmarked = alone.host if alone.wrote(status.st_ctime_ns) else b""
        return other_than(host, existing, unmarked) if host else ""

    def _held(self, metadata: Metadata) -> Metadata:
        """What the file system makes of it."""
        return Metadata(metadata.mode, self._timestamps.held(metadata.mtime_ns))

    def _open_existing(self, pending: PendingItem) -> int | None:
        """The plain file that has the name, open; None if nothing or something else has it."""
        status = pending.at.status()
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        try:
            descriptor = open_for_reading(pending.at.name, _READ, pending.at.directory)
        except (FileNotFoundError, PermissionError):
            return None
        self._opened.callback(os.close, descriptor)
        is_plain = stat.S_ISREG(os.fstat(descriptor).st_mode)  # it can have been swapped
        return descriptor if is_plain else None

    @staticmethod
    def _is_same_link(pending: PendingItem, link: NewSymlink) -> bool:
        status = pending.at.status()
        is_link = status is not None and stat.S_ISLNK(status.st_mode)
        return is_link and pending.at.link_target() == names.to_bytes(link.target)

    # 4. version

    def _keep_version(self, pending: PendingItem) -> None:
        """Decide whether what has the name may be replaced; where it is a version, link it first.

        The caller flushes that. Refused where other content must stay. Nothing is done
        if nothing has the name any more.
        """
        status = pending.at.status()
        if status is None:
            return
        if self._if_exists is None:
            raise taken()
        if stat.S_ISDIR(status.st_mode):
            self._prepare_move(pending, status)
            return
        if self._is_unchanged_by_now(pending, status):
            return
        if self._if_exists is IfExists.REFUSE and not pending.renews:
            raise Refused("the receiver has other content under this name", code=Code.EXISTS)
        pending.replaces = True
        if self._makes_version(pending):
            kept_in = self._versions.open(pending.path)
            link_version(pending.at, kept_in)
            self._versions.changed.add(kept_in)
            pending.versioned = _id_of(status)
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # else another name has it
            pending.freed = status.st_size

    def _makes_version(self, pending: PendingItem) -> bool:
        return self._if_exists is IfExists.VERSION and not pending.renews

    def _prepare_move(self, pending: PendingItem, status: os.stat_result) -> None:
        """A directory becomes a version with all that it holds, with `IfExists.REPLACE`, too.

        That gives up the older content of the name that is sent, and not a whole tree of names
        that are not. Refused if this very batch stores something in it.
        """
        if self._if_exists is IfExists.REFUSE or self._directories.has_open(pending.path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._files.require_own(status)
        self._versions.changed.add(self._versions.open(pending.path))
        pending.moves = True

    def _is_unchanged_by_now(self, pending: PendingItem, status: os.stat_result) -> bool:
        """Another session can have stored the same content since it was compared."""
        if pending.partial and pending.compared != _id_of(status):
            self._compare_file(pending, pending.partial)
            self._flush_unchanged()
        return pending.outcome is not None

    def _flush_unchanged(self) -> None:
        self._flusher.flush(self._unchanged)

    def _flush_versions(self) -> None:
        """Before the names of the older contents are taken."""
        self._versions.flush_passed(self._flusher.flush)
        self._flusher.flush_names(self._versions.changed, (), has_others=True)
        self._versions.mark_flushed()

    # 5. replace

    def _replace(self, pending: PendingItem) -> None:
        if pending.moves:
            self._move(pending)
            return
        try:
            is_linked = self._link_if_free(pending)
        except FileExistsError:  # another program has made it since the versions were kept
            self._keep_version_at_last(pending)
            if pending.moves:
                self._move(pending)
            if pending.outcome:
                return
            is_linked = self._link_if_free(pending)  # it can have been removed again meanwhile
        if pending.replaces:
            self._keep_other_version(pending)
            replace(pending.ready, self._partials, pending.at)
            if pending.partial and not pending.renews:
                pending.partial.previous_host = pending.previous_host
        if pending.partial and not is_linked:
            pending.partial.forget_name()
        is_versioned = pending.replaces and self._makes_version(pending)
        pending.outcome = Outcome.VERSIONED if is_versioned else Outcome.STORED

    def _move(self, pending: PendingItem) -> None:
        kept_in = self._versions.open(pending.path)
        move_version(pending.at, kept_in, NameAt(self._partials, pending.ready))
        if pending.partial:
            pending.partial.forget_name()
        pending.outcome = Outcome.VERSIONED

    def _link_if_free(self, pending: PendingItem) -> bool:
        """Place what needs to replace nothing; whether it has its old name, too."""
        if pending.replaces:
            return False
        return link_or_rename(pending.ready, self._partials, pending.at)

    def _keep_other_version(self, pending: PendingItem) -> None:
        """Keep what has the name now, if that is not what was linked into versions/.

        It can be another item of this batch: a file system that folds case has
        one name where the batch has two.
        """
        status = pending.at.status()
        kept = pending.compared if pending.renews else pending.versioned
        if kept and status and _id_of(status) != kept:
            self._keep_version_at_last(pending)

    def _keep_version_at_last(self, pending: PendingItem) -> None:
        """Step 4 for one item, after that of the batch."""
        self._keep_version(pending)
        self._flush_versions()


def _id_of(status: os.stat_result) -> FileId:
    return status.st_dev, status.st_ino
