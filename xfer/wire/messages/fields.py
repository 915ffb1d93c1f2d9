"""What a key of a message may hold: annotations for the fields of its struct."""

from typing import Annotated, Final

from msgspec import Meta

MAX_INTEGER: Final = 2**63 - 1

Algorithm = Annotated[str, Meta(pattern=r"\A(md5|blake3)\Z")]
Blake3 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Md5 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Mode = Annotated[int, Meta(ge=0, le=0o7777)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Size = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Text = Annotated[str, Meta(max_length=32_768)]
Time = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Word = Annotated[str, Meta(max_length=64)]
