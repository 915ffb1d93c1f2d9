"""Digests: in pieces or in one go they are the same, and what runs beside keeps its order."""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfer import digests
from xfer.errors import Code, Refused
from xfer.system.background import BackgroundThread

ONE_SHOT: dict[str, Callable[[bytes], str]] = {
    "md5": lambda data: hashlib.md5(data).hexdigest(),
    "blake3": lambda data: blake3.blake3(data).hexdigest(),
}


class BadNews(Exception):
    """Raised by what an iterator stands for."""


@pytest.mark.parametrize("algorithm", ONE_SHOT)
@given(pieces=st.lists(st.binary(max_size=5000), max_size=8))
@settings(deadline=None)
def test_a_digest_of_pieces_is_the_digest_of_the_whole(algorithm: str, pieces: list[bytes]) -> None:
    digest = digests.new(algorithm)
    for end, piece in enumerate(pieces, 1):
        digest.update(memoryview(piece))
        assert digest.hexdigest() == ONE_SHOT[algorithm](b"".join(pieces[:end]))


def test_md5_comes_first_of_what_is_available() -> None:
    assert digests.available() == ("md5", "blake3")


@pytest.mark.parametrize("algorithm", ["sha256", "", "MD5", "md4"])
def test_an_unknown_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(Refused) as caught:
        digests.new(algorithm)
    assert caught.value.code == Code.UNSUPPORTED


@pytest.mark.parametrize("algorithm", ONE_SHOT)
def test_a_digest_fed_beside_is_the_same(algorithm: str) -> None:
    data = bytes(range(256)) * 4096
    digest = digests.new(algorithm)
    with BackgroundThread() as background:
        fed = [background.update(digest, data), background.update(digest, bytearray(data))]
        for future in fed:
            future.result(timeout=10)
    assert digest.hexdigest() == ONE_SHOT[algorithm](data + data)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_items_made_ahead_come_in_order(count: int) -> None:
    with BackgroundThread() as background:
        assert list(background.prefetch(iter(range(count)))) == list(range(count))
        assert list(background.prefetch(iter(range(count)))) == list(range(count))


def test_the_next_item_is_made_while_the_one_before_is_worked_on() -> None:
    makers, second_begun = [], threading.Event()

    def make() -> Iterator[int]:
        makers.append(threading.current_thread())
        yield 1
        second_begun.set()
        yield 2

    with BackgroundThread() as background:
        items = background.prefetch(make())
        assert next(items) == 1
        assert second_begun.wait(10)
        assert list(items) == [2]
    assert makers != [threading.current_thread()]


def test_what_fails_ahead_fails_where_the_item_is_wanted() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise BadNews

    with BackgroundThread() as background:
        items = background.prefetch(make())
        assert next(items) == 1
        with pytest.raises(BadNews):
            next(items)


def test_closing_early_waits_until_nothing_is_being_made() -> None:
    begun, may_finish, finished = threading.Event(), threading.Event(), threading.Event()

    def make() -> Iterator[int]:
        yield 1
        begun.set()
        may_finish.wait(10)
        finished.set()
        yield 2

    with BackgroundThread() as background:
        items = background.prefetch(make())
        assert next(items) == 1
        assert begun.wait(10)
        threading.Timer(0.1, may_finish.set).start()
        items.close()
        assert finished.is_set()


def test_closing_early_makes_no_more_than_one_item_ahead() -> None:
    source = itertools.count()
    with BackgroundThread() as background:
        items = background.prefetch(source)
        assert next(items) == 0
        items.close()
    assert next(source) == 2
