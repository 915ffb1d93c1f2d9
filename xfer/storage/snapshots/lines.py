"""What the lines of a manifest are: a header, one for each name, a footer.

    {"type":"header","format":1,"job":"nightly","key_id":"alice","directory":"clients/alice", …}
    {"type":"directory","name":"clients/alice/docs","confirmed":"20261123T030001.5Z", …}
    {"type":"file","name":"clients/alice/docs/a.txt","size":12,"md5":"6f59…", …}
    {"type":"symlink","name":"clients/alice/docs/link","target":"a.txt", …}
    {"type":"failed","name":"clients/alice/docs/b.txt","why":"…"}
    {"type":"footer","names":3, …}

A name is the whole one below DIR. It is text as on the wire: a byte that is not UTF-8
is a lone surrogate, which JSON has an escape for. Times of files are nanoseconds since
1970, all others are stamps, by the receiver's clock.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from xfer.storage.snapshots import stamps

FORMAT: Final = 1
"""Of the manifests that are written, and the only one that is read."""
MAX_LINE: Final = 1024 * 1024
"""Bytes. A name and a link's target take 25 KiB each at most, a header may list many roots."""
_MAX_INTEGER: Final = 2**63 - 1

Blake3 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0)]
Inode = Annotated[int, Meta(ge=0)]
Md5 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Mode = Annotated[int, Meta(ge=0, le=0o7777)]
Size = Annotated[int, Meta(ge=0, le=_MAX_INTEGER)]
Stamp = Annotated[str, Meta(pattern=rf"\A{stamps.PATTERN}\Z")]
Time = Annotated[int, Meta(ge=-_MAX_INTEGER, le=_MAX_INTEGER)]


class Object(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type"):
    """A line; its key `type` says which."""


class Header(Object, frozen=True, kw_only=True, tag="header"):
    """Whose run it was, and of what. `directory` is its key's, below DIR; empty for all of DIR.

    `roots` and `excludes` are what its client was told to send and to leave out. `run` is the
    run's id. An `abandoned` one was ended by the receiver: its client did not come back.
    """

    format: Literal[1]
    job: str
    key_id: str
    directory: str = ""
    host: str = ""
    roots: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    run: str
    began: Stamp
    completed: Stamp
    abandoned: bool = False


class FileLine(Object, frozen=True, kw_only=True, tag="file"):
    """A file. One of `md5` and `blake3` is there; neither in a run, where nobody has read it."""

    name: str
    size: Size
    mtime_ns: Time | None = None
    mode: Mode | None = None
    md5: Md5 | None = None
    blake3: Blake3 | None = None
    confirmed: Stamp
    inode: Inode | None = None

    @property
    def digest(self) -> tuple[str, str] | None:
        """The algorithm and the digest as hex; None where it is not known."""
        if self.md5 is not None:
            return "md5", self.md5
        return None if self.blake3 is None else ("blake3", self.blake3)


class DirectoryLine(Object, frozen=True, kw_only=True, tag="directory"):
    """A directory."""

    name: str
    mtime_ns: Time | None = None
    mode: Mode | None = None
    confirmed: Stamp


class SymlinkLine(Object, frozen=True, kw_only=True, tag="symlink"):
    """A symbolic link, and the text it holds."""

    name: str
    target: str
    confirmed: Stamp


class FailedLine(Object, frozen=True, kw_only=True, tag="failed"):
    """A file that was skipped as unchanged, and whose content the receiver could not find."""

    name: str
    why: str = ""


class Counts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many names of each kind a snapshot has, and bytes in its files.

    `new`, `changed` (another kind, content or target), `unchanged` and `gone` compare it with
    the complete snapshot of its job before it. `failed` names are in none of these.
    """

    names: Count = 0
    files: Count = 0
    directories: Count = 0
    links: Count = 0
    bytes: Count = 0
    new: Count = 0
    changed: Count = 0
    unchanged: Count = 0
    gone: Count = 0
    failed: Count = 0


class Footer(Counts, frozen=True, kw_only=True, gc=False, tag_field="type", tag="footer"):
    """The end of a manifest that is whole. `complete` says whether the run was.

    `held`: it would have been, but so much was gone or changed that somebody should look.
    """

    complete: bool
    held: bool = False


NameLine = FileLine | DirectoryLine | SymlinkLine
"""A name that a snapshot has."""
Line = NameLine | FailedLine
AnyLine = Header | Line | Footer

Kind = TypeVar("Kind")
_ENCODER: Final = msgspec.json.Encoder()


def encode(lines: Sequence[msgspec.Struct]) -> bytes:
    """These lines, each with its newline."""
    try:
        return _ENCODER.encode_lines(lines)
    except UnicodeEncodeError:  # a lone surrogate, for which JSON has an escape
        return b"".join(map(_encode_one, lines))


def _encode_one(line: msgspec.Struct) -> bytes:
    try:
        return _ENCODER.encode(line) + b"\n"
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(line), separators=(",", ":"))
        return text.encode("ascii") + b"\n"


class Decoder(Generic[Kind]):
    """Decodes lines that are each a `Kind`."""

    def __init__(self, kinds: Any) -> None:
        """`kinds` is `Kind`, once more: a union of the classes above."""
        self._kinds = kinds
        self._decoder: msgspec.json.Decoder[Kind] = msgspec.json.Decoder(kinds)

    def block(self, block: bytes) -> list[Kind]:
        """Of all lines in a block. ValueError says what is wrong, if one is none of these."""
        try:
            return self._decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [self.line(line) for line in block.split(b"\n") if line]

    def line(self, line: bytes) -> Kind:
        """Of one. ValueError as above."""
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # it may have the escape of a lone surrogate, which this decoder does not take
        try:
            decoded: Kind = msgspec.convert(json.loads(line), self._kinds)
        except (msgspec.ValidationError, ValueError, RecursionError) as error:
            raise ValueError("a line is no JSON, or not what a manifest has") from error
        return decoded


def sort_key(name: str) -> bytes:
    """Where a name is in a manifest: what is in a directory comes right after the directory.

    So bytes are compared, and "/" is less than all that a name may have in it.
    """
    return name.encode("utf-8", "surrogateescape").replace(b"/", b"\0")
