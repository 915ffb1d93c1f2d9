"""What fuzzing begins with and how it goes on: valid messages, and small harm done to them."""

import hashlib
import random
from collections.abc import Sequence
from typing import Final

from xfer.outcomes import Outcome
from xfer.wire import messages
from xfer.wire.frames import MAX_PAYLOAD
from xfer.wire.messages import (
    Challenge,
    DirectoryHeader,
    Done,
    Error,
    FileHeader,
    Get,
    Hello,
    List,
    ListedName,
    Listing,
    Message,
    Offer,
    OfferedFile,
    Plan,
    PlannedFile,
    Proof,
    Receipt,
    Refusal,
    SymlinkHeader,
    Welcome,
    Working,
)

HEX: Final = "0123456789abcdef" * 4
BODY: Final = b"what matters\n"
MD5: Final = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
NAME: Final = "fuzz/a.txt"

EVERY_MESSAGE: Final[list[Message]] = [
    Hello(1, "default", HEX),
    Challenge(1, HEX),
    Proof(HEX),
    Welcome(HEX, ["md5", "blake3"], durable=True, max_file_size=2**62),
    FileHeader(NAME, len(BODY), MD5, mode=0o644, mtime_ns=1_700_000_000_000_000_000),
    FileHeader("ü/\udcff", None, None, HEX, 3, 4),
    DirectoryHeader("fuzz/d", 0o755, 1),
    SymlinkHeader("fuzz/link", "../a.txt"),
    Offer((OfferedFile(NAME, 12, 7, 0o600, MD5), OfferedFile("b", 0)), "blake3"),
    Offer((), directories=("fuzz", "ü/\udcff")),
    Plan((), ("fuzz", "ü/\udcff")),
    Plan((PlannedFile(NAME, "send"), PlannedFile("b", "resume", 7, None, HEX))),
    Receipt(NAME, Outcome.STORED, len(BODY), MD5),
    Refusal(NAME, "exists", "taken", retryable=False),
    Error("busy", "later", retryable=True),
    Working(NAME, 1, 2),
    Done(),
    Get((NAME, "."), "20261123T030002.123456Z", "blake3", compare_contents=True, more=True),
    Get(("ü/\udcff",), share=3, shares=4),
    List((NAME,), "versions", recursive=True),
    Listing(
        (ListedName(NAME, "file", 12, 7, 0o600, md5=MD5), ListedName("l", "symlink", target="b"))
    ),
]
PAYLOADS: Final = [messages.encode(message)[4:] for message in EVERY_MESSAGE]
NAMES: Final = [
    "a", "docs/a.txt", ".xfer/lock", "../up", "/etc/x", "a//b", "a/./b", "a\0b", "ü/\udcff",
    "\udcc3\udca9", "\ud800", "a\x1b[2J", "a" * 255, "/".join(["a" * 255] * 16), ".xfer2",
]  # fmt: skip

TOKENS: Final[list[bytes]] = [
    b"null", b"true", b"-0", b"-1", b"0.0", b"1e400", b"-1e400", b"1e3", b"NaN", b"Infinity",
    b"9223372036854775807", b"9223372036854775808", b"9" * 400, b"9" * 5000, b"00", b"0x1",
    b'""', b'"\\ud800"', b'"\\udc80"', b'"\\udcc3\\udca9"', b'"\\u0000"', b"\\u002e", b"\\u001b",
    b"[", b"]", b"{", b"}", b"[]", b"{}", b"[[[[[[[[", b'{"a":', b",", b":", b'"', b"\\",
    b'"type":', b'"file_name":', b'"file_size":', b'"offset":', b'"length":', b'"files":',
    b'"md5":', b'"mode":', b'"target":', b'"..', b"/", b"/../", b".xfer", b"\xff", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\0", b"\0\0\0\2{}", b"\0\1\0\0", b"\xff\xff\xff\xff", b"\x16\3\1\2\0",
]  # fmt: skip
_INTERESTING: Final = bytes([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x2E, 0x2F, 0x5B, 0x5C, 0x7B, 0x7D])


class Mutator:
    """Harms bytes at random. The same seed does the same harm."""

    def __init__(self, seed: int, others: Sequence[bytes]) -> None:
        self.random = random.Random(seed)
        self._others = others
        self._operations = [
            self._flip, self._flip, self._set, self._insert, self._insert, self._delete,
            self._repeat, self._splice, self._swap,
        ]  # fmt: skip

    def __call__(self, data: bytes, most: int = MAX_PAYLOAD) -> bytes:
        """`data` after one to four mutations, and rarely one that fills a frame."""
        harmed = bytearray(data)
        chance = self.random.random
        for _ in range(1 + int(chance() * chance() * 4)):
            self.random.choice(self._operations)(harmed)
        if chance() < 0.001:
            piece = self.random.choice([*TOKENS, bytes(harmed[:50]) or b"["])
            at = self._at(harmed)
            harmed[at:at] = piece * ((most - len(harmed)) // len(piece))
        return bytes(harmed[:most])

    def _at(self, data: bytearray) -> int:
        return int(self.random.random() * (len(data) + 1))

    def _span(self, data: bytearray) -> slice:
        at = self._at(data)
        return slice(at, at + 1 + int(self.random.random() ** 3 * 40))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._at(data) - 1] ^= 1 << int(self.random.random() * 8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._at(data) - 1] = self.random.choice(_INTERESTING)

    def _insert(self, data: bytearray) -> None:
        span = self._span(data)
        at, end = span.start, self.random.choice([span.start, span.stop])
        data[at:end] = self.random.choice(TOKENS)

    def _delete(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _repeat(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = data[self._span(data)] * int(1 + self.random.random() ** 4 * 20)

    def _splice(self, data: bytearray) -> None:
        other = self.random.choice(self._others)
        data[self._at(data) :] = other[int(self.random.random() * (len(other) + 1)) :]

    def _swap(self, data: bytearray) -> None:
        one, other = self._span(data), self._span(data)
        data[one], data[other] = data[other], data[one]
