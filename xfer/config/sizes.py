"""Sizes, as people write and read them."""

import re
from typing import Final

from xfer.errors import UsageError

_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(?:([KMGTP])(?:iB)?|B)?", re.IGNORECASE)
_UNITS: Final = " KMGTP"
MAX_SIZE: Final = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes: `500M`, `20G` or `1.5T`, with units of 1024 as in `20GiB`; `4096` as it is."""
    size = -1
    if found := _SIZE.fullmatch(text):
        whole, _, part = found[1].partition(".")
        unit = _UNITS.index((found[2] or " ").upper())
        size = int(whole + part) * 1024**unit // 10 ** len(part)
    if not 0 <= size <= MAX_SIZE:
        raise UsageError(f"{text} is not a size such as 500M, 20G or 1.5T")
    return size


def in_units(size: float) -> str:
    """`size` bytes as a person reads them: 512 B, 1.5 KiB, 3.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
