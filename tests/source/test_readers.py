"""Reading what is to be sent, and noticing when it is not what it was."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sources import file_entry, open_descriptors, read
from xfer.errors import LocalError
from xfer.source.readers import FileSource, StreamSource
from xfer.source.tree import Entry, walk

_TICK = 0.02
"""Seconds; a file system's times stand still for less than that."""


def _append(path: Path) -> None:
    with path.open("ab") as opened:
        opened.write(b"more")


def _write_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_write_and_set_the_time_back, id="is written and its time set back"),
        pytest.param(lambda path: os.truncate(path, 100), id="shrinks"),
        pytest.param(lambda path: os.truncate(path, 0), id="is emptied"),
        pytest.param(_append, id="grows"),
        pytest.param(lambda path: os.utime(path, ns=(1, 1)), id="has another time"),
        pytest.param(lambda path: path.write_bytes(b"y" * 1000), id="is written again"),
    ],
)
@pytest.mark.parametrize("size", [500, 1000, 64])
def test_a_file_that_changes_while_it_is_read_is_a_local_error(
    tmp_path: Path, change: Callable[[Path], None], size: int
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1000)
    os.utime(path, ns=(1, 10**18))
    source = FileSource(file_entry(path))
    time.sleep(_TICK)
    view = memoryview(bytearray(size))
    if size < 1000:
        assert source.read_into(view) == size
    change(path)
    with pytest.raises(LocalError, match="changed"):
        read(source, size)


def test_a_file_that_changed_before_it_was_opened_is_sent_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    entry = file_entry(path)
    path.write_bytes(b"longer now")
    source = FileSource(entry)
    assert (source.size, read(source)) == (10, b"longer now")


@pytest.mark.parametrize("size", [1, 7, 10, 64])
def test_any_size_of_buffer_reads_the_same_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(10)) * 7)
    assert read(FileSource(file_entry(path)), size) == bytes(range(10)) * 7


def test_a_file_that_has_more_bytes_than_it_says_is_a_local_error() -> None:
    source = FileSource(file_entry(Path("/proc/self/status")))
    assert source.size == 0
    with pytest.raises(LocalError, match="changed"):
        read(source, 1 << 16)


def _replace_by_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def _replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("in_a_directory", [True, False])
@pytest.mark.parametrize(
    "change", [Path.unlink, _replace_by_link, _replace_by_fifo, _replace_by_directory]
)
def test_a_file_that_is_no_plain_file_any_more_is_a_local_error(
    tmp_path: Path, change: Callable[[Path], None], in_a_directory: bool
) -> None:
    path = tmp_path / "top/f"
    path.parent.mkdir()
    path.write_bytes(b"data")
    entries = walk([str(path.parent if in_a_directory else path)])
    entry = next(entries)
    assert isinstance(entry, Entry)
    before = open_descriptors()
    change(path)
    with pytest.raises(LocalError):
        FileSource(entry)
    assert open_descriptors() == before


def test_a_directory_that_is_swapped_for_a_link_is_still_the_one_that_was_listed(
    tmp_path: Path,
) -> None:
    for directory, content in (("top", b"listed"), ("other", b"other")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "f").write_bytes(content)
    entries = walk([str(tmp_path / "top")])
    entry = next(entries)
    assert isinstance(entry, Entry)
    (tmp_path / "top").rename(tmp_path / "moved")
    (tmp_path / "top").symlink_to("other")
    assert read(FileSource(entry)) == b"listed"


# --- standard input


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            assert descriptor == writing  # closed by the test: the end of the stream


@pytest.mark.parametrize("content", [b"", b"x", b"0123456789" * 20_000])
def test_a_stream_is_read_whole_and_knows_its_size_at_the_end(
    pipe: tuple[int, int], content: bytes
) -> None:
    reading, writing = pipe
    source = StreamSource(reading)
    assert (source.size, source.mode, source.mtime_ns) == (None, None, None)

    def feed() -> None:
        with open(writing, "wb", buffering=0) as opened:
            for start in range(0, len(content), 9_999):
                opened.write(content[start : start + 9_999])

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert read(source, 4096) == content
    feeder.join(10)
    assert source.size == len(content)
    os.fstat(reading)  # not closed: standard input is not its own


def test_a_stream_fills_the_whole_buffer_from_small_writes(pipe: tuple[int, int]) -> None:
    reading, writing = pipe

    def trickle() -> None:
        for _ in range(4):
            os.write(writing, b"ab")
            time.sleep(0.02)

    feeder = threading.Thread(target=trickle)
    feeder.start()
    view = memoryview(bytearray(7))
    source = StreamSource(reading)
    assert source.read_into(view) == 7
    assert (bytes(view), source.is_at_end()) == (b"abababa", False)
    feeder.join(10)


def test_a_plain_file_may_be_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"data")
    with path.open("rb") as opened:
        source = StreamSource(opened.fileno())
        assert (read(source), source.size) == (b"data", 4)


def test_a_closed_standard_input_is_a_local_error() -> None:
    closed, writing = os.pipe()
    os.close(closed)
    try:
        with pytest.raises(LocalError):
            read(StreamSource(closed))
    finally:
        os.close(writing)


@pytest.mark.timeout(10)
def test_an_interrupt_ends_a_read_that_waits_and_keeps_what_came(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"came")
    source = StreamSource(reading)
    view = memoryview(bytearray(64))
    began = time.monotonic()
    timer = threading.Timer(0.2, source.interrupt)
    timer.start()
    assert source.read_into(view) == 4
    assert 0.1 < time.monotonic() - began < 3
    assert (bytes(view[:4]), source.is_at_end(), source.size) == (b"came", False, None)
    timer.join(10)
