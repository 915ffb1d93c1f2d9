"""The digest of a file that was skipped as unchanged: of the snapshot before, or read once.

Who skips a file compares its size and time, and reads nothing. So its line says which
file it was (inode, size, time), and has no digest yet.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from xfer.storage.snapshots.contents import Contents, Reader
from xfer.storage.snapshots.hashing import Pulse, digest_of, status_of
from xfer.storage.snapshots.lines import FailedLine, FileLine, Line

_REPLACED = "its content was replaced or removed before the receiver had read it"
_GIVEN_UP = "the run was given up before the receiver had read it"


class Digester:
    """Completes lines without a digest. Used by one thread."""

    def __init__(self, contents: Contents | None, algorithm: str, pulse: Pulse) -> None:
        """Without `contents`, nothing is read."""
        self._contents = contents
        self._algorithm = algorithm
        self._pulse = pulse

    def completed(self, line: FileLine, before: Line | None) -> FileLine | FailedLine:
        """The line with its digest. `before` is that of the same name in the snapshot before.

        A failed one if what was skipped is neither under its name nor among its versions.
        """
        if line.digest:
            return line
        if isinstance(before, FileLine) and _is_same_file(line, before):
            return replace(line, md5=before.md5, blake3=before.blake3)
        if self._contents is None:
            return FailedLine(name=line.name, why=_GIVEN_UP)
        for reader in self._candidates(self._contents, line):
            if digest := self._read(reader, line):
                return replace(line, **{self._algorithm: digest})
        return FailedLine(name=line.name, why=_REPLACED)

    def _candidates(self, contents: Contents, line: FileLine) -> Iterator[Reader]:
        """What looks like the file of the line, open. The caller closes each."""
        if reader := contents.open(line.name):
            yield reader
        for version in contents.versions(line.name):
            if version.status.is_of(line) and (reader := contents.open_version(version)):
                yield reader

    def _read(self, reader: Reader, line: FileLine) -> str | None:
        try:
            status = status_of(reader)
            if status and status.is_of(line):
                return digest_of(reader, self._algorithm, self._pulse)
            return None
        finally:
            reader.close()


def _is_same_file(line: FileLine, before: FileLine) -> bool:
    """Of a file that has no inode or no time to be known by, nothing is the same."""
    known, other = ((one.size, one.mtime_ns, one.inode) for one in (line, before))
    return known == other and None not in known
