"""One store for several workers: what each knows of the others, and of one that was killed."""

import itertools
import os
import signal
from pathlib import Path

import pytest

from tests.support.forks import elsewhere
from tests.support.local_stores import partials
from tests.support.stores import new_file, put
from xfer.errors import UsageError
from xfer.storage.contract import Access, Limits
from xfer.storage.local.store import LocalStore


def killed_worker(store: LocalStore, number: int) -> int:
    """The id of a worker that has left a partial, and was killed."""
    process = os.fork()
    if not process:
        store.after_fork(number, None)
        store.open_writer("default").create_partial().write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    return process


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_worker_cleans_up_behind_the_one_that_had_its_number(root: Path) -> None:
    with LocalStore(str(root)) as store:
        store.prepare_fork(2)
        dead = killed_worker(store, 1)
        of_another = killed_worker(store, 0)
        assert len(partials(root)) == 2

        def succeed() -> bool:
            store.after_fork(1, dead)
            writer = store.open_writer("default")
            return put(writer, "d/f", b"data") == "stored" and writer.statuses(["d/f"]) != [None]

        assert elsewhere(succeed)
        (left,) = partials(root)
        assert f"-{of_another}-" in left


def test_what_one_worker_has_not_flushed_is_not_there_for_another(root: Path) -> None:
    with LocalStore(str(root)) as store:
        store.prepare_fork(2)

        def stop_before_the_last_flush() -> bool:
            store.after_fork(1, None)
            writer = store.open_writer("default")
            flush_bytes, flush_names = itertools.islice(
                writer.commit([new_file(writer, "f", b"data")]), 2
            )
            return (root / "f").exists() and bool(flush_bytes) and bool(flush_names)

        def look() -> bool:
            store.after_fork(0, None)
            return store.open_writer("default").statuses(["f"]) == [None]

        assert elsewhere(stop_before_the_last_flush)
        assert elsewhere(look)


def test_limits_that_one_process_would_count_for_all_are_wrong_usage(root: Path) -> None:
    with LocalStore(str(root), limits=Limits(min_free=1)) as store, pytest.raises(UsageError):
        store.prepare_fork(2)
    with LocalStore(str(root)) as store:
        store.prepare(Access(quota=1))
        with pytest.raises(UsageError):
            store.prepare_fork(2)


def test_a_worker_that_was_not_prepared_is_a_mistake(root: Path) -> None:
    with LocalStore(str(root)) as store, pytest.raises(RuntimeError):
        store.after_fork(0, None)
