"""What a sender is told of an error of the operating system: a code, and no path."""

import errno
import os

import pytest

from xfer.errors import Code
from xfer.storage.os_errors import refusal


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, Code.NO_SPACE),
        (errno.EDQUOT, Code.QUOTA),
        (errno.EFBIG, Code.TOO_LARGE),
        (errno.ENAMETOOLONG, Code.BAD_NAME),
        (errno.ENOTDIR, Code.EXISTS),
        (errno.ELOOP, Code.EXISTS),
        (errno.EACCES, Code.STORAGE),
        (errno.EIO, Code.STORAGE),
        (errno.EMFILE, Code.BUSY),
    ],
)
def test_an_error_has_a_code_and_only_busy_is_worth_another_try(number: int, code: Code) -> None:
    refused = refusal(OSError(number, os.strerror(number), "/srv/private/name"))
    assert (refused.code, refused.retryable) == (code, code == Code.BUSY)
    assert "private" not in str(refused)


def test_an_error_without_a_number_is_a_failure_of_the_store() -> None:
    assert refusal(OSError("what?")).code == Code.STORAGE
