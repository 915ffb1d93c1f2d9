"""Which keys of an object on the wire are the fields of a dataclass."""

from dataclasses import MISSING, fields
from typing import Any

_KEYS: dict[type, dict[str, Any]] = {}


def keys(kind: type) -> dict[str, Any]:
    """The names of a dataclass's fields and their defaults; asked for once per class."""
    if kind not in _KEYS:
        _KEYS[kind] = {field.name: field.default for field in fields(kind)}
    return _KEYS[kind]


def known(kind: type, content: dict[str, Any]) -> dict[str, Any]:
    """What of `content` makes a `kind`. Where a key may be left out, null leaves it out, too."""
    fields = keys(kind)
    if content.keys() <= fields.keys() and None not in content.values():
        return content
    return {
        name: content[name]
        for name, default in fields.items()
        if name in content and (content[name] is not None or default is MISSING)
    }
