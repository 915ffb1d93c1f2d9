"""Names: which ones are safe, and how any POSIX name survives the wire.

A name is relative, with "/" between its components. A byte that is not UTF-8
travels as the lone surrogate U+DC80 to U+DCFF (PEP 383). Unsafe names are
refused, never cleaned up. Touches no disk.
"""

import re
from collections.abc import Sequence
from typing import Final

from xfer.errors import Code, Refused

MAX_COMPONENT: Final = 255
"""Bytes in one component."""
MAX_NAME: Final = 4096
"""Bytes in a whole name, and in the target of a symbolic link."""
STATE_DIRECTORY: Final = ".xfer"
"""First component that no file may have: the receiver's own directory."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Unicode's category Cc, which is closed."""
_NO_NAMES: Final = frozenset(("", ".", ".."))
_SURELY_SHORT: Final = MAX_COMPONENT // 4
"""Characters: so many are no more bytes than a component may have."""


def check(name: str) -> str:
    """Return `name` as it came; Refused (bad_name) when it is not safe to store."""
    if reason := _fault(name):
        raise Refused(f"unsafe name: {reason}", code=Code.BAD_NAME)
    return name


def is_safe(name: str) -> bool:
    return _fault(name) is None


def check_target(target: str) -> str:
    """Like `check`, for the text of a symbolic link: any path, but one that can exist."""
    if not target or "\0" in target or not _is_canonical(target):
        raise Refused("unsafe link target", code=Code.BAD_NAME)
    if len(to_bytes(target)) >= MAX_NAME:
        raise Refused(f"a link target of {MAX_NAME} bytes or more", code=Code.BAD_NAME)
    return target


def to_bytes(name: str) -> bytes:
    """The name's bytes on disk, whatever the locale."""
    return name.encode("utf-8", "surrogateescape")


def from_bytes(name: bytes) -> str:
    """The name on the wire for a name's bytes on disk, whatever the locale."""
    return name.decode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    """`text` for a terminal or a log line: whatever could steer either is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c == " " or c.isprintable() else ascii(c)[1:-1] for c in text)


def _fault(name: str) -> str | None:
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
    if not _NO_NAMES.isdisjoint(components):
        return "it has an empty, . or .. component"
    if max(map(len, components)) > _SURELY_SHORT:
        longest = max(len(to_bytes(component)) for component in components)
        if longest > MAX_COMPONENT:
            return f"a component is longer than {MAX_COMPONENT} bytes"
    return None


def _is_canonical(name: str) -> bool:
    """Surrogates that spell valid UTF-8 would be a second name for the same bytes,
    and a way to smuggle in characters that are refused when spelled plainly."""
    if name.isascii():
        return True
    try:
        return from_bytes(to_bytes(name)) == name
    except UnicodeEncodeError:
        return False
