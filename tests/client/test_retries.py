"""How long there is another attempt: it depends on whether the receiver ever answered."""

import time

import pytest

from xfer.client.retries import Retries, RetryFor, retry_times


@pytest.mark.parametrize(
    ("seconds", "on_terminal", "limits"),
    [
        (None, False, RetryFor(unreached=60, reached=900)),
        (None, True, RetryFor(unreached=10, reached=900)),
        (0.0, True, RetryFor(0, 0)),
        (5.0, False, RetryFor(5, 5)),
    ],
)
def test_a_person_is_told_sooner_that_nobody_answers_and_an_option_is_for_both(
    seconds: float | None, on_terminal: bool, limits: RetryFor
) -> None:
    assert retry_times(seconds, on_terminal=on_terminal) == limits


def test_the_pauses_grow_and_the_last_one_ends_at_the_limit() -> None:
    retries = Retries(RetryFor(unreached=0.9))
    began = time.monotonic()
    while pause := retries.next_pause(made_progress=False):
        time.sleep(pause)
    assert 0.9 <= time.monotonic() - began < 1.9


def test_no_seconds_are_no_other_attempt() -> None:
    retries = Retries(RetryFor(0, 0))
    retries.reached()
    assert retries.next_pause(made_progress=True) is None


def test_progress_and_being_let_in_begin_the_time_anew() -> None:
    retries = Retries(RetryFor(unreached=0.2, reached=0.4))
    assert retries.next_pause(made_progress=False)
    time.sleep(0.25)
    assert retries.next_pause(made_progress=True)
    time.sleep(0.25)
    assert retries.next_pause(made_progress=False) is None
    retries.reached()
    assert retries.next_pause(made_progress=False)
    time.sleep(0.25)
    assert retries.next_pause(made_progress=False)
    time.sleep(0.2)
    assert retries.next_pause(made_progress=False) is None
