"""Counting the lines of a manifest: what its footer has to say of them."""

from xfer.storage.snapshots.lines import (
    Counts,
    DirectoryLine,
    FailedLine,
    FileLine,
    Line,
    SymlinkLine,
)


class Tally:
    """The counts of the lines that `add` was given."""

    def __init__(self) -> None:
        self.files = self.bytes = self.directories = self.links = self.failed = 0

    @property
    def names(self) -> int:
        return self.files + self.directories + self.links

    def add(self, line: Line) -> None:
        match line:
            case FileLine():
                self.files += 1
                self.bytes += line.size
            case DirectoryLine():
                self.directories += 1
            case SymlinkLine():
                self.links += 1
            case FailedLine():
                self.failed += 1

    def agrees_with(self, counts: Counts) -> bool:
        """Whether they are those of a footer. More may have failed than what has a line."""
        return (
            (self.names, self.files, self.directories, self.links, self.bytes)
            == (counts.names, counts.files, counts.directories, counts.links, counts.bytes)
            and self.failed <= counts.failed
            and counts.new + counts.changed + counts.unchanged == counts.names
        )
