"""Counting what a directory holds: again when the owner may have made room, waited for once."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.limited_stores import SIZE, code, limited, take
from tests.support.processes import PATIENCE, wait_until
from xfer.errors import Code, Refused
from xfer.outcomes import Outcome
from xfer.storage.contract import (
    Limits,
)


def test_room_that_the_owner_made_by_hand_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xfer.storage.directory_usage._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("xfer.storage.directory_usage._FRESH_WALKS", 0)
    with limited(tmp_path, Limits(quota=SIZE)) as writer:
        take(writer, "a")
        assert code(take(writer, "b")) == Code.QUOTA
        (tmp_path / "a").unlink()
        assert code(take(writer, "b")) == "stored"


def test_a_long_count_is_waited_for_once_and_not_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = threading.Event()
    monkeypatch.setattr("xfer.storage.directory_usage.WALK_PATIENCE", 0.5)
    monkeypatch.setattr(
        "xfer.storage.local.usage.LocalDisk.stored",
        lambda *_: SIZE if counting.wait(PATIENCE) else 0,
    )
    with limited(tmp_path, Limits(quota=2 * SIZE)) as writer:
        began = time.monotonic()
        answers = [take(writer, f"{number}") for number in range(20)]
        assert [(code(answer), is_retryable(answer)) for answer in answers] == 20 * [("busy", True)]
        assert 0.4 < time.monotonic() - began < 5
        counting.set()
        wait_until(lambda: code(take(writer, "a")) == "stored")
        assert code(take(writer, "b", 1)) == Code.QUOTA


def is_retryable(outcome: Outcome | Refused) -> bool:
    return isinstance(outcome, Refused) and outcome.retryable
