"""What a receiver wants of an offer: all of a file, the rest of it, or nothing."""

from collections.abc import Iterator, Mapping, Sequence

from xfer import digests, names
from xfer.errors import Refused
from xfer.receiving.receipts import ECHOED_NAME, ReceiptSender
from xfer.receiving.rehash import Rehasher
from xfer.receiving.uploads import WORTH_CONTINUING, Uploads
from xfer.storage.contract import Metadata, StoredFile, StoreWriter
from xfer.wire.keepalive import Progress
from xfer.wire.messages import Offer, OfferedFile, Plan, PlannedFile
from xfer.wire.messages.offers import in_frames


class Planner:
    """What one session wants."""

    def __init__(
        self,
        writer: StoreWriter,
        uploads: Uploads,
        rehasher: Rehasher,
        receipts: ReceiptSender,
    ) -> None:
        self._writer = writer
        self._rehasher = rehasher
        self._uploads = uploads
        self._receipts = receipts

    def plans(self, offer: Offer) -> Iterator[Plan]:
        """The answer to `offer`, made while it is read."""
        if offer.directories:
            yield from self._absent(offer.directories)
        safe = [file.file_name for file in offer.files if names.is_safe(file.file_name)]
        stored = dict(zip(safe, self._writer.statuses(safe), strict=True))
        kept = self._writer.kept(safe)
        planned = (self._plan(file, stored, kept, offer.digest) for file in offer.files)
        for files in in_frames(planned, lambda file: file.file_name):
            yield Plan(tuple(files))

    def _absent(self, directories: Sequence[str]) -> Iterator[Plan]:
        absent = self._writer.absent([name for name in directories if names.is_safe(name)])
        for some in in_frames(absent, str):
            yield Plan((), tuple(some))

    def _plan(
        self,
        file: OfferedFile,
        stored: Mapping[str, StoredFile | None],
        kept: set[str],
        algorithm: str,
    ) -> PlannedFile:
        name = file.file_name
        try:
            if name not in stored:
                names.check(name)
            self._receipts.forget_refusal(name)
            return self._plan_safe(file, stored[name], algorithm, is_kept=name in kept)
        except Refused as error:
            self._receipts.refuse(name, error)
            return PlannedFile(name[:ECHOED_NAME], "refuse")

    def _plan_safe(
        self, offered: OfferedFile, stored: StoredFile | None, algorithm: str, *, is_kept: bool
    ) -> PlannedFile:
        """What is to be done with one offered file, given what has its name now.

        `is_kept` where an earlier session may have left some of it.
        """
        name = offered.file_name
        if stored and self._is_same(offered, stored, algorithm):
            is_new = (stored.mode, stored.mtime_ns) != (offered.mode, offered.mtime_ns)
            if not is_new:
                return PlannedFile(name, "skip")
            if not stored.has_other_names:
                self._writer.set_metadata(name, Metadata(offered.mode, offered.mtime_ns))
                return PlannedFile(name, "skip")
        self._uploads.release(name)
        offset = self._resumable_bytes(offered, algorithm) if is_kept else 0
        self._writer.require(name, offered.file_size, offset)
        if offset:
            digest = self._uploads.digest_of_prepared(name)
            return PlannedFile(name, "resume", offset, **{algorithm: digest})
        if stored and WORTH_CONTINUING <= stored.size < offered.file_size:
            digest = self._digest_of_stored(name, stored.size, algorithm)
            return PlannedFile(name, "resume", stored.size, **{algorithm: digest})
        return PlannedFile(name, "send")

    def _is_same(self, offered: OfferedFile, stored: StoredFile, algorithm: str) -> bool:
        if stored.size != offered.file_size:
            return False
        if offered.digest is None:
            return stored.mtime_ns == offered.mtime_ns
        return self._digest_of_stored(offered.file_name, stored.size, algorithm) == offered.digest

    def _resumable_bytes(self, offered: OfferedFile, algorithm: str) -> int:
        """How much of the file an earlier session left; it is hashed and locked then."""
        name = offered.file_name
        partial = None if self._uploads.is_arriving(name) else self._writer.find_partial(name)
        if partial is None:
            return 0
        if not 0 < partial.size <= offered.file_size:
            partial.discard()
            return 0
        self._uploads.prepare(name, partial, algorithm)
        return partial.size

    def _digest_of_stored(self, name: str, size: int, algorithm: str) -> str:
        digest = digests.new(algorithm)
        if stored := self._writer.open_stored(name):
            try:
                self._rehasher.hash_prefix(stored, digest, Progress(name, size), None)
            finally:
                stored.close()
        return digest.hexdigest()
