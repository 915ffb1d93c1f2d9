"""How many names one session may create (`--max-files`)."""

from xfer.errors import Code, Refused
from xfer.names import fingerprint, to_bytes


class NameCount:
    """Counts the names that one session stores, and the directories on the way to them.

    A name counts once, however often it is sent, and also if it is refused later.
    Used by the session's thread only.
    """

    def __init__(self, most: int | None) -> None:
        """`most` names are allowed; None for any number, of which nothing is kept."""
        self._most = most
        self._counted: set[bytes] = set()

    def add(self, name: str) -> None:
        """Count `name`. Refused (quota) when it is one too many; then it is not counted."""
        if self._most is None:
            return
        new = []
        path = to_bytes(name)
        while path and (key := fingerprint(path)) not in self._counted:
            new.append(key)
            path = path.rpartition(b"/")[0]
        if len(self._counted) + len(new) > self._most:
            reason = f"one session may create up to {self._most} files and directories"
            raise Refused(reason, code=Code.QUOTA)
        self._counted.update(new)
