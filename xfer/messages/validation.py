"""What a key of a message may hold. Each check raises ProtocolError, naming type and key."""

import re
from typing import Any, Final

from xfer.errors import ProtocolError

DIGEST_BYTES: Final = {"md5": 16, "blake3": 32}
MAX_INTEGER: Final = 2**63 - 1
MAX_MODE: Final = 0o7777
_MAX_TEXT: Final = 32_768
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


def fault(message: Any, key: str) -> ProtocolError:
    return ProtocolError(f"a {message.type} message with an unusable {key}")


def text(message: Any, key: str, *, most: int = _MAX_TEXT) -> None:
    value = getattr(message, key)
    if not isinstance(value, str) or len(value) > most:
        raise fault(message, key)


def hexadecimal(message: Any, key: str, size: int) -> None:
    value = getattr(message, key)
    if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
        raise fault(message, key)


def whole(message: Any, key: str, least: int, most: int = MAX_INTEGER) -> None:
    value = getattr(message, key)
    if type(value) is not int or not least <= value <= most:
        raise fault(message, key)


def whole_or_none(message: Any, key: str, least: int, most: int = MAX_INTEGER) -> None:
    value = getattr(message, key)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise fault(message, key)


def metadata(message: Any) -> None:
    whole_or_none(message, "mode", 0, MAX_MODE)
    whole_or_none(message, "mtime_ns", -MAX_INTEGER)


def complaint(message: Any) -> None:
    text(message, "code", most=64)
    text(message, "message")
    truth(message, "retryable")


def digests(message: Any) -> None:
    if message.md5 is not None:
        hexadecimal(message, "md5", DIGEST_BYTES["md5"])
    if message.blake3 is not None:
        hexadecimal(message, "blake3", DIGEST_BYTES["blake3"])


def truth(message: Any, key: str) -> None:
    if type(getattr(message, key)) is not bool:
        raise fault(message, key)
