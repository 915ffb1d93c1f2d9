"""Messages: one immutable struct for each, and what each of its keys may hold.

A field of a class is the key of the same name on the wire; a field that holds
its default is left out there. `parse` and `encode` turn payloads into messages
and messages into frames. Which names are safe to store is not decided here
but in `xfer.names`; what a message leads to, in `xfer.sending` and `xfer.receiving`.
"""

from xfer.wire.messages.base import Message, type_of
from xfer.wire.messages.codec import encode, parse
from xfer.wire.messages.fields import MAX_INTEGER
from xfer.wire.messages.files import DirectoryHeader, FileHeader, SymlinkHeader
from xfer.wire.messages.offers import Offer, OfferedFile, Plan, PlannedFile
from xfer.wire.messages.opening import VERSION, Challenge, Hello, Proof, Welcome
from xfer.wire.messages.replies import Done, Error, Receipt, Refusal, Working
from xfer.wire.messages.requests import Get, List, ListedName, ListedSnapshot, Listing
from xfer.wire.messages.snapshots import Commit, Run, SnapshotMade

__all__ = [
    "MAX_INTEGER", "VERSION", "Challenge", "Commit", "DirectoryHeader", "Done", "Error",
    "FileHeader", "Get", "Hello", "List", "ListedName", "ListedSnapshot", "Listing", "Message",
    "Offer", "OfferedFile", "Plan", "PlannedFile", "Proof", "Receipt", "Refusal", "Run",
    "SnapshotMade", "SymlinkHeader", "Welcome", "Working", "encode", "parse", "type_of",
]  # fmt: skip
