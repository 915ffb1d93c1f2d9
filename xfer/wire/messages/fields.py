"""What a key of a message may hold: annotations for the fields of its struct."""

from typing import Annotated, Final

from msgspec import Meta

MAX_INTEGER: Final = 2**63 - 1
"""Of a size in bytes, and of a time in nanoseconds since 1970: what a file system can hold."""

Algorithm = Annotated[str, Meta(pattern=r"\A(md5|blake3)\Z")]
Blake3 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Host = Annotated[str, Meta(max_length=64)]
"""The name of a machine, as it calls itself: 64 characters are what Linux has room for."""
JobName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}\Z")]
Md5 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Mode = Annotated[int, Meta(ge=0, le=0o7777)]
RunId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Size = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Stamp = Annotated[str, Meta(pattern=r"\A(\d{8}T\d{6}\.\d{6}Z)?\Z")]
"""A moment in UTC, as versions and snapshots are named: 20261123T030002.123456Z. Or none."""
Text = Annotated[str, Meta(max_length=32_768)]
"""Characters. Names are held to a shorter limit, see `xfer.names`."""
Time = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Word = Annotated[str, Meta(max_length=64)]
"""An error code, which may be one of a later version."""
