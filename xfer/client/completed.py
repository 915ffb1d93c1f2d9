"""The names of a job that are completed, in memory that does not grow with every file."""

from collections import defaultdict


class CompletedNames:
    """Names that are completed. A directory that is stands for all that is in it.

    Not thread-safe: guarded by the lock of what holds it.
    """

    def __init__(self) -> None:
        self._in: defaultdict[str, set[str]] = defaultdict(set)
        """By directory: the last components of names in it that are completed."""
        self._whole_in: defaultdict[str, set[str]] = defaultdict(set)
        """By directory: those of directories in it that are completed with all that they hold."""

    def __bool__(self) -> bool:
        return bool(self._in)

    def __contains__(self, name: str) -> bool:
        parent, _, own = name.rpartition("/")
        if own in self._in.get(parent, ()):
            return True
        while parent:
            parent, _, own = parent.rpartition("/")
            if own in self._whole_in.get(parent, ()):
                return True
        return False

    def add(self, name: str) -> None:
        parent, _, own = name.rpartition("/")
        self._in[parent].add(own)

    def add_whole(self, directory: str) -> None:
        """Add a directory, and all that is in it; the names that it stands for are forgotten."""
        self.add(directory)
        parent, _, own = directory.rpartition("/")
        self._whole_in[parent].add(own)
        self._in.pop(directory, None)
        self._whole_in.pop(directory, None)
