"""The items of a commit: what fails for one refuses that one, a failed flush all it was for."""

import contextlib
import errno
import os
from functools import partial
from pathlib import Path

from xfer.errors import Code, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import NewSymlink
from xfer.storage.local.pending import PendingItem, each, flush_for, undecided
from xfer.storage.posix.filesystems import FileSystem
from xfer.storage.posix.flush import Flusher


def batch_of(*names: str) -> list[PendingItem]:
    return [PendingItem(NewSymlink(name, "target")) for name in names]


def told(batch: list[PendingItem]) -> list[str | None]:
    return [one.outcome.code if isinstance(one.outcome, Refused) else one.outcome for one in batch]


def test_an_item_that_fails_is_refused_and_the_others_go_on() -> None:
    batch = batch_of("os", "refused", "fine")

    def step(pending: PendingItem) -> None:
        match pending.item.name:
            case "os":
                raise OSError(errno.ENOSPC, "full")
            case "refused":
                raise Refused("no", code=Code.EXISTS)

    each(batch, step)
    assert told(batch) == [Code.NO_SPACE, Code.EXISTS, None]
    assert isinstance(batch[0].outcome, Refused)
    assert isinstance(batch[0].outcome.__cause__, OSError)
    assert undecided(batch) == batch[2:]


def test_a_failed_flush_refuses_all_that_it_was_for_even_what_was_stored(tmp_path: Path) -> None:
    batch = batch_of("stored", "refused", "undecided")
    batch[0].outcome = Outcome.STORED
    batch[1].outcome = Refused("no", code=Code.EXISTS)
    directory = os.open(tmp_path, os.O_RDONLY)
    with contextlib.closing(Flusher(directory, FileSystem("ext4"), directory)) as flusher:
        flush = partial(flusher.flush, {directory})
        assert flush_for(batch, flush)
        assert told(batch) == [Outcome.STORED, Code.EXISTS, None]
        os.close(directory)
        assert not flush_for(batch, flush)
    assert told(batch) == [Code.STORAGE, Code.EXISTS, Code.STORAGE]
