"""Lines and manifests, as the tests of storage/snapshots/ make them."""

import datetime
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.lines import (
    DirectoryLine,
    FileLine,
    Footer,
    Header,
    Line,
    SymlinkLine,
    sort_key,
)
from xfer.storage.snapshots.manifest import Manifest, ManifestWriter
from xfer.storage.snapshots.tally import Tally

STAMP = "20261123T030002.123456Z"
RUN = "0123456789abcdef" * 2
HEADER = Header(format=1, job="nightly", key_id="alice", run=RUN, began=STAMP, completed=STAMP)
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def a_file(name: str, **keys: Any) -> FileLine:
    line = FileLine(name=name, size=12, mtime_ns=10**18, mode=0o644, md5=MD5, confirmed=STAMP)
    return replace(line, **keys)


def a_directory(name: str) -> DirectoryLine:
    return DirectoryLine(name=name, mode=0o755, mtime_ns=10**18, confirmed=STAMP)


def a_link(name: str, target: str = "a.txt") -> SymlinkLine:
    return SymlinkLine(name=name, target=target, confirmed=STAMP)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """One line a name, in the order of a manifest."""
    return sorted({line.name: line for line in lines}.values(), key=lambda one: sort_key(one.name))


def footer_of(lines: Iterable[Line], **keys: Any) -> Footer:
    tally = Tally()
    for line in lines:
        tally.add(line)
    counts = {key: getattr(tally, key) for key in ("names", "files", "directories", "links")}
    return Footer(
        **{**counts, "bytes": tally.bytes, "failed": tally.failed, "new": tally.names}
        | {"complete": not tally.failed}
        | keys
    )


def manifest_of(
    lines: Sequence[Line], header: Header = HEADER, footer: Footer | None = None
) -> bytes:
    """A manifest with these lines as they are."""
    written = io.BytesIO()
    writer = ManifestWriter(written, header)
    for line in lines:
        writer.add(line)
    writer.end(footer or footer_of(lines))
    return written.getvalue()


def opened(content: bytes) -> Manifest:
    return Manifest(io.BufferedReader(io.BytesIO(content)), "file")


def text_of(content: bytes) -> list[bytes]:
    """The lines in a manifest, as zcat shows them."""
    return gzip.decompress(content).splitlines(keepends=True)


def place(
    state: Path, lines: Iterable[Line], *, key_id: str = "alice", job: str = "nightly", **keys: Any
) -> Path:
    """Put a manifest where a receiver would have; `keys` are those of its header."""
    header = replace(HEADER, key_id=key_id, job=job, **keys)
    directory = state / "snapshots" / key_id / job
    directory.mkdir(parents=True, exist_ok=True)
    ordered = in_order(lines)
    footer = footer_of(ordered)
    kind = "" if footer.complete else ".incomplete"
    path = directory / f"{header.completed}{kind}.jsonl.gz"
    path.write_bytes(manifest_of(ordered, header, footer))
    return path


def stamp(number: int) -> str:
    """The stamp of a moment, so many seconds after the first."""
    moment = stamps.moment_of(STAMP) + datetime.timedelta(seconds=number)
    return stamps.stamp_of(moment)
