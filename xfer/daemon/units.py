"""The systemd units of a receiver, filled in for one directory and one user."""

import os
import pwd
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from xfer.config.addresses import format_address
from xfer.errors import LocalError
from xfer.server.settings import ReceiverSettings

_COMMAND: Final = (sys.executable, "-m", "xfer", "receive")


class Unit(StrEnum):
    SERVICE = "service"
    SOCKET = "socket"


def text_of(unit: Unit, settings: ReceiverSettings, options: Sequence[str]) -> str:
    """The text of a unit for systemd's system manager; the service runs as the present user.

    `options` are the words of its command line, from which `settings` were made.
    """
    from importlib import resources  # slow to load, and every start would

    text = resources.files("xfer.daemon").joinpath("templates", f"xfer.{unit}").read_text("ascii")
    directory = _quoted(os.path.abspath(settings.directory))
    filled_in = {
        "@DIRECTORY@": directory,
        "@USER@": _user(),
        "@COMMAND@": " ".join(map(_argument, [*_COMMAND, *options])),
        "@RELOAD@\n": "ExecReload=/bin/kill -HUP $MAINPID\n" if settings.keys is not None else "",
        "@ADDRESS@": _address(settings),
    }
    for mark, value in filled_in.items():
        text = text.replace(mark, value)
    return text


def _address(settings: ReceiverSettings) -> str:
    if not settings.bind:
        return str(settings.port)
    return format_address(settings.bind, settings.port)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _argument(word: str) -> str:
    """A word of ExecStart, where $ begins a variable."""
    return _quoted(word).replace("$", "$$")


def _quoted(word: str) -> str:
    """A word quoted by systemd.syntax(7), with the specifiers of systemd.unit(5) escaped."""
    if not word.isprintable():
        raise LocalError("systemd's units cannot hold this name, which has control characters")
    word = word.replace("%", "%%")
    if not any(character in word for character in " \"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
