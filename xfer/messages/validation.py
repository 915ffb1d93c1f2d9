"""What a key of a message may hold: metadata for the fields of its dataclass."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from xfer.messages.base import USABLE

DIGEST_BYTES: Final = {"md5": 16, "blake3": 32}
MAX_INTEGER: Final = 2**63 - 1
_MAX_MODE: Final = 0o7777
_MAX_TEXT: Final = 32_768
_HEX: Final = re.compile(r"[0-9a-f]*")

Check = Mapping[str, Callable[[Any], bool]]


def text(most: int = _MAX_TEXT) -> Check:
    """Up to so many characters."""
    return {USABLE: lambda value: isinstance(value, str) and len(value) <= most}


def hexadecimal(size: int) -> Check:
    """So many bytes, as two digits each."""

    def is_usable(value: object) -> bool:
        return (
            isinstance(value, str) and len(value) == 2 * size and _HEX.fullmatch(value) is not None
        )

    return {USABLE: is_usable}


def whole(least: int = 0, most: int = MAX_INTEGER) -> Check:
    """An integer: neither a float nor a truth value."""
    return {USABLE: lambda value: type(value) is int and least <= value <= most}


def one_of(values: tuple[str, ...]) -> Check:
    return {USABLE: lambda value: value in values}


TEXT: Final = text()
WORD: Final = text(64)
SIZE: Final = whole()
SIZE_OR_NONE: Final[Check] = {USABLE: lambda value: value is None or SIZE[USABLE](value)}
MODE: Final = whole(most=_MAX_MODE)
TIME: Final = whole(least=-MAX_INTEGER)
MD5: Final = hexadecimal(DIGEST_BYTES["md5"])
BLAKE3: Final = hexadecimal(DIGEST_BYTES["blake3"])
SHA256: Final = hexadecimal(32)
TRUTH: Final[Check] = {USABLE: lambda value: type(value) is bool}
