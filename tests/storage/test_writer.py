"""A session's way into a store that is full, or has no descriptors left."""

import functools
import itertools
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.local_stores import (
    partials,
)
from tests.support.stores import commit, new_file, put
from xfer.errors import Code, Refused
from xfer.storage.contract import StoreWriter
from xfer.storage.local.store import LocalStore


def test_too_many_open_files_is_busy_and_leaves_nothing(
    root: Path, store: LocalStore, writer: StoreWriter
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    file = new_file(writer, "a/b/c", b"data")
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        (result,) = commit(writer, [file])
        last = writer.create_partial()  # has the descriptor of the one that was refused
        for one_more in (writer.create_partial, functools.partial(store.open_writer, "default")):
            with pytest.raises(Refused) as caught:
                one_more()
            assert caught.value.code == Code.BUSY
        last.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(result, Refused)
    assert (result.code, result.retryable) == (Code.BUSY, True)
    assert partials(root) == []


def test_too_large_for_the_file_system_leaves_nothing(root: Path, writer: StoreWriter) -> None:
    partial = writer.create_partial()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Refused) as caught:
            partial.write(b"x" * 100_001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    partial.discard()
    assert (caught.value.code, caught.value.retryable) == (Code.TOO_LARGE, False)
    assert (os.listdir(root), partials(root)) == ([".xfer"], [])


def test_a_full_disk_is_no_space_and_leaves_nothing(mount: Callable[[str, str], Path]) -> None:
    disk = mount("disk", "size=1m")
    with LocalStore(str(disk)) as store:
        writer = store.open_writer("default")
        put(writer, "f", b"old")
        free = os.statvfs(disk).f_bfree
        partial = writer.create_partial()
        with pytest.raises(Refused) as caught:
            partial.write(b"x" * 2_000_000)
        partial.discard()
        assert (caught.value.code, caught.value.retryable) == (Code.NO_SPACE, False)
        assert os.statvfs(disk).f_bfree == free
        assert put(writer, "f", b"new") == "versioned"
        writer.close()


def test_a_disk_without_inodes_is_no_space_and_keeps_the_old(
    mount: Callable[[str, str], Path],
) -> None:
    disk = mount("disk", "nr_inodes=16")
    with LocalStore(str(disk)) as store:
        writer = store.open_writer("default")
        filler = [disk / "filler1", disk / "filler2"]
        for path in filler:
            path.touch()
        stored = list(itertools.takewhile(lambda n: _fits(writer, f"{n}"), range(99)))
        assert stored
        filler[0].unlink()
        assert put(writer, "0", b"new") == Code.NO_SPACE  # no room for DIR/.xfer/versions/0
        assert {(disk / f"{n}").read_bytes() for n in stored} == {b"old"}
        assert partials(disk) == []
        writer.close()


def _fits(writer: StoreWriter, name: str) -> bool:
    try:
        told = put(writer, name, b"old")
    except Refused as error:
        told = error.code
    assert told in ("stored", Code.NO_SPACE)
    return told == "stored"
