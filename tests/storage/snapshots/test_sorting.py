"""Sorting more than memory holds."""

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfer.storage.snapshots.sorting import Sorter


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = tmp_path_factory.mktemp("sorting")
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
    assert os.listdir(path) == []


@given(st.lists(st.binary(max_size=20).filter(lambda item: b"\n" not in item)), st.integers(1, 500))
def test_it_is_sorted_however_little_memory_there_is(
    directory: int, items: list[bytes], in_memory: int
) -> None:
    with Sorter(directory, in_memory) as sorter:
        for item in items:
            sorter.add(item)
        assert list(sorter) == sorted(items)


def test_chunks_are_merged_into_larger_ones(directory: int) -> None:
    items = [b"%06d" % number for number in range(10_000)]
    random.Random(1).shuffle(items)
    with Sorter(directory, 100) as sorter:  # thousands of chunks
        for item in items:
            sorter.add(item)
        assert list(sorter) == sorted(items)


def test_memory_is_bounded(directory: int) -> None:
    drawn = random.Random(1)
    tracemalloc.start()
    try:
        with Sorter(directory, 2**18) as sorter:
            for _ in range(40_000):
                sorter.add(drawn.randbytes(50).hex().encode())
            last, count = b"", 0
            for item in sorter:
                assert last <= item
                last, count = item, count + 1
        assert count == 40_000
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    with Sorter(directory, 10) as sorter:
        sorter.add(b"x" * 100)
        assert os.listdir(tmp_path) == []
    os.close(directory)
