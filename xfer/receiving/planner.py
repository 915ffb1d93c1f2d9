"""What a receiver wants of an offer: for each file, all of it, the rest, or nothing.

    the file under its name has        and                       action
    ---------------------------        ---                       ------
    the same content                   its metadata can be set   skip
    other content, or none             a partial was kept        resume at the partial's end
    the beginning, 1 MiB or more       no partial was kept       resume at its end
    anything else                                                send

It is the same content if the digest is, or where the sender offers none, size
and time: the time that the store can hold, which may be in whole seconds. Where
these agree and the digest does not, the plan says that it `differs`. What another
program put there is flushed before it is skipped. Whether what is resumed really is
the beginning of the sender's file, the sender finds out: the plan has a digest of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from xfer import digests, names
from xfer.errors import Refused
from xfer.receiving.observer import ReceivingObserver
from xfer.receiving.receipts import ECHOED_NAME, ReceiptSender
from xfer.receiving.recorder import RunRecorder
from xfer.receiving.rehash import Rehasher
from xfer.receiving.uploads import MIN_RESUME_BYTES, Upload, Uploads
from xfer.storage.contract import Metadata, StoredFile, StoreWriter
from xfer.wire.keepalive import Progress
from xfer.wire.messages import Offer, OfferedFile, Plan, PlannedFile
from xfer.wire.messages.offers import in_frames


class Planner:
    """Answers the offers of one session. Used by its thread only.

    `receipts` is told of files that are refused: a refusal goes out before the
    plan that says "refuse". `observer` is told of those that are not sent, or not whole.
    """

    def __init__(
        self,
        writer: StoreWriter,
        uploads: Uploads,
        rehasher: Rehasher,
        receipts: ReceiptSender,
        observer: ReceivingObserver | None = None,
    ) -> None:
        self._observer = observer
        self._recorder: RunRecorder | None = None
        self._writer = writer
        self._uploads = uploads
        self._rehasher = rehasher
        self._receipts = receipts

    def record_in(self, recorder: RunRecorder) -> None:
        """Record what is skipped, from now on."""
        self._recorder = recorder

    def plans(self, offer: Offer) -> Iterator[Plan]:
        """The answer, in as many messages as it takes; each is to be sent before the next.

        It takes as long as hashing what is here does, with heartbeats: ConnectionLost
        when one of these finds the sender gone.
        """
        if offer.directories:
            yield from self._absent(offer.directories)
        safe = [file.file_name for file in offer.files if names.is_safe(file.file_name)]
        stored = dict(zip(safe, self._writer.statuses(safe), strict=True))
        self._require_flushed(offer.files, stored)
        kept = self._writer.kept(safe)
        planned: Iterator[PlannedFile]
        planned = (self._plan(file, stored, kept, offer.digest) for file in offer.files)
        if self._observer:
            planned = map(partial(self._tell, self._observer, offer.digest), offer.files, planned)
        for files in in_frames(planned, lambda file: file.file_name):
            if self._recorder:
                self._recorder.record_skipped()
            yield Plan(tuple(files))

    def _require_flushed(
        self, files: Sequence[OfferedFile], stored: dict[str, StoredFile | None]
    ) -> None:
        """Flush what may be skipped and other programs put there; forget what may be lost."""
        unflushed = [
            file.file_name
            for file in files
            if (found := stored.get(file.file_name))
            and not found.flushed
            and found.size == file.file_size
        ]
        if unflushed:
            for name in self._rehasher.flush(self._writer, unflushed):
                stored[name] = None

    def _absent(self, directories: Sequence[str]) -> Iterator[Plan]:
        absent = self._writer.absent([name for name in directories if names.is_safe(name)])
        for some in in_frames(absent, str):
            yield Plan((), tuple(some))

    @staticmethod
    def _tell(
        observer: ReceivingObserver, algorithm: str, offered: OfferedFile, planned: PlannedFile
    ) -> PlannedFile:
        name, digest = offered.file_name, offered.digest
        if planned.action == "skip":
            observer.unchanged(name, offered.file_size, algorithm if digest else "", digest or "")
        elif planned.action != "refuse":
            observer.wanted(name, offered.file_size)
        if planned.action == "resume":
            observer.resumed(name, planned.offset)
        return planned

    def _plan(
        self,
        offered: OfferedFile,
        stored: Mapping[str, StoredFile | None],
        kept: set[str],
        algorithm: str,
    ) -> PlannedFile:
        """Plan one file. `stored` has what is under every safe name."""
        name = offered.file_name
        try:
            if name not in stored:
                names.check(name)
            self._receipts.forget_refusal(name)
            return self._plan_safe(offered, stored[name], algorithm, is_kept=name in kept)
        except Refused as error:
            self._receipts.refuse(name, error)
            return PlannedFile(name[:ECHOED_NAME], "refuse")

    def _plan_safe(
        self, offered: OfferedFile, stored: StoredFile | None, algorithm: str, *, is_kept: bool
    ) -> PlannedFile:
        """Plan a file with a safe name, of which a partial may be kept if `is_kept`."""
        is_same = stored is not None and self._is_same(offered, stored, algorithm)
        if stored and is_same and self._update(offered, stored):
            if self._recorder:
                held = self._writer.held_time(offered.mtime_ns)
                self._recorder.add_skipped(offered, stored, held)
            return PlannedFile(offered.file_name, "skip")
        differs = stored is not None and not is_same and self._looks_same(offered, stored)
        if differs:
            self._receipts.tell_difference(offered.file_name)
        planned = self._plan_content(offered, stored, algorithm, is_kept=is_kept)
        return replace(planned, differs=True) if differs else planned

    def _plan_content(
        self, offered: OfferedFile, stored: StoredFile | None, algorithm: str, *, is_kept: bool
    ) -> PlannedFile:
        """Plan a file that is not here as it is offered: how much of it is to be sent."""
        name = offered.file_name
        self._uploads.keep_resumable(name)  # of an earlier offer in this session
        partial = self._resumable(offered, algorithm) if is_kept else None
        self._writer.require(name, offered.file_size, partial.size if partial else 0)
        if partial:
            return _resume(name, partial.size, {algorithm: partial.digest.hexdigest()})
        if stored and MIN_RESUME_BYTES <= stored.size < offered.file_size:
            digest = self._digest_of_stored(name, stored.size, algorithm)
            return _resume(name, stored.size, {algorithm: digest})
        return PlannedFile(name, "send")

    def _is_same(self, offered: OfferedFile, stored: StoredFile, algorithm: str) -> bool:
        if stored.size != offered.file_size:
            return False
        if offered.digest is None:
            return self._looks_same(offered, stored)
        return self._digest_of_stored(offered.file_name, stored.size, algorithm) == offered.digest

    def _looks_same(self, offered: OfferedFile, stored: StoredFile) -> bool:
        """Whether size and time agree: all that is compared where no digest is offered."""
        held = offered.file_size, self._writer.held_time(offered.mtime_ns)
        return (stored.size, stored.mtime_ns) == held

    def _update(self, offered: OfferedFile, stored: StoredFile) -> bool:
        """Give the stored file the mode and time of the offered one; False if it must not be."""
        held = offered.mode, self._writer.held_time(offered.mtime_ns)
        if (stored.mode, stored.mtime_ns) == held:
            return True
        if stored.has_other_names:
            return False
        metadata = Metadata(offered.mode, offered.mtime_ns)
        return self._writer.set_metadata(offered.file_name, metadata)

    def _resumable(self, offered: OfferedFile, algorithm: str) -> Upload | None:
        """The kept partial, hashed and locked; None if there is none that can be resumed."""
        name = offered.file_name
        partial = None if self._uploads.is_arriving(name) else self._writer.find_partial(name)
        if partial is None:
            return None
        if not 0 < partial.size <= offered.file_size:
            partial.discard()
            return None
        return self._uploads.add_resumable(name, partial, algorithm)

    def _digest_of_stored(self, name: str, size: int, algorithm: str) -> str:
        digest = digests.new(algorithm)
        if stored := self._writer.open_stored(name):
            try:
                self._rehasher.hash_beginning(stored, digest, Progress(name, size))
            finally:
                stored.close()
        return digest.hexdigest()


def _resume(name: str, offset: int, digest: Mapping[str, str]) -> PlannedFile:
    return PlannedFile(name, "resume", offset, differs=False, **digest)
