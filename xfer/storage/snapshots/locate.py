"""Where the content of a line is now: under its name, or among the versions of that name.

    the very file (inode, size, time) under the name       nearly always
    the very file among the versions                       it was replaced since
    versions that were replaced after it was confirmed     the first of them, if clocks were right
    what is under the name, and older versions             they were not, or it was copied

That is only the order of trying. What is found is what its digest says it is: by time
alone, many lines would get other content wherever a clock was set back.
"""

from collections.abc import Iterator

from msgspec import Struct

from xfer.storage.snapshots.contents import Contents, FileStatus, Reader, Version
from xfer.storage.snapshots.hashing import Beat, Pulse, digest_of
from xfer.storage.snapshots.lines import FileLine


class Located(Struct, frozen=True):
    """The content of a line: a reader, which the caller closes, and which version it is.

    `version` is None for what is under the name.
    """

    reader: Reader
    version: Version | None


class Locator:
    """Finds contents. Used by one thread at a time. `tried` is how many files were read for it."""

    def __init__(self, contents: Contents, beat: Beat) -> None:
        """`beat` is called while files are read: see `hashing.Beat`."""
        self._contents = contents
        self._pulse = Pulse(beat)
        self.tried = 0

    def locate(self, line: FileLine) -> Located | None:
        """All of its bytes have just been read, and have its digest; None if it is nowhere.

        The line has its whole name below DIR. Refused (unsupported) for a digest that can't be
        computed here.
        """
        there = self._contents.look(line.name)
        while True:
            for version in self._candidates(line, there):
                if reader := self._matching(line, version):
                    return Located(reader, version)
            # It may have moved from its name to the versions while it was looked for.
            before, there = there, self._contents.look(line.name)
            if there == before:
                return None

    def _candidates(self, line: FileLine, there: FileStatus | None) -> Iterator[Version | None]:
        """What has the size of the line, in the order of trying; None for what has its name."""
        if there and there.is_of(line):
            yield None
        same_size = [one for one in self._contents.versions(line.name) if is_as_large(one, line)]
        yield from (one for one in same_size if one.status.is_of(line))
        others = [one for one in same_size if not one.status.is_of(line)]
        yield from (one for one in others if one.stamp >= line.confirmed)
        if there and there.size == line.size and not there.is_of(line):
            yield None
        yield from (one for one in reversed(others) if one.stamp < line.confirmed)

    def _matching(self, line: FileLine, version: Version | None) -> Reader | None:
        contents = self._contents
        reader = contents.open_version(version) if version else contents.open(line.name)
        if reader is None:
            return None
        try:
            if self._has_digest(reader, line):
                return reader
        except BaseException:
            reader.close()
            raise
        reader.close()
        return None

    def _has_digest(self, reader: Reader, line: FileLine) -> bool:
        if line.digest is None or reader.size != line.size:
            return False
        algorithm, digest = line.digest
        self.tried += 1
        return digest_of(reader, algorithm, self._pulse) == digest


def is_as_large(version: Version, line: FileLine) -> bool:
    """Whether a version has the size of a line: else it need not be read."""
    return version.status.size == line.size
