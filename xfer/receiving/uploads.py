"""The files of one session of which some bytes are here and others are still to come.

The beginning of a file can come from four places:

    header with offset 0 ──────────────> an empty partial ───────┐
    a later part of an arriving file ──> its partial ────────────┤
    offset of a kept partial ──────────> the partial, hashed ────┼──> Upload <── body
    size of the stored file ───────────> a copy of it, hashed ───┘

A kept partial is what an earlier session left of a file. The stored file, which
has the name now, is the beginning of one that has grown, such as a log.
"""

import time
from typing import Final

from msgspec import Struct

from xfer import digests, names
from xfer.digests import Digest
from xfer.errors import Code, Refused
from xfer.receiving.rehash import Rehasher
from xfer.storage.contract import Metadata, Partial, StoreWriter
from xfer.storage.reading import Readable
from xfer.wire.keepalive import Progress
from xfer.wire.messages import FileHeader

MIN_RESUME_BYTES: Final = 1024 * 1024
"""To send less than this again takes less time than to find, hash and compare it."""
_MAX_ARRIVING: Final = 16
"""Files of one session of which some parts have come and others have not."""
_MAX_RESUMABLE: Final = 16
"""Partials that are open, and locked, for a sender that was told to resume and may never do so."""
_MISMATCH: Final = "what arrived does not match its digest"


class Upload(Struct):
    """A file that is arriving: its partial, and the running digest of what is in there.

    `began` is when its first byte came (`time.monotonic`), and `verified` how many
    bytes from its beginning matched a digest of the sender's.
    """

    partial: Partial
    algorithm: str
    digest: Digest
    began: float
    verified: int = 0

    @property
    def size(self) -> int:
        """How many bytes are here."""
        return self.partial.size

    def verify(self, header: FileHeader) -> None:
        """Compare what is here with the digest in the header of the part that came last.

        Refused (bad_part, digest_mismatch) when it is not what was sent.
        """
        if self.algorithm != header.algorithm:
            raise Refused("parts of one file use one kind of digest", code=Code.BAD_PART)
        if self.digest.hexdigest() != header.digest:
            raise Refused(_MISMATCH, code=Code.DIGEST_MISMATCH)
        self.verified = header.end


class Uploads:
    """The uploads of one session. Used by its thread only, but for `hold`.

    Every method raises Refused when the store refuses something.
    """

    def __init__(self, writer: StoreWriter, rehasher: Rehasher) -> None:
        self._writer = writer
        self._rehasher = rehasher
        self._arriving: dict[str, Upload] = {}
        # Kept partials of which a plan has told the sender offset and digest.
        self._resumable: dict[str, Upload] = {}

    @property
    def are_arriving(self) -> bool:
        """True while there is a file of which parts are missing."""
        return bool(self._arriving)

    def is_arriving(self, name: str) -> bool:
        return name in self._arriving

    def hold(self, name: str) -> bool:
        """Whether a partial of this name is open, and locked. Any thread may ask: each lookup of
        a str in a dict is atomic, and the answer may be outdated a moment later."""
        return name in self._arriving or name in self._resumable

    # Before a file arrives

    def add_resumable(self, name: str, partial: Partial, algorithm: str) -> Upload | None:
        """Hash a kept partial, and have it ready to be resumed; None if it is good for nothing."""
        upload = self._rehashed(partial, name, algorithm)
        if upload is None:
            return None
        self._resumable[name] = upload
        if len(self._resumable) > _MAX_RESUMABLE:
            # If this one is resumed after all, it is found and hashed once more.
            self.keep_resumable(next(iter(self._resumable)))
        return upload

    def keep_resumable(self, name: str) -> None:
        """Close and unlock the partial of `add_resumable`, if it is still there."""
        if upload := self._resumable.pop(name, None):
            upload.partial.keep()

    # While it arrives

    def receive_whole(self, header: FileHeader, content: memoryview) -> Partial:
        """Returns a finished partial, which the caller now owns, with all of a small file.

        Refused (digest_mismatch) when `content` is not what was sent: it is hashed
        first, so that no partial need be made for it.
        """
        name = names.check(header.file_name)
        self._writer.count(name)
        self._discard(name)
        digest = digests.new(header.algorithm)
        digest.update(content)
        if digest.hexdigest() != header.digest:
            raise Refused(_MISMATCH, code=Code.DIGEST_MISMATCH)
        partial = self._writer.create_partial(None, len(content))
        try:
            partial.write(content)
            partial.finish(Metadata(header.mode, header.mtime_ns))
        except Refused:
            partial.discard()
            raise
        return partial

    def upload_for(self, header: FileHeader) -> Upload:
        """Where the body of `header` is to be appended.

        Refused (bad_part) when there is nothing that ends at the header's offset.
        """
        name = names.check(header.file_name)
        upload = self._arriving.get(name)
        if upload and header.offset and upload.size == header.offset:
            upload.partial.reserve(header.least_size)
            return upload
        self._writer.count(name)
        if not header.offset:
            self._discard(name)
            upload = self._created(header)
        elif not upload:
            upload = self._resumed(header)
        if upload is None or upload.size != header.offset:
            if upload and name not in self._arriving:
                upload.partial.keep()
            raise Refused("this part continues nothing that is here", code=Code.BAD_PART)
        if len(self._arriving) >= _MAX_ARRIVING:
            self._keep(next(iter(self._arriving)))  # the sender gave it up long ago
        self._arriving[name] = upload
        upload.partial.reserve(header.least_size)
        return upload

    def finish(self, header: FileHeader) -> None:
        """Finish the partial of a file of which every part has come. The caller now owns it."""
        upload = self._arriving[header.file_name]
        upload.partial.finish(Metadata(header.mode, header.mtime_ns))
        del self._arriving[header.file_name]

    # When it does not

    def roll_back(self, name: str, error: Refused) -> None:
        """After a part was refused, keep what is verified if only its bytes were wrong."""
        upload = self._arriving.get(name)
        if upload and error.code == Code.DIGEST_MISMATCH:
            upload.partial.truncate(upload.verified)
            self._keep(name)
        else:
            self._discard(name)

    def keep_all(self) -> dict[str, int]:
        """Leave every partial to a later session. Returns the bytes of each file that arrived."""
        sizes = {name: upload.size for name, upload in self._arriving.items()}
        for name in sizes:
            self._keep(name)
        for name in list(self._resumable):
            self.keep_resumable(name)
        return sizes

    def _keep(self, name: str) -> None:
        self._arriving.pop(name).partial.keep()

    def _discard(self, name: str) -> None:
        for uploads in (self._arriving, self._resumable):
            if upload := uploads.pop(name, None):
                upload.partial.discard()

    # Where the beginning of a file is

    def _created(self, header: FileHeader) -> Upload:
        digest = digests.new(header.algorithm)
        is_small = header.is_last and header.body < MIN_RESUME_BYTES
        # A partial without a name is never kept. A file of unknown size comes from standard
        # input, which cannot be sent again.
        name = None if is_small or header.file_size is None else header.file_name
        partial = self._writer.create_partial(name, header.file_size)
        return Upload(partial, header.algorithm, digest, time.monotonic())

    def _resumed(self, header: FileHeader) -> Upload | None:
        """The kept partial, or a copy of the stored file, if that ends at the header's offset."""
        name = header.file_name
        if upload := self._resumable.pop(name, None):
            return upload
        if partial := self._writer.find_partial(name):
            if partial.size == header.offset:
                return self._rehashed(partial, name, header.algorithm)
            partial.keep()
        stored = self._writer.open_stored(name)
        if stored is None:
            return None
        try:
            return self._copied(stored, header) if stored.size == header.offset else None
        finally:
            stored.close()

    def _rehashed(self, partial: Partial, name: str, algorithm: str) -> Upload | None:
        """A kept partial, hashed; None for one that can't be read, which is discarded."""
        upload = Upload(partial, algorithm, digests.new(algorithm), time.monotonic())
        try:
            self._rehasher.hash_kept(partial, upload.digest, Progress(name, partial.size))
        except Refused:
            partial.discard()
            return None
        except BaseException:
            partial.keep()
            raise
        return upload

    def _copied(self, stored: Readable, header: FileHeader) -> Upload:
        """Copied, because the stored file stays as it is until all of the new one is here."""
        name, algorithm = header.file_name, header.algorithm
        digest = digests.new(algorithm)
        partial = self._writer.create_partial(name, header.least_size)
        upload = Upload(partial, algorithm, digest, time.monotonic())
        try:
            self._rehasher.hash_beginning(stored, digest, Progress(name, header.offset), partial)
        except BaseException:
            partial.discard()
            raise
        return upload
