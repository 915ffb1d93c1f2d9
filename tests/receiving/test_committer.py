"""Commits: whoever waits for a disk is not silent meanwhile, however quick it was before."""

import os
import threading
import time
from pathlib import Path

import pytest

from xfer.outcomes import Outcome
from xfer.receiving.commit_queue import EMPTY, Arrived, CommitQueue
from xfer.receiving.committer import Committed, Committer
from xfer.storage.contract import Metadata, NewDirectory
from xfer.storage.local.store import LocalStore
from xfer.wire import keepalive

HEARTBEAT_SECONDS = 0.02


def test_a_disk_that_is_slow_after_it_was_quick_is_waited_for_with_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    signs: list[float] = []
    committed: list[Committed] = []

    def sign() -> None:
        signs.append(time.monotonic())

    monkeypatch.setattr(keepalive, "HEARTBEAT_SECONDS", HEARTBEAT_SECONDS)
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(seconds[0]))
    with LocalStore(str(tmp_path)) as store:
        writer = store.open_writer("default")
        queue = CommitQueue()
        committer = Committer(writer, queue, committed.append, sign)
        for number in range(8):
            seconds[0] = 0.3 if number % 4 == 3 else 0.0
            signs.clear()
            queue.add(Arrived(NewDirectory(str(number), Metadata()), time.monotonic()))
            while not committer.wait_below(EMPTY, HEARTBEAT_SECONDS):
                sign()
            if seconds[0]:
                assert len(signs) >= 3, "a session that says nothing while it waits"
        committer.close()
        ended = time.monotonic()
        writer.close()
    assert [outcome for batch in committed for _, outcome in batch] == 8 * [Outcome.STORED]
    assert all(moment < ended for moment in signs)
    del committer
    while any(thread.name.startswith("background") for thread in threading.enumerate()):
        assert time.monotonic() < ended + 10, "a thread that nobody needs any more"
        time.sleep(0.01)
