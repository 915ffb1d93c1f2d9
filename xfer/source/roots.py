"""The paths that a user names, and the name that each is sent under. `tree` walks them."""

import os
from collections.abc import Sequence
from typing import Final

from xfer import names
from xfer.errors import LocalError, UsageError

STDIN: Final = "-"


def check(paths: Sequence[str], stream_name: str | None = None) -> None:
    """Fail early, before connecting: UsageError as `roots`, LocalError if no path exists."""
    if not paths:
        raise UsageError("nothing to send")
    roots(paths, stream_name)
    missing = [path for path in paths if path != STDIN and not os.path.lexists(path)]
    if len(missing) == len(paths):
        raise LocalError(f"no such file or directory: {missing[0]}")


def roots(paths: Sequence[str], stream_name: str | None) -> list[tuple[str, str]]:
    """Name and path of each of `paths`. UsageError when two have the same name, or one has none."""
    found: dict[str, str] = {}
    for given in paths:
        path = given.rstrip("/") or given  # with a slash at the end, a link would be followed
        if path == STDIN and not stream_name:
            raise UsageError("standard input has no name of its own: give it one with --name")
        name = stream_name if path == STDIN else _own_name(path)
        if name in found:
            raise UsageError(f"{found[name]} and {path} would both be stored as {name}")
        found[name or ""] = path
    if stream_name and STDIN not in paths:
        raise UsageError("--name goes with standard input (-) only")
    return list(found.items())


def _own_name(path: str) -> str:
    name = os.path.basename(os.path.abspath(path))
    if not name:
        raise UsageError(f"{path} has no name to be stored under: name what is in it")
    return names.from_bytes(os.fsencode(name))
