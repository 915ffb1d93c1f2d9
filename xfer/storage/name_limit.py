"""How many names one session may use."""

import hashlib
from typing import Final

from xfer.errors import Code, Refused
from xfer.names import to_bytes

_BRIEF_BYTES: Final = 8
"""Of a digest that stands for a name, which may be long."""


class NameCount:
    """The names that a session has used, and the directories on the way to them.

    What is refused later counts, too; the same name counts once.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._known: set[bytes] = set()

    def add(self, name: str) -> None:
        """Refused (quota) when it is one too many; then it is not counted."""
        if self._most is None:
            return
        new = []
        path = to_bytes(name)
        while path and (brief := _brief(path)) not in self._known:
            new.append(brief)
            path = path.rpartition(b"/")[0]
        if len(self._known) + len(new) > self._most:
            reason = f"one session may create up to {self._most} files and directories"
            raise Refused(reason, code=Code.QUOTA)
        self._known.update(new)


def _brief(path: bytes) -> bytes:
    return hashlib.blake2b(path, digest_size=_BRIEF_BYTES).digest()
