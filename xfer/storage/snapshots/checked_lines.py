"""Lines with a checksum in front of each: `3610a686 {"type":"file", …}`."""

import zlib
from collections.abc import Iterator


def checked(lines: bytes) -> bytes:
    """The same lines, each of which ends with a newline, with their checksums."""
    return b"".join(b"%08x %b\n" % (zlib.crc32(line), line) for line in lines[:-1].split(b"\n"))


def whole(lines: bytes) -> Iterator[bytes]:
    """Those of these lines, without their checksums, that are as they were written."""
    for line in lines.split(b"\n"):
        checksum, _, content = line.partition(b" ")
        if checksum == b"%08x" % zlib.crc32(content):
            yield content
