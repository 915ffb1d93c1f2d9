"""Notes in the store what one session of a run confirms, before its sender is told.

Planner ── skipped ────────┐
                           ├──▶ RunRecorder ──▶ writer.record
Session ── a batch, done ──┘

So whoever holds a receipt finds the name in the snapshot that the run becomes.
"""

from xfer.errors import Refused
from xfer.receiving.commit_queue import ArrivedItem
from xfer.receiving.committer import CommittedBatch
from xfer.storage.contract import NewDirectory, NewFile, NewSymlink, StoredFile
from xfer.storage.recording import Confirmed, RunWriter
from xfer.wire.messages import OfferedFile


class RunRecorder:
    """Used by the session's thread only. Every method that records raises Refused."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._skipped: list[Confirmed] = []

    def add_skipped(self, offered: OfferedFile, stored: StoredFile, mtime_ns: int | None) -> None:
        """A file that is there as it was offered, and has this time now. See `record_skipped`."""
        algorithm = "md5" if offered.md5 else "blake3"
        self._skipped.append(
            Confirmed(
                offered.file_name,
                "file",
                stored.size,
                stored.mtime_ns if mtime_ns is None else mtime_ns,
                stored.mode if offered.mode is None else offered.mode,
                stored.inode,
                algorithm if offered.digest else "",
                offered.digest or "",
            )
        )

    def record_skipped(self) -> None:
        """Call it before the plan goes out."""
        if self._skipped:
            skipped, self._skipped = self._skipped, []
            self._writer.record(skipped)

    def record_committed(self, committed: CommittedBatch) -> None:
        """Call it before the receipts go out."""
        self._writer.record(
            [
                _confirmed(arrived)
                for arrived, outcome in committed
                if not isinstance(outcome, Refused)
            ]
        )


def _confirmed(arrived: ArrivedItem) -> Confirmed:
    match arrived.item:
        case NewFile(name, partial):
            stored = partial.stored
            algorithm, digest = next(iter(arrived.digest.items()), ("", ""))
            return Confirmed(
                name,
                "file",
                arrived.size,
                stored.mtime_ns if stored else None,
                stored.mode if stored else None,
                stored.inode if stored else None,
                algorithm,
                digest,
            )
        case NewDirectory(name, metadata):
            return Confirmed(name, "directory", 0, metadata.mtime_ns, metadata.mode)
        case NewSymlink(name, target):
            return Confirmed(name, "symlink", target=target)
