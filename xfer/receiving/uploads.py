"""The files of one session that are arriving, and what there is of them from before.

A file continues where an earlier session left it (its partial), or where
older content of that name ends (a log that has grown). Either way the bytes
that are there are hashed again first.
"""

import time
from typing import Final

from msgspec import Struct

from xfer import digests, names
from xfer.digests import Digest
from xfer.errors import Code, Refused
from xfer.receiving.rehash import Rehasher
from xfer.storage.contract import Metadata, Partial, Readable, StoreWriter
from xfer.wire.keepalive import Progress
from xfer.wire.messages import FileHeader

_MAX_OPEN: Final = 16
"""Files of one session of which some parts have come and others have not."""
_MAX_RESUMABLE: Final = 16
"""Files that are held for a sender who was told where to go on, and may never do so."""
NOT_WHAT_WAS_SENT: Final = "what arrived does not match its digest"
WORTH_CONTINUING: Final = 1024 * 1024
"""Bytes: older content that is smaller travels again sooner than it is compared."""


class Upload(Struct):
    """A file that is arriving: what is there so far, and its running digest.

    `verified` is how many bytes of it the sender's digests agree with.
    """

    partial: Partial
    algorithm: str
    digest: Digest
    began: float
    verified: int = 0

    @property
    def size(self) -> int:
        return self.partial.size


class Uploads:
    """What one session has open. Everything is `Refused` that the store refuses."""

    def __init__(self, writer: StoreWriter, rehasher: Rehasher) -> None:
        self._writer = writer
        self._rehasher = rehasher
        self._arriving: dict[str, Upload] = {}
        self._resumable: dict[str, Upload] = {}

    @property
    def are_arriving(self) -> bool:
        return bool(self._arriving)

    def is_arriving(self, name: str) -> bool:
        return name in self._arriving

    def prepare(self, name: str, partial: Partial, algorithm: str) -> None:
        """Hash what an earlier session kept: the sender is told to go on from there."""
        self._resumable[name] = self._resumed(partial, name, algorithm)
        if len(self._resumable) > _MAX_RESUMABLE:
            self.release(next(iter(self._resumable)))  # found, and hashed, again when it comes

    def digest_of_prepared(self, name: str) -> str:
        return self._resumable[name].digest.hexdigest()

    def receive_whole(self, header: FileHeader, content: memoryview) -> Partial:
        """All of a small file at once: nothing to continue, and nothing to keep."""
        name = names.check(header.file_name)
        self._writer.count(name)
        self.abandon(name)
        digest = digests.new(header.algorithm)
        digest.update(content)
        if digest.hexdigest() != header.digest:
            raise Refused(NOT_WHAT_WAS_SENT, code=Code.DIGEST_MISMATCH)
        partial = self._writer.create_partial(None, len(content))
        try:
            partial.write(content)
            partial.finish(Metadata(header.mode, header.mtime_ns))
        except Refused:
            partial.discard()
            raise
        return partial

    def expect(self, header: FileHeader) -> Upload:
        """Where the body of `header` goes."""
        name = names.check(header.file_name)
        upload = self._arriving.get(name)
        if upload and header.offset and upload.size == header.offset:
            upload.partial.reserve(header.least_size)
            return upload
        self._writer.count(name)
        if not header.offset:
            self.abandon(name)
            upload = self._begun(header)
        elif not upload:
            upload = self._continued(header)
        if upload is None or upload.size != header.offset:
            if upload and name not in self._arriving:
                upload.partial.keep()
            raise Refused("this part continues nothing that is here", code=Code.BAD_PART)
        if len(self._arriving) >= _MAX_OPEN:
            self._keep(next(iter(self._arriving)))  # the sender gave it up long ago
        self._arriving[name] = upload
        upload.partial.reserve(header.least_size)
        return upload

    def complete(self, name: str) -> Upload:
        """Every part of the file has come; it is the caller's from here on."""
        return self._arriving.pop(name)

    def abandon(self, name: str) -> None:
        """What has come, now or before, is good for nothing."""
        for uploads in (self._arriving, self._resumable):
            if upload := uploads.pop(name, None):
                upload.partial.discard()

    def fall_back(self, name: str, error: Refused) -> None:
        """A part was refused: of what has come, keep what is known to be good."""
        upload = self._arriving.get(name)
        if upload and error.code == Code.DIGEST_MISMATCH:
            upload.partial.truncate(upload.verified)
            self._keep(name)
        else:
            self.abandon(name)

    def keep_all(self) -> dict[str, int]:
        """Leave everything to a later session; how many bytes of which file that is."""
        kept = {name: upload.size for name, upload in self._arriving.items()}
        for name in kept:
            self._keep(name)
        for name in list(self._resumable):
            self.release(name)
        return kept

    def _begun(self, header: FileHeader) -> Upload:
        digest = digests.new(header.algorithm)
        # A small file in one part is cheaper sent again than found again.
        is_small = header.is_last and header.body < WORTH_CONTINUING
        # And what came from standard input cannot be sent again.
        name = None if is_small or header.file_size is None else header.file_name
        partial = self._writer.create_partial(name, header.file_size)
        return Upload(partial, header.algorithm, digest, time.monotonic())

    def _continued(self, header: FileHeader) -> Upload | None:
        name, algorithm = header.file_name, header.algorithm
        if upload := self._resumable.pop(name, None):
            return upload
        if partial := self._writer.find_partial(name):
            if partial.size == header.offset:
                return self._resumed(partial, name, algorithm)
            partial.keep()
        stored = self._writer.open_stored(name)
        if stored is None:
            return None
        try:
            return self._copied(stored, header) if stored.size == header.offset else None
        finally:
            stored.close()

    def _resumed(self, partial: Partial, name: str, algorithm: str) -> Upload:
        try:
            upload = Upload(partial, algorithm, digests.new(algorithm), time.monotonic())
            self._rehasher.hash_prefix(partial, upload.digest, Progress(name, partial.size), None)
        except BaseException:
            partial.keep()
            raise
        return upload

    def _copied(self, stored: Readable, header: FileHeader) -> Upload:
        name, algorithm = header.file_name, header.algorithm
        digest = digests.new(algorithm)
        partial = self._writer.create_partial(name, header.least_size)
        upload = Upload(partial, algorithm, digest, time.monotonic())
        try:
            self._rehasher.hash_prefix(
                stored, upload.digest, Progress(name, header.offset), partial
            )
        except BaseException:
            partial.discard()
            raise
        return upload

    def _keep(self, name: str) -> None:
        self._arriving.pop(name).partial.keep()

    def release(self, name: str) -> None:
        if upload := self._resumable.pop(name, None):
            upload.partial.keep()
