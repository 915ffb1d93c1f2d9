"""What is completed is known as such, and forgotten as soon as its directory says as much."""

import tracemalloc

from xfer.client.completed import CompletedNames


def test_what_was_completed_is_and_nothing_else() -> None:
    completed = CompletedNames()
    assert not completed
    completed.add("top/a/file")
    completed.add("file")
    assert completed
    there = ["top/a/file", "file"]
    absent = ["", "top", "top/a", "top/a/fil", "top/a/file/x", "a/file", "file/top", "top/file"]
    assert [name for name in [*there, *absent] if name in completed] == there


def test_a_directory_stands_for_all_that_is_in_it_and_for_nothing_beside_it() -> None:
    completed = CompletedNames()
    completed.add("top/beside")
    completed.add("top/a/b/c/file")
    for directory in ("top/a/b/c", "top/a/b", "top/a"):
        completed.add_whole(directory)
    there = ["top/a", "top/a/b", "top/a/b/c/file", "top/a/x", "top/beside"]
    absent = ["top", "top/aa", "top/b", "a", "top/beside/x", "other/a/b"]
    assert [name for name in [*there, *absent] if name in completed] == there
    completed.add_whole("top")
    assert "top/aa" in completed
    assert "other" not in completed


def test_memory_does_not_grow_with_files_in_many_directories() -> None:
    completed = CompletedNames()
    tracemalloc.start()
    try:
        for directory in range(200):
            for file in range(500):
                completed.add(f"top/{directory}/{file}")
            completed.add_whole(f"top/{directory}")
        completed.add_whole("top")
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "top/7/7" in completed
    assert now < 10_000
    assert peak < 500_000
