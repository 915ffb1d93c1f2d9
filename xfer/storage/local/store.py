"""A directory on this machine as a store."""

import contextlib
from collections.abc import Iterator
from typing import Final, Self

from msgspec.structs import replace

from xfer.errors import LocalError, UsageError
from xfer.names import to_bytes
from xfer.storage.contract import (
    PARTIAL_DAYS,
    Access,
    IfExists,
    Limits,
    StoreWriter,
    TakeOver,
    take_nothing_over,
)
from xfer.storage.local.contents import LocalContents
from xfer.storage.local.layout import Layout
from xfer.storage.local.reader import LocalStoreReader, StoreParts
from xfer.storage.local.recording import commit_run
from xfer.storage.local.usage import LocalDisk
from xfer.storage.local.workers import WorkerState
from xfer.storage.local.writer import LocalStoreWriter, Sender
from xfer.storage.os_errors import refusal
from xfer.storage.posix.flush import Flusher
from xfer.storage.quota import Account, Ledger
from xfer.storage.reading import Beat
from xfer.storage.recording import EndedRun, Snapshot
from xfer.storage.snapshots.given_up import tidy as tidy_runs
from xfer.storage.snapshots.making import Backing

_DAY_SECONDS: Final = 86_400.0


class LocalStore:
    """The store in `directory`, which must exist and be writable (`contract.Store`).

    Partials that no session continues are removed `partial_days` after their
    last change. `durable=False` leaves out every flush: a crash may then take
    what has a receipt. `leftovers` says what a receiver that was killed left.

    Any thread may call its methods, but for `prepare_fork`, `after_fork` and
    `close`. Raises LocalError when the directory can't be used, or another
    receiver uses it.
    """

    def __init__(
        self,
        directory: str,
        if_exists: IfExists = IfExists.VERSION,
        *,
        durable: bool = True,
        partial_days: float = PARTIAL_DAYS,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
    ) -> None:
        self.limits = limits
        self._layout = Layout(directory)
        self._flushes = durable
        self.doubt = self._layout.file_system.doubt if durable else ""
        """Why a flush may be in vain on this file system; empty where it is not."""
        self.durable = durable and not self.doubt
        self._if_exists = if_exists
        self._partial_seconds = partial_days * _DAY_SECONDS
        self._ledger = Ledger(LocalDisk(self._layout), limits.min_free)
        self._worker_state: WorkerState | None = None
        try:
            # A receiver that was killed may have made names that it did not flush.
            self._layout.flushed.begin(durable=durable)
            self.leftovers = self._layout.kept.remove_leftovers(self._partial_seconds)
        except LocalError:
            self._layout.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_writer(
        self,
        owner: str,
        access: Access = Access(),  # noqa: B008 (frozen)
        take_over: TakeOver = take_nothing_over,
        host: str = "",
    ) -> StoreWriter:
        flusher = self._flusher()
        if_exists = None if access.adds else access.if_exists or self._if_exists
        sender = Sender(owner, self._account(access), take_over, self._layout.note_host(host))
        try:
            return LocalStoreWriter(sender, self._layout, flusher, if_exists)
        except OSError as error:
            flusher.close()
            raise refusal(error) from error

    def open_reader(self, access: Access) -> LocalStoreReader:
        layout = self._layout
        parts = StoreParts(layout.files, layout.versions, layout.state)
        return LocalStoreReader(parts, access.directory)

    def commit_run(self, owner: str, access: Access, ended: EndedRun, beat: Beat) -> Snapshot:
        with self._backing() as backing:
            return commit_run(backing, owner, ended, beat, gone_to_versions=access.gone)

    @contextlib.contextmanager
    def _backing(self) -> Iterator[Backing]:
        flusher = self._flusher()
        try:
            yield Backing(self._layout.state, LocalContents(self._layout, flusher), flusher)
        finally:
            flusher.close()

    def _flusher(self) -> Flusher:
        layout = self._layout
        try:
            return Flusher(
                layout.root,
                layout.file_system,
                layout.lock,
                durable=self._flushes,
                on_failure=layout.flushed.note_failure,
            )
        except OSError as error:
            raise refusal(error) from error

    def prepare(self, access: Access) -> None:
        """Begin to count what is stored for a sender with a quota, before it connects.

        Returns at once.
        """
        self._account(access)

    def _account(self, access: Access) -> Account:
        quota = self.limits.quota if access.quota is None else access.quota
        return self._ledger.open(to_bytes(access.directory), replace(self.limits, quota=quota))

    def prepare_fork(self, workers: int) -> None:
        """Get ready for so many worker processes: fork them after this, each calls `after_fork`.

        UsageError when there is a quota or `min_free`: each process would count for itself.
        """
        if self._ledger.counts:
            raise UsageError("quotas and --min-free are for a receiver with one worker")
        self._worker_state = WorkerState(workers)

    def after_fork(self, number: int, predecessor: int | None) -> None:
        """Be the worker with this number, 0 to `workers` - 1; call it before any thread starts.

        `predecessor` is the id of the killed process that had this number before,
        if any: what it left is cleaned up. LocalError when that can't be done.
        """
        if self._worker_state is None:
            raise RuntimeError("prepare_fork comes first")
        try:
            self._worker_state.after_fork(self._layout, number, predecessor, durable=self._flushes)
        except OSError as error:
            raise LocalError(f"a worker cannot use the directory: {error.strerror}") from error

    def tidy(self) -> None:
        self._layout.kept.tidy(self._partial_seconds)
        with self._backing() as backing:
            tidy_runs(backing)

    def close(self) -> None:
        """Close the directory, and wait for walks under way. Every writer must be closed before."""
        self._ledger.close()
        self._layout.close()
