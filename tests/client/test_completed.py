"""What is settled is known as such, and forgotten as soon as its directory says as much."""

import tracemalloc

from xfer.client.completed import Settled


def test_what_was_settled_is_and_nothing_else() -> None:
    settled = Settled()
    assert not settled
    settled.add("top/a/file")
    settled.add("file")
    assert settled
    there = ["top/a/file", "file"]
    absent = ["", "top", "top/a", "top/a/fil", "top/a/file/x", "a/file", "file/top", "top/file"]
    assert [name for name in [*there, *absent] if name in settled] == there


def test_a_directory_stands_for_all_that_is_in_it_and_for_nothing_beside_it() -> None:
    settled = Settled()
    settled.add("top/beside")
    settled.add("top/a/b/c/file")
    for directory in ("top/a/b/c", "top/a/b", "top/a"):
        settled.add_whole(directory)
    there = ["top/a", "top/a/b", "top/a/b/c/file", "top/a/x", "top/beside"]
    absent = ["top", "top/aa", "top/b", "a", "top/beside/x", "other/a/b"]
    assert [name for name in [*there, *absent] if name in settled] == there
    settled.add_whole("top")
    assert "top/aa" in settled
    assert "other" not in settled


def test_memory_does_not_grow_with_files_in_many_directories() -> None:
    settled = Settled()
    tracemalloc.start()
    try:
        for directory in range(200):
            for file in range(500):
                settled.add(f"top/{directory}/{file}")
            settled.add_whole(f"top/{directory}")
        settled.add_whole("top")
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "top/7/7" in settled
    assert now < 10_000
    assert peak < 500_000
