"""Names that are gone from a job: noted while two snapshots are compared, moved afterwards.

They may be as many as there are names at all, so they wait in a temporary file.
"""

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Self

from xfer.storage.snapshots.contents import OwnContents
from xfer.storage.snapshots.hashing import Pulse
from xfer.storage.snapshots.lines import Decoder, DirectoryLine, FailedLine, Line, NameLine, encode
from xfer.storage.snapshots.sorting import unnamed_file

_TOGETHER: Final = 500
"""Names that are moved with one flush."""
_NAMES: Final = Decoder[NameLine](NameLine)


class GoneNames:
    """Closed as a context. OSError when there is no room for the temporary file."""

    def __init__(self, directory: int) -> None:
        """For an open directory that the temporary file is made in."""
        self._file = io.BufferedRandom(unnamed_file(directory))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, line: Line) -> None:
        """In the order of a manifest."""
        if not isinstance(line, FailedLine):
            self._file.write(encode([line]))

    def move(self, contents: OwnContents, pulse: Pulse) -> int:
        """Move them to the versions; how many were there to be moved. OSError or Refused."""
        self._file.seek(0)
        lines = inside_out(map(_NAMES.line, self._file))
        moved = 0
        while some := list(islice(lines, _TOGETHER)):
            moved += contents.move_to_versions(some)
            pulse()
        return moved


def inside_out(lines: Iterable[NameLine]) -> Iterator[NameLine]:
    """Lines in the order of a manifest, each directory after what is in it."""
    above: list[DirectoryLine] = []
    for line in lines:
        while above and not line.name.startswith(above[-1].name + "/"):
            yield above.pop()
        if isinstance(line, DirectoryLine):
            above.append(line)
        else:
            yield line
    yield from reversed(above)
