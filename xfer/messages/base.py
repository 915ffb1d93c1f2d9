"""What every message is: a frozen dataclass whose fields say what they may hold."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Final

from xfer.errors import ProtocolError

USABLE: Final = "usable"
"""In the metadata of a field: the check that its value has to pass, if it is not the default."""
Keys = tuple[tuple[str, Any, Callable[[Any], bool]], ...]
_KEYS: dict[type, Keys] = {}


class Object:
    """An object on the wire, each field of which is the key of the same name.

    Raises ProtocolError when it is made of anything that a field may not hold.
    """

    __slots__ = ()
    type: ClassVar[str]

    def __post_init__(self) -> None:
        check(self)


class Message(Object):
    """What travels in a frame. `type` is the value of that key."""

    __slots__ = ()


def keys(kind: type) -> Keys:
    """Name, default (or MISSING) and check of each field of a dataclass; asked for once."""
    if kind not in _KEYS:
        _KEYS[kind] = tuple(
            (field.name, field.default, field.metadata[USABLE]) for field in fields(kind)
        )
    return _KEYS[kind]


def check(made: Object) -> None:
    """Raises ProtocolError, naming type and key."""
    for key, default, is_usable in keys(type(made)):
        value = getattr(made, key)
        if value is not default and not is_usable(value):
            raise unusable(made, key)


def unusable(made: Object | type[Object], key: str) -> ProtocolError:
    return ProtocolError(f"a {made.type} message with an unusable {key}")
