"""Sizes, as people write and read them."""

import pytest

from tests.support.processes import (
    MIB,
)
from xfer.config.sizes import in_units, parse_size
from xfer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("1B", 1), ("500M", 500 * MIB), ("20G", 20 * 1024**3),
        ("1.5T", 1536 * 1024**3), ("2GiB", 2 * 1024**3), ("1k", 1024), ("0.5K", 512),
        ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_a_size_has_a_binary_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "-1",
        "1,5G",
        "1 G",
        "5GB",
        "1e9",
        "inf",
        "nan",
        "٣M",
        "9223372036854775808",
        "8192P",
    ],
)
def test_what_is_no_size_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size such as 500M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (2**40, "1.0 TiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_that_it_fills(size: int, shown: str) -> None:
    assert in_units(size) == shown
