"""The one error that stands for a whole job."""

from xfer.errors import ConnectionLost, LocalError, Refused
from xfer.sending.observer import only_error


def test_one_error_stands_for_a_job_of_which_nothing_went() -> None:
    first, second = LocalError("a"), LocalError("b")
    assert only_error(False, [first, second]) is first


def test_no_error_stands_for_a_job_of_which_something_went_or_that_failed_variously() -> None:
    assert only_error(True, [LocalError("a")]) is None
    assert only_error(False, [LocalError("a"), Refused("b")]) is None
    assert only_error(False, [LocalError("a"), ConnectionLost("b")]) is None
    assert only_error(False, []) is None
