"""A receiver's directory with its real store, as the tests of snapshots use one."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.support.stores import commit as commit_items
from tests.support.stores import put
from xfer.storage.contract import Metadata, NewDirectory, NewSymlink
from xfer.storage.local.contents import LocalContents
from xfer.storage.local.layout import Layout
from xfer.storage.local.store import LocalStore
from xfer.storage.posix.flush import Flusher
from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.commit import Request, commit
from xfer.storage.snapshots.draft import Rules
from xfer.storage.snapshots.job import Committed
from xfer.storage.snapshots.lines import DirectoryLine, FileLine, Line, NameLine, SymlinkLine
from xfer.storage.snapshots.making import Backing
from xfer.storage.snapshots.manifest import Manifest
from xfer.storage.snapshots.runs import RunHeader, open_run


class Nas:
    """Sends are what a session does: through the store's writer, then written down."""

    def __init__(self, root: Path, key_id: str = "alice", *, durable: bool = True) -> None:
        self.root = root
        self.key_id = key_id
        self.store = LocalStore(str(root), durable=durable)
        self.writer = self.store.open_writer(key_id)
        layout: Layout = self.store._layout
        self.state = layout.state
        self.flusher = Flusher(layout.root, layout.file_system, layout.lock, durable=durable)
        self.contents = LocalContents(layout, self.flusher)
        self.backing = Backing(self.state, self.contents, self.flusher)

    def close(self) -> None:
        self.writer.close()
        self.flusher.close()
        self.store.close()

    def file(self, name: str, content: bytes) -> FileLine:
        put(self.writer, name, content)
        return replace(self.skip(name), md5=hashlib.md5(content).hexdigest())

    def skip(self, name: str) -> FileLine:
        """The line of a file that was not sent again: nobody has read it."""
        status = (self.root / name).lstat()
        return FileLine(
            name=name,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            mode=status.st_mode & 0o777,
            inode=status.st_ino,
            confirmed=stamps.now(),
        )

    def directory(self, name: str) -> DirectoryLine:
        commit_items(self.writer, [NewDirectory(name, Metadata(0o755, 10**18))])
        return DirectoryLine(name=name, mode=0o755, mtime_ns=10**18, confirmed=stamps.now())

    def link(self, name: str, target: str) -> SymlinkLine:
        commit_items(self.writer, [NewSymlink(name, target)])
        return SymlinkLine(name=name, target=target, confirmed=stamps.now())

    def record(self, lines: Iterable[NameLine], run: str = "", job: str = "nightly") -> str:
        """One session of a run; the run's id."""
        run = run or secrets.token_hex(16)
        header = RunHeader(job=job, roots=("docs",), host="pc", began=stamps.now())
        with open_run(self.state, self.key_id, run, header) as recorder:
            recorder.record(list(lines))
        return run

    def commit(self, run: str, names: int = 0, *, job: str = "nightly", **rules: Any) -> Committed:
        request = Request(key_id=self.key_id, job=job, run=run, names=names, rules=Rules(**rules))
        return commit(self.backing, request, lambda _done, _size: None)

    def snapshot(self, *lines: NameLine, **rules: Any) -> Committed:
        """A run of one session that ends well."""
        return self.commit(self.record(lines), len({line.name for line in lines}), **rules)

    def manifests(self, job: str = "nightly") -> list[Path]:
        return sorted((self.root / ".xfer/snapshots" / self.key_id / job).glob("*.gz"))

    def runs(self) -> list[str]:
        """The ids of those that have not become snapshots, of any key."""
        return [name.rpartition(".")[2] for name in os.listdir(self.root / ".xfer/runs")]

    def versions(self, name: str) -> list[bytes]:
        kept = self.root / ".xfer/versions" / name
        return [path.read_bytes() for path in sorted(kept.glob("*Z"))]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Manifest]:
    with Manifest(path.open("rb"), path.name) as manifest:
        yield manifest


def lines_of(path: Path) -> list[Line]:
    with opened(path) as manifest:
        return list(manifest)
