"""StopSignal: set once and for all, from anywhere, and poll(2) sees it."""

import contextlib
import os
import select
from collections.abc import Iterator

import pytest

from xfer.system.stop import StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    with contextlib.closing(StopSignal()) as signal:
        yield signal


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_it_can_be_read_once_it_is_set_and_from_then_on(stop: StopSignal) -> None:
    assert (stop.is_set, is_readable(stop.descriptor)) == (False, False)
    stop.set()
    for _ in range(2):
        assert (stop.is_set, is_readable(stop.descriptor)) == (True, True)
        stop.set()


def test_closing_it_leaves_no_descriptor_open() -> None:
    before = os.listdir("/proc/self/fd")
    signal = StopSignal()
    signal.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
