"""Names that are not flushed yet: every session knows of them, in whatever process it is."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.forks import elsewhere
from xfer.storage.posix.unflushed import SharedUnflushed, Tables, Unflushed


def shared() -> Unflushed:
    return SharedUnflushed(Tables(1), 0)


@pytest.mark.parametrize("make", [Unflushed, shared])
def test_a_name_is_unflushed_until_each_batch_that_made_it_has_flushed(
    make: type[Unflushed],
) -> None:
    unflushed = make()
    assert b"name" not in unflushed
    unflushed.add([b"name", b"other"])
    unflushed.add([b"name"])
    unflushed.remove([b"name", b"other"])
    assert (b"name" in unflushed, b"other" in unflushed) == (True, False)
    unflushed.remove([b"name"])
    assert b"name" not in unflushed


@pytest.mark.parametrize("make", [Unflushed, shared])
def test_no_count_is_lost_between_threads(make: type[Unflushed]) -> None:
    unflushed = make()
    paths = [b"%d" % number for number in range(50)]

    def add_and_remove(_: int) -> None:
        for _ in range(50):
            unflushed.add(paths)
            unflushed.remove(paths)

    unflushed.add([b"7"])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add_and_remove, range(8)))
    assert [path for path in paths if path in unflushed] == [b"7"]


def test_what_one_process_has_not_flushed_is_known_to_the_other() -> None:
    tables = Tables(2)
    own, other = SharedUnflushed(tables, 0), SharedUnflushed(tables, 1)

    def make_twice_and_flush_once() -> bool:
        for _ in range(2):
            other.add([b"name"])
        other.add([b"flushed"])
        other.remove([b"name", b"flushed"])
        return True

    assert elsewhere(make_twice_and_flush_once)
    assert (b"name" in own, b"flushed" in own, b"other" in own) == (True, False, False)
    own.forget_predecessor()
    assert b"name" in own
    other.forget_predecessor()
    assert b"name" not in own
