"""SharedMemory: what one process writes the other reads, and a lock ends with its process."""

import os

from tests.support.channels import concurrently
from tests.support.forks import elsewhere
from xfer.system.shared_memory import SharedMemory


def test_a_process_that_dies_with_the_lock_leaves_it() -> None:
    memory = SharedMemory(1)

    def die() -> None:
        with memory.locked():
            os._exit(0)

    assert elsewhere(die)
    with memory.locked():
        pass


def test_what_one_process_writes_the_other_reads() -> None:
    memory = SharedMemory(2)
    assert bytes(memory.view) == b"\0\0"

    def write() -> bool:
        with memory.locked():
            memory.view[:] = b"ab"
        return True

    assert elsewhere(write)
    assert bytes(memory.view) == b"ab"


def test_one_process_at_a_time_has_the_lock() -> None:
    memory = SharedMemory(8)

    def count() -> bool:
        for _ in range(2000):
            with memory.locked():
                number = int.from_bytes(memory.view, "big")
                memory.view[:] = (number + 1).to_bytes(8, "big")
        return True

    assert concurrently(count, lambda: elsewhere(count)) == [True, True]
    assert int.from_bytes(memory.view, "big") == 4000
