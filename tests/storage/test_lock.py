"""A lock between threads, and between processes once it is shared."""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forks import elsewhere
from xfer.storage.posix.lock import Lock


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def can_lock(file: Path) -> bool:
    """Whether a process that opens the file for itself gets its lock at once."""
    with file.open("rb+") as opened, contextlib.suppress(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.mark.parametrize("is_shared", [False, True])
def test_one_thread_at_a_time_is_in_it(state: int, is_shared: bool) -> None:
    lock, inside, most = Lock("lock"), 0, 0

    def visit() -> None:
        nonlocal inside, most
        for _ in range(20):
            with lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    with contextlib.ExitStack() as opened:
        if is_shared:
            lock.share(state, opened)
        threads = [threading.Thread(target=visit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (inside, most) == (0, 1)


def test_a_shared_lock_excludes_a_process_that_shares_it(state: int, tmp_path: Path) -> None:
    lock = Lock("lock")
    with contextlib.ExitStack() as opened:
        lock.share(state, opened)
        with lock:
            assert not elsewhere(lambda: can_lock(tmp_path / "lock"))
        assert elsewhere(lambda: can_lock(tmp_path / "lock"))


def test_a_process_that_ends_with_the_lock_leaves_it(state: int) -> None:
    def share_and_die() -> None:
        lock = Lock("lock")
        lock.share(state, contextlib.ExitStack())
        lock.__enter__()
        os._exit(0)

    assert elsewhere(share_and_die)
    lock = Lock("lock")
    with contextlib.ExitStack() as opened:
        lock.share(state, opened)
        with lock:
            pass


def test_a_lock_that_was_shared_is_one_between_threads_again_afterwards(
    state: int, tmp_path: Path
) -> None:
    lock = Lock("lock")
    with contextlib.ExitStack() as opened:
        lock.share(state, opened)
    with lock:
        assert can_lock(tmp_path / "lock")
