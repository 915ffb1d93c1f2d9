"""What a client may ask for in place of sending: the first message after the welcome.

    Get   ──▶  the receiver's process becomes the sender: offers, files, done
    List  ──▶  Listing, Listing, … done

Which of them a receiver can answer, its welcome says (`features`).
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from xfer.errors import ProtocolError
from xfer.wire.messages.base import Message, Object
from xfer.wire.messages.fields import Algorithm, JobName, Mode, Size, Stamp, Text, Time
from xfer.wire.messages.offers import Names

EVERYTHING: Final = "."
"""In the place of a name: all that the key sees."""
MAX_SHARES: Final = 64


class Get(Message, frozen=True, tag="get"):
    """Client: send me `names`, each under its last component, and all that is below them.

    With `at`, as the newest complete snapshots at or before that stamp have them.
    `digest` is the kind to send with; with `compare_contents`, each file is offered with
    its digest. Several connections share the files: this is number `share` of
    `shares`, from 0. In a `dry_run` no content of a file is wanted, whatever the plan says.
    `more` names follow in another `get`.
    """

    names: Names
    at: Stamp = ""
    digest: Algorithm = "md5"
    compare_contents: bool = False
    share: Annotated[int, Meta(ge=0, lt=MAX_SHARES)] = 0
    shares: Annotated[int, Meta(ge=1, le=MAX_SHARES)] = 1
    dry_run: bool = False
    more: bool = False

    def __post_init__(self) -> None:
        if self.share >= self.shares:
            raise ProtocolError("a get message whose share is none of its shares")


class List(Message, frozen=True, tag="list"):
    """Client: tell me what is in these names that are directories, and what else has them.

    With `recursive`, all that is below them; with `itself`, nothing of what is in them.
    `versions` are older contents of these names and of all below them, and `snapshots`
    what snapshots there are, whatever the names. `at` as in Get.
    """

    names: Names
    what: Literal["files", "versions", "snapshots"] = "files"
    at: Stamp = ""
    recursive: bool = False
    itself: bool = False
    more: bool = False


class ListedName(Object, frozen=True):
    """One line of a listing: what has a name.

    `kind` is "file", "directory", "symlink" or "other"; `size` in bytes, of a directory
    that of all files below it. `replaced` is when an older content was, and of what a
    snapshot has, `md5` or `blake3` is the digest.
    """

    file_name: Text
    kind: Literal["file", "directory", "symlink", "other"]
    size: Size = 0
    mtime_ns: Time | None = None
    mode: Mode | None = None
    target: Text = ""
    replaced: Stamp = ""
    md5: str = ""
    blake3: str = ""


class ListedSnapshot(Object, frozen=True):
    """A snapshot: see `snapshots.SnapshotMade`. Without counts for a key that sees a part of it."""

    key_id: Annotated[str, Meta(max_length=255)]
    job: JobName
    stamp: Stamp
    complete: bool = False
    held: bool = False
    damaged: bool = False
    names: Size | None = None
    files: Size = 0
    bytes: Size = 0
    new: Size = 0
    changed: Size = 0
    gone: Size = 0


class Listing(Message, frozen=True, tag="listing"):
    """Receiver: some lines for one of the names that were asked for, in their order.

    `last`: there are no more for this name. So a list that ends too early is none.
    Of an answer to `at`, the first has the `snapshots` that it is about.
    """

    files: Annotated[tuple[ListedName, ...], Meta(max_length=1024)] = ()
    last: bool = False
    snapshots: Annotated[tuple[ListedSnapshot, ...], Meta(max_length=1024)] = ()
