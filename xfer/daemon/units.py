"""The systemd units of a receiver, filled in for one directory and one user."""

import os
import pwd
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from xfer.config.defaults import DEFAULT_PORT
from xfer.errors import LocalError

_COMMAND: Final = (sys.executable, "-m", "xfer", "receive")


class Unit(StrEnum):
    SERVICE = "service"
    SOCKET = "socket"


class Place(Struct, frozen=True):
    """What the receiver of a unit serves, and where it listens.

    `options` are all that its command has, `reloads` says whether SIGHUP means
    something to it.
    """

    directory: str
    options: Sequence[str]
    bind: str = ""
    port: int = DEFAULT_PORT
    reloads: bool = False


def text_of(unit: Unit, place: Place) -> str:
    """The text of a unit for systemd's system manager; the service runs as who asks for it."""
    from importlib import resources  # slow to load, and every start would

    text = resources.files("xfer.daemon").joinpath("templates", f"xfer.{unit}").read_text("ascii")
    directory = _quoted(os.path.abspath(place.directory))
    filled_in = {
        "@DIRECTORY@": directory,
        "@USER@": _user(),
        "@COMMAND@": " ".join(map(_argument, [*_COMMAND, *place.options])),
        "@RELOAD@\n": "ExecReload=/bin/kill -HUP $MAINPID\n" if place.reloads else "",
        "@ADDRESS@": _address(place),
    }
    for mark, value in filled_in.items():
        text = text.replace(mark, value)
    return text


def _address(place: Place) -> str:
    if not place.bind:
        return str(place.port)
    bind = f"[{place.bind}]" if ":" in place.bind else place.bind
    return f"{bind}:{place.port}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _argument(word: str) -> str:
    """A word of ExecStart, in which $ means something, too."""
    return _quoted(word).replace("$", "$$")


def _quoted(word: str) -> str:
    """By systemd.syntax(7) and systemd.unit(5)."""
    if not word.isprintable():
        raise LocalError("systemd's units cannot hold this name, which has control characters")
    word = word.replace("%", "%%")
    if not any(character in word for character in " \"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
