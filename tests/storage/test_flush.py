"""Flushes: one for many files, none where they are left out, and no failure goes unseen.

That they come in the right order is in test_commit.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_stores import open_descriptors
from tests.support.tools import working
from xfer.errors import LocalError
from xfer.storage.posix.flush import Flusher, flush_all, start_writeback

FLUSH = """
import os, sys
from xfer.storage.posix.flush import Flusher
directory = os.open(sys.argv[1], os.O_RDONLY)
files = [os.open(f"{sys.argv[1]}/{n}", os.O_CREAT | os.O_RDWR) for n in range(int(sys.argv[2]))]
Flusher(directory, durable=sys.argv[3] == "durable").flush(files + files)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("files", "durable", "calls"),
    [
        (0, "durable", []),
        (1, "durable", ["fsync"]),
        (4, "durable", 4 * ["fsync"]),
        (5, "durable", ["syncfs"]),
        (50, "durable", ["syncfs"]),
        (4, "not durable", []),
        (50, "not durable", []),
    ],
)
def test_many_files_share_one_flush_and_few_wait_for_no_other(
    tmp_path: Path, files: int, durable: str, calls: list[str]
) -> None:
    trace = tmp_path / "trace"
    prefix = working("strace", "-f", "-o", str(trace), "-e", "trace=fsync,syncfs")
    script = [sys.executable, "-c", FLUSH, str(tmp_path), str(files), durable]
    assert os.spawnvp(os.P_WAIT, prefix[0], [*prefix, *script]) == 0
    assert re.findall(r"(\w+)\(\d+\) += 0", trace.read_text()) == calls


def test_a_flush_that_fails_is_an_error(directory: int) -> None:
    reading, writing = os.pipe()  # which can't be flushed
    with contextlib.closing(Flusher(directory)) as flusher:
        with pytest.raises(OSError, match="Invalid"):
            flusher.flush([directory, reading])
        flusher.flush([directory])
    with contextlib.closing(Flusher(directory, durable=False)) as flusher:
        flusher.flush([reading])
    os.close(reading)
    os.close(writing)


def test_a_flush_of_everything_that_fails_is_a_local_error(directory: int) -> None:
    flush_all(directory)
    with pytest.raises(LocalError, match="the disk fails"):
        flush_all(-1)


def test_the_start_of_a_write_back_is_a_hint_that_never_fails(directory: int) -> None:
    start_writeback(-1, 0, 100)


def test_a_flusher_that_is_closed_leaves_no_descriptor(directory: int) -> None:
    before = open_descriptors()
    Flusher(directory).close()
    assert open_descriptors() == before
