"""BackgroundThread: one helper thread, which does one thing after the other, in order."""

import hashlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from xfer import digests
from xfer.system.background import BackgroundThread, wait_for


class BadNews(Exception):
    """Raised by what an iterator stands for."""


def test_a_digest_fed_beside_is_the_same() -> None:
    data = bytes(range(256)) * 4096
    digest = digests.new("md5")
    with BackgroundThread() as background:
        fed = [background.update(digest, data), background.update(digest, bytearray(data))]
        for future in fed:
            future.result(timeout=10)
    assert digest.hexdigest() == hashlib.md5(data + data).hexdigest()


def test_works_are_done_one_after_the_other_and_a_wait_for_them_is_bounded() -> None:
    may_finish = threading.Event()
    done: list[str] = []
    with BackgroundThread() as background:
        first = background.submit(may_finish.wait, 10)
        second = background.submit(done.append, "second")
        assert not wait_for(first, 0.05)
        assert not done
        may_finish.set()
        assert wait_for(second)
    assert done == ["second"]


def test_what_a_work_raises_is_raised_where_its_result_is_wanted() -> None:
    with BackgroundThread() as background, pytest.raises(ZeroDivisionError):
        background.submit(divmod, 1, 0).result(10)


def test_no_thread_is_started_before_there_is_work() -> None:
    """Nor is anything loaded for it: a small file needs none, and is sent sooner."""
    program = (
        "import sys, xfer.system.background as background; "
        "background.BackgroundThread().close(); print('concurrent.futures' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, text=True, timeout=20) == "False\n"


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
