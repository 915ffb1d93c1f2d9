"""Names: which ones are safe, and how any POSIX name survives the wire.

A name is relative, with "/" between its components. On disk it is bytes, on the
wire text: a byte that is not UTF-8 travels as a lone surrogate, U+DC80 to U+DCFF
(PEP 383). Unsafe names are refused, never changed into safe ones: the sender
would otherwise get a receipt for a name that it did not send. Touches no disk.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from xfer.errors import Code, Refused

MAX_COMPONENT: Final = 255
"""Bytes in one component."""
MAX_NAME: Final = 4096
"""Bytes in a whole name, and in the target of a symbolic link."""
STATE_DIRECTORY: Final = ".xfer"
"""The receiver's own directory: no file's name may begin with this component."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""All of Unicode's category Cc; Unicode promises to add no more to it."""
_NO_COMPONENTS: Final = frozenset(("", ".", ".."))
_SURELY_SHORT: Final = MAX_COMPONENT // 4
"""Characters. A character has at most 4 bytes: up to this length none need be counted."""
_FINGERPRINT_BYTES: Final = 16
"""128 bits: not even a sender that tries finds two names with the same fingerprint."""


def check(name: str) -> str:
    """Return `name` unchanged; Refused (bad_name) when it is not safe to store."""
    if reason := _fault(name):
        raise Refused(f"unsafe name: {reason}", code=Code.BAD_NAME)
    return name


def is_safe(name: str) -> bool:
    """Whether `check` returns `name`."""
    return _fault(name) is None


def check_target(target: str) -> str:
    """Return the text of a symbolic link unchanged; Refused (bad_name) when no link can have it.

    A target may be any path, absolute ones included: the receiver follows no link.
    """
    if not target or "\0" in target or not _is_canonical(target):
        raise Refused("unsafe link target", code=Code.BAD_NAME)
    if len(to_bytes(target)) >= MAX_NAME:
        raise Refused(f"a link target of {MAX_NAME} bytes or more", code=Code.BAD_NAME)
    return target


def to_bytes(name: str) -> bytes:
    """The bytes on disk of a name on the wire, whatever the locale.

    UnicodeEncodeError for text that is no name: `check` refuses it.
    """
    return name.encode("utf-8", "surrogateescape")


def from_bytes(name: bytes) -> str:
    """The name on the wire for bytes on disk, whatever the locale."""
    return name.decode("utf-8", "surrogateescape")


def fingerprint(name: bytes) -> bytes:
    """16 bytes to remember a name by: a name may have 4096."""
    return hashlib.blake2b(name, digest_size=_FINGERPRINT_BYTES).digest()


def printable(text: str) -> str:
    """`text` for a terminal or a log line, with control characters and the like escaped."""
    if text.isprintable():
        return text
    return "".join(c if c == " " or c.isprintable() else ascii(c)[1:-1] for c in text)


def _fault(name: str) -> str | None:
    """Why `name` is not safe, to follow "unsafe name: "; None when it is."""
    if not name:
        return "it is empty"
    if not name.isprintable() and _CONTROL.search(name):
        return "it has a control character"
    if not _is_canonical(name):
        return "it is not text, nor the one spelling of its bytes"
    if len(name) > _SURELY_SHORT and len(to_bytes(name)) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    return _fault_in(name.split("/"))


def _fault_in(components: Sequence[str]) -> str | None:
    if components[0] == STATE_DIRECTORY:
        return f"{STATE_DIRECTORY} is the receiver's own"
    if not _NO_COMPONENTS.isdisjoint(components):
        return "it has an empty, . or .. component"
    if max(map(len, components)) > _SURELY_SHORT:
        longest = max(len(to_bytes(component)) for component in components)
        if longest > MAX_COMPONENT:
            return f"a component is longer than {MAX_COMPONENT} bytes"
    return None


def _is_canonical(name: str) -> bool:
    """Whether `name` is the one spelling of its bytes.

    Surrogates can spell valid UTF-8, too. That would be a second name for the same
    bytes, and a way around the rules for characters that are refused as such.
    """
    if name.isascii():
        return True
    try:
        return from_bytes(to_bytes(name)) == name
    except UnicodeEncodeError:
        return False
