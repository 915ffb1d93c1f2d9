"""What a get would do in a directory, without doing it: nothing is made, changed or locked."""

import contextlib
import os
from collections.abc import Sequence

from xfer.errors import Code, Refused
from xfer.names import STATE_DIRECTORY
from xfer.outcomes import Outcome
from xfer.storage.contract import (
    CommitSteps,
    IfExists,
    Item,
    Metadata,
    NewDirectory,
    NewSymlink,
    Partial,
    StoredFile,
)
from xfer.storage.local.partials import key_for
from xfer.storage.local.reader import LocalStoreReader
from xfer.storage.reading import Held, HeldKind, StoredFileReader
from xfer.storage.recording import Confirmed, Run


class DryWriter:
    """Says what would become of what arrives (`contract.StoreWriter`). `owner` as of a real one."""

    durable = True

    def __init__(
        self, reader: LocalStoreReader, directory: str, owner: str, if_exists: IfExists
    ) -> None:
        self._reader = reader
        self._partials = os.path.join(directory, STATE_DIRECTORY, "partials")
        self._owner = owner
        self._if_exists = if_exists

    def outcome_of(self, name: str, size: int) -> Outcome | None:
        """What would become of a file that is not here as it is offered; None: it is resumed.

        Refused (exists) where other content must stay. Of content with the same size and
        another time it is not known that it is another one, before it comes.
        """
        held = self._reader.look(name)
        if held is None:
            return None if self._is_kept(name) else Outcome.STORED
        may_be_same = held.kind is HeldKind.FILE and held.size == size
        return Outcome.STORED if may_be_same else self._outcome_over(held)

    def _outcome_over(self, held: Held) -> Outcome:
        if self._if_exists is IfExists.REFUSE:
            raise Refused("the receiver has other content under this name", code=Code.EXISTS)
        is_kept = self._if_exists is IfExists.VERSION or held.kind is HeldKind.DIRECTORY
        return Outcome.VERSIONED if is_kept else Outcome.STORED

    def _is_kept(self, name: str) -> bool:
        path = os.path.join(os.fsencode(self._partials), key_for(self._owner, name))
        with contextlib.suppress(OSError):
            return os.lstat(path).st_size > 0
        return False

    def statuses(self, files: Sequence[str]) -> list[StoredFile | None]:
        return [self._status(name) for name in files]

    def _status(self, name: str) -> StoredFile | None:
        held = self._reader.look(name)
        if held is None or held.kind is not HeldKind.FILE:
            return None
        return StoredFile(held.size, held.mode or 0, held.mtime_ns or 0, inode=held.inode)

    def open_stored(self, name: str) -> StoredFileReader | None:
        return self._reader.open(name)

    def commit(self, items: Sequence[Item]) -> CommitSteps:
        """Only directories and links come: no content of a file is sent."""
        yield from ()
        return [self._outcome(item) for item in items]

    def _outcome(self, item: Item) -> Outcome | Refused:
        held = self._reader.look(item.name)
        if held is None:
            return Outcome.STORED
        try:
            return Outcome.UNCHANGED if _is_same(held, item) else self._outcome_over(held)
        except Refused as error:
            return error

    # What changes nothing, and what does not come

    def require(self, name: str, size: int, have: int = 0) -> None:
        pass

    def count(self, name: str) -> None:
        pass

    def create_partial(self, name: str | None = None, size: int | None = None) -> Partial:
        raise Refused("nothing is stored in a dry run", code=Code.UNSUPPORTED)

    def find_partial(self, name: str) -> Partial | None:
        return None

    def kept(self, files: Sequence[str]) -> set[str]:
        return set()

    def flush_stored(self, files: Sequence[str]) -> set[str]:
        return set()

    def absent(self, directories: Sequence[str]) -> list[str]:
        """None, so that every file is offered."""
        return []

    def held_time(self, mtime_ns: int | None) -> int | None:
        return mtime_ns

    def set_metadata(self, name: str, metadata: Metadata) -> bool:
        return True

    def begin_run(self, run: Run) -> None:
        raise Refused("nothing is stored in a dry run", code=Code.UNSUPPORTED)

    def record(self, confirmed: Sequence[Confirmed]) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def _is_same(held: Held, item: Item) -> bool:
    if isinstance(item, NewSymlink):
        return held.kind is HeldKind.SYMLINK and held.target == item.target
    return isinstance(item, NewDirectory) and held.kind is HeldKind.DIRECTORY
