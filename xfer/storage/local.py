"""A directory on this machine as a store."""

import threading
from collections.abc import Sequence
from typing import Self

from xfer.errors import Refused
from xfer.storage import IfExists, Intake, Item, Outcome, Partial, refusal
from xfer.storage.commit import Commit
from xfer.storage.durability import Flusher
from xfer.storage.layout import Layout
from xfer.storage.partial import LocalPartial


class LocalStore:
    """The store in `directory`, which must exist and be writable.

    Raises LocalError when it can't be used, or another receiver uses it.
    `leftovers` is how many partials of a receiver that was killed were removed.
    """

    def __init__(self, directory: str, if_exists: IfExists = IfExists.VERSION) -> None:
        self._layout = Layout(directory)
        self._if_exists = if_exists
        self._installing = threading.Lock()
        self.leftovers = self._layout.remove_leftovers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_intake(self) -> Intake:
        try:
            return LocalIntake(self._layout, self._if_exists, self._installing)
        except OSError as error:
            raise refusal(error) from error

    def close(self) -> None:
        """Let go of the directory. Every intake must be closed before."""
        self._layout.close()


class LocalIntake:
    """One sender's way into a local store."""

    def __init__(self, layout: Layout, if_exists: IfExists, installing: threading.Lock) -> None:
        self._layout = layout
        self._if_exists = if_exists
        self._installing = installing
        self._flusher = Flusher(layout.root)

    def create_partial(self) -> Partial:
        return LocalPartial(self._layout)

    def commit(self, items: Sequence[Item]) -> list[Outcome | Refused]:
        with Commit(self._layout, self._if_exists, self._flusher) as commit:
            return commit.run(items, self._installing)

    def close(self) -> None:
        self._flusher.close()
