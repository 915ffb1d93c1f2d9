"""Messages: one immutable struct for each, and what each of its keys may hold.

A field of a class is the key of the same name on the wire; a field that holds
its default is left out there. `parse` and `encode` turn payloads into messages
and messages into frames. Which names are safe to store is not decided here,
and what a message leads to is for `sender` and `receiver`.
"""

from xfer.messages.answers import Done, Error, Receipt, Refusal, Working
from xfer.messages.base import Message, type_of
from xfer.messages.files import DirectoryHeader, FileHeader, SymlinkHeader
from xfer.messages.offers import Offer, OfferedFile, Plan, PlannedFile
from xfer.messages.opening import VERSION, Challenge, Hello, Proof, Welcome
from xfer.messages.parsing import encode, parse
from xfer.messages.validation import MAX_INTEGER

__all__ = [
    "MAX_INTEGER", "VERSION", "Challenge", "DirectoryHeader", "Done", "Error", "FileHeader",
    "Hello", "Message", "Offer", "OfferedFile", "Plan", "PlannedFile", "Proof", "Receipt",
    "Refusal", "SymlinkHeader", "Welcome", "Working", "encode", "parse", "type_of",
]  # fmt: skip
