"""Bytes on their way into a store: found again by their key, and never another session's."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.forks import elsewhere
from xfer.errors import Code, Refused
from xfer.storage.contract import Metadata
from xfer.storage.local.partials import (
    create_unkeyed,
    key_for,
    keyed_prefix,
    open_keyed,
    temporary_name,
    temporary_prefix,
)

KEY = key_for("alice", "file")


@pytest.fixture
def partials(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def keep(partials: int, content: bytes) -> None:
    partial = open_keyed(partials, KEY, create=True)
    assert partial
    partial.write(content)
    partial.keep()


def test_what_was_kept_is_found_by_its_key_with_its_bytes(partials: int) -> None:
    keep(partials, b"half")
    found = open_keyed(partials, KEY, create=False)
    assert found
    view = memoryview(bytearray(10))
    assert (found.size, found.read_at(1, view), bytes(view[:3])) == (4, 3, b"alf")
    found.discard()
    assert open_keyed(partials, KEY, create=False) is None


def test_a_partial_is_one_session_s_at_a_time(partials: int) -> None:
    keep(partials, b"half")
    held = open_keyed(partials, KEY, create=False)
    assert held
    with pytest.raises(Refused) as caught:
        open_keyed(partials, KEY, create=True)
    assert (caught.value.code, caught.value.retryable) == (Code.BUSY, True)
    held.keep()
    keep(partials, b"more")


def test_a_partial_of_no_bytes_or_without_a_key_is_not_kept(partials: int) -> None:
    keep(partials, b"")
    unkeyed = create_unkeyed(partials)
    unkeyed.write(b"data")
    unkeyed.keep()
    assert os.listdir(partials) == []


def test_a_partial_that_is_a_stored_file_already_is_not_written_to(
    tmp_path: Path, partials: int
) -> None:
    """A receiver was killed between the link to its name and the removal of the old one."""
    keep(partials, b"whole")
    os.link(tmp_path / os.fsdecode(KEY), tmp_path / "stored")
    assert open_keyed(partials, KEY, create=False) is None
    keep(partials, b"another")
    assert (tmp_path / "stored").read_bytes() == b"whole"


def test_a_partial_that_was_renamed_removes_nothing(tmp_path: Path, partials: int) -> None:
    partial = open_keyed(partials, KEY, create=True)
    assert partial
    os.rename(KEY, b"stored", src_dir_fd=partials, dst_dir_fd=partials)
    partial.forget_name()
    keep(partials, b"of another session")
    partial.discard()
    assert sorted(os.listdir(partials)) == sorted([os.fsdecode(KEY), "stored"])


def test_a_partial_that_has_the_mode_of_its_file_is_found_again(
    tmp_path: Path, partials: int
) -> None:
    partial = open_keyed(partials, KEY, create=True)
    assert partial
    partial.write(b"whole")
    partial.finish(Metadata(0o000, None))
    partial.keep()
    found = open_keyed(partials, KEY, create=False)
    assert found
    assert found.size == 5
    found.discard()


def test_what_is_truncated_goes_on_from_there(tmp_path: Path, partials: int) -> None:
    partial = create_unkeyed(partials)
    partial.write(b"good, bad")
    partial.truncate(4)
    partial.write(memoryview(b"!"))
    assert partial.size == 5
    assert (tmp_path / os.fsdecode(partial.name)).read_bytes() == b"good!"
    partial.discard()


NAMES = st.text("ab/\udcff", max_size=3)


@given(st.sets(st.tuples(NAMES, NAMES, st.binary(max_size=2)), min_size=2))
def test_each_owner_name_and_directory_has_a_key_of_its_own(
    files: set[tuple[str, str, bytes]],
) -> None:
    keys = {key_for(*file): file for file in files}
    assert len(keys) == len(files)
    assert all(key.startswith(keyed_prefix(directory)) for key, (*_, directory) in keys.items())


def test_no_temporary_name_comes_twice_in_whatever_thread_or_process() -> None:
    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda _: temporary_name(), range(2000)))
    assert len(set(names)) == len(names)
    prefix = temporary_prefix(os.getpid())
    assert all(name.startswith(prefix) for name in names)
    assert elsewhere(lambda: not temporary_name().startswith(prefix))
