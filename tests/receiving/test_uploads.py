"""Uploads: where a part may be appended, what counts as verified, and what is kept."""

import hashlib
from pathlib import Path

import pytest

from tests.support.stores import leave_partial, put
from xfer.errors import Code, Refused
from xfer.receiving.uploads import MIN_RESUME_BYTES, Upload, Uploads
from xfer.storage.contract import Partial, StoreWriter
from xfer.wire.messages import FileHeader

WHOLE = bytes(range(256)) * 4


def md5(content: bytes | bytearray) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def part(begin: int, end: int, whole: bytes = WHOLE, name: str = "f") -> FileHeader:
    return FileHeader(name, len(whole), md5(whole[:end]), offset=begin, length=end - begin)


def receive(uploads: Uploads, header: FileHeader, whole: bytes = WHOLE) -> Upload:
    """What a session does with a part."""
    upload = uploads.upload_for(header)
    body = whole[header.offset : header.end]
    upload.digest.update(body)
    upload.partial.write(body)
    upload.verify(header)
    return upload


def content_of(partial: Partial) -> bytes:
    content = bytearray(partial.size)
    partial.read_at(0, memoryview(content))
    return bytes(content)


def kept(writer: StoreWriter, name: str = "f") -> bytes | None:
    """What a later session finds of a file."""
    partial = writer.find_partial(name)
    if partial is None:
        return None
    content = content_of(partial)
    partial.keep()
    return content


def refused(uploads: Uploads, header: FileHeader) -> str:
    with pytest.raises(Refused) as error:
        receive(uploads, header)
    uploads.roll_back(header.file_name, error.value)
    return error.value.code


def test_parts_in_order_become_the_file(uploads: Uploads) -> None:
    for begin in range(0, len(WHOLE), 256):
        upload = receive(uploads, part(begin, begin + 256))
        assert (uploads.are_arriving, upload.verified) == (True, begin + 256)
    uploads.finish(part(768, 1024))
    assert not uploads.are_arriving
    assert content_of(upload.partial) == WHOLE
    upload.partial.discard()


def test_a_small_file_in_one_piece_is_a_finished_partial(uploads: Uploads) -> None:
    partial = uploads.receive_whole(part(0, len(WHOLE)), memoryview(WHOLE))
    assert content_of(partial) == WHOLE
    assert not uploads.are_arriving
    partial.discard()


def test_a_small_file_that_is_not_what_was_sent_leaves_nothing(
    uploads: Uploads, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as error:
        uploads.receive_whole(part(0, len(WHOLE)), memoryview(WHOLE[::-1]))
    assert error.value.code == Code.DIGEST_MISMATCH
    assert list((tmp_path / ".xfer" / "partials").iterdir()) == []


@pytest.mark.parametrize("begin", [255, 257, 512])
def test_a_part_that_continues_nothing_is_refused(uploads: Uploads, begin: int) -> None:
    receive(uploads, part(0, 256))
    assert refused(uploads, part(begin, 768)) == Code.BAD_PART


def test_a_wrong_part_takes_only_itself_back(uploads: Uploads, writer: StoreWriter) -> None:
    receive(uploads, part(0, 256))
    assert refused(uploads, part(256, 512, WHOLE[::-1])) == Code.DIGEST_MISMATCH
    assert kept(writer) == WHOLE[:256]
    receive(uploads, part(256, 512))


def test_any_other_refusal_discards_what_has_come(uploads: Uploads, writer: StoreWriter) -> None:
    receive(uploads, part(0, 256))
    assert refused(uploads, part(512, 768)) == Code.BAD_PART
    assert kept(writer) is None


def test_parts_of_one_file_use_one_kind_of_digest(uploads: Uploads) -> None:
    receive(uploads, part(0, 256))
    other = FileHeader("f", len(WHOLE), blake3=64 * "0", offset=256, length=256)
    assert refused(uploads, other) == Code.BAD_PART


def test_what_an_earlier_session_left_is_continued(uploads: Uploads, writer: StoreWriter) -> None:
    leave_partial(writer, "f", WHOLE[:300])
    assert content_of(receive(uploads, part(300, 1024)).partial) == WHOLE


def test_the_stored_file_is_continued_in_a_copy(uploads: Uploads, writer: StoreWriter) -> None:
    put(writer, "f", WHOLE[:300])
    assert content_of(receive(uploads, part(300, 1024)).partial) == WHOLE
    stored = writer.open_stored("f")
    assert stored
    assert stored.size == 300
    stored.close()


def test_a_later_session_finds_what_has_come_of_each_file(
    uploads: Uploads, writer: StoreWriter
) -> None:
    receive(uploads, part(0, 256, name="f"))
    receive(uploads, part(0, 512, name="g"))
    assert uploads.keep_all() == {"f": 256, "g": 512}
    assert (kept(writer, "f"), kept(writer, "g")) == (WHOLE[:256], WHOLE[:512])


def test_what_could_not_be_resumed_is_not_kept(uploads: Uploads, writer: StoreWriter) -> None:
    """A small file in one part, and standard input, which has no size."""
    uploads.upload_for(part(0, len(WHOLE))).partial.write(WHOLE)
    stream = FileHeader("stream", None, md5(WHOLE), length=len(WHOLE))
    uploads.upload_for(stream).partial.write(WHOLE)
    uploads.keep_all()
    assert (kept(writer, "f"), kept(writer, "stream")) == (None, None)


def test_a_large_file_in_one_part_is_kept(uploads: Uploads, writer: StoreWriter) -> None:
    whole = bytes(MIN_RESUME_BYTES)
    uploads.upload_for(part(0, len(whole), whole)).partial.write(WHOLE)
    uploads.keep_all()
    assert kept(writer) == WHOLE


def test_only_so_many_files_are_open_and_the_oldest_can_go_on_all_the_same(
    uploads: Uploads, writer: StoreWriter
) -> None:
    for number in range(17):
        receive(uploads, part(0, 256, name=str(number)))
    assert not uploads.is_arriving("0")
    assert kept(writer, "0") == WHOLE[:256]
    assert content_of(receive(uploads, part(256, 1024, name="0")).partial) == WHOLE


def test_only_so_many_resumable_partials_are_locked(uploads: Uploads, writer: StoreWriter) -> None:
    for number in range(17):
        leave_partial(writer, str(number), WHOLE[:300])
        partial = writer.find_partial(str(number))
        assert partial
        upload = uploads.add_resumable(str(number), partial, "md5")
        assert upload
        assert upload.digest.hexdigest() == md5(WHOLE[:300])
    assert kept(writer, "0") == WHOLE[:300]
    with pytest.raises(Refused) as error:
        kept(writer, "16")
    assert error.value.code == Code.BUSY
