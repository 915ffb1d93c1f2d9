"""What of a job is over and done with, in memory that does not grow with every file."""

from collections import defaultdict


class CompletedNames:
    """Names. Once a directory is completed, it stands for all that is in it."""

    def __init__(self) -> None:
        self._in: defaultdict[str, set[str]] = defaultdict(set)
        self._whole_in: defaultdict[str, set[str]] = defaultdict(set)

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
        """This one, and all that is in it, found or not."""
        self.add(directory)
        parent, _, own = directory.rpartition("/")
        self._whole_in[parent].add(own)
        self._in.pop(directory, None)
        self._whole_in.pop(directory, None)
