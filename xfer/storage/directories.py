"""Directories below the root, opened component by component and never through a link."""

import contextlib
import os
from typing import Final, Self

from xfer.errors import Code, Refused
from xfer.names import STATE_DIRECTORY

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directories:
    """Descriptors of the directories that one batch touches; closed with it.

    `changed` collects the descriptors in which a name was made, moved or
    replaced, so that they can be flushed.
    """

    def __init__(self, root: int, *, create: bool = True) -> None:
        self._root = root
        self._create = create
        self._opened: dict[bytes, int] = {b"": root}
        self.changed: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path, descriptor in self._opened.items():
            if path:
                os.close(descriptor)

    def open(self, path: bytes) -> int:
        """The descriptor of the directory `path` below the root, made if missing.

        FileNotFoundError if it is missing and was not to be made.
        """
        if path in self._opened:
            return self._opened[path]
        walked = b""
        for component in path.split(b"/"):
            parent = self._opened[walked]
            walked = walked + b"/" + component if walked else component
            if walked not in self._opened:
                self._opened[walked] = self._open_or_make(component, parent)
        return self._opened[path]

    def _open_or_make(self, component: bytes, parent: int) -> int:
        try:
            descriptor = os.open(component, OPEN_DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not self._create:
                raise
            with contextlib.suppress(FileExistsError):  # another thread made it meanwhile
                os.mkdir(component, dir_fd=parent)
            self.changed.add(parent)
            descriptor = os.open(component, OPEN_DIRECTORY, dir_fd=parent)
        if parent == self._root and component.lower() == STATE_DIRECTORY.encode():
            self._require_other_than_state(descriptor)
        return descriptor

    def _require_other_than_state(self, descriptor: int) -> None:
        """A file system that folds case has more than one name for the state directory."""
        state = os.stat(STATE_DIRECTORY, dir_fd=self._root, follow_symlinks=False)
        if os.path.samestat(os.fstat(descriptor), state):
            os.close(descriptor)
            raise Refused("unsafe name: it is the receiver's own", code=Code.BAD_NAME)
