"""From an object's keys to the dataclass that they are the fields of."""

from dataclasses import MISSING
from typing import Any, TypeVar

from xfer.errors import ProtocolError
from xfer.messages.base import Object, keys

Made = TypeVar("Made", bound=Object)


def made(kind: type[Made], content: dict[str, Any]) -> Made:
    """The `kind` that `content` is. Unknown keys are ignored.

    Raises ProtocolError for a key that is missing or holds what it may not.
    """
    try:
        return kind(**content)
    except (TypeError, ProtocolError):
        content = _known(kind, content)  # nearly always there is nothing else, so look only now
    try:
        return kind(**content)
    except TypeError as error:
        raise ProtocolError(f"a {kind.type} message lacks a key") from error


def _known(kind: type[Object], content: dict[str, Any]) -> dict[str, Any]:
    """What of `content` makes a `kind`. Where a key may be left out, null leaves it out, too."""
    return {
        name: content[name]
        for name, default, _ in keys(kind)
        if name in content and (content[name] is not None or default is MISSING)
    }
