"""Messages: each survives the wire, and each key holds what it should or nothing gets past."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xfer.errors import ProtocolError
from xfer.outcomes import Outcome
from xfer.wire import messages
from xfer.wire.messages import (
    Challenge,
    DirectoryHeader,
    Done,
    Error,
    FileHeader,
    Hello,
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
from xfer.wire.messages.offers import in_frames

HEX = "0123456789abcdef" * 4
MD5 = HEX[:32]
MOST = 2**63 - 1
NAME = "ü/\udcff"

Fields = Mapping[str, object]

PAIRS: list[tuple[Message, Fields]] = [
    (Hello(1, "default", HEX), {"version": 1, "key_id": "default", "nonce": HEX}),
    (Challenge(1, HEX), {"version": 1, "nonce": HEX}),
    (Proof(HEX), {"mac": HEX}),
    (Welcome(HEX, ["md5", "x"]), {"mac": HEX, "digests": ["md5", "x"]}),
    (FileHeader(NAME, 12, MD5), {"file_name": NAME, "file_size": 12, "md5": MD5}),
    (
        FileHeader(NAME, MOST, None, HEX, 3, 4, 0o7777, -MOST),
        {"file_name": NAME, "file_size": MOST, "blake3": HEX, "offset": 3, "length": 4,
         "mode": 0o7777, "mtime_ns": -MOST},
    ),
    (DirectoryHeader(NAME), {"file_name": NAME}),
    (DirectoryHeader(NAME, 0, 0), {"file_name": NAME, "mode": 0, "mtime_ns": 0}),
    (SymlinkHeader(NAME, "../x"), {"file_name": NAME, "target": "../x"}),
    (Receipt(NAME, Outcome.STORED), {"file_name": NAME, "outcome": "stored"}),
    (
        Receipt(NAME, Outcome.STORED, 0, MD5, HEX),
        {"file_name": NAME, "outcome": "stored", "file_size": 0, "md5": MD5, "blake3": HEX},
    ),
    (
        Refusal(NAME, "exists", "taken", retryable=False),
        {"file_name": NAME, "code": "exists", "message": "taken", "retryable": False},
    ),
    (
        Error("busy", "later", retryable=True),
        {"code": "busy", "message": "later", "retryable": True},
    ),
    (Working(NAME), {"file_name": NAME}),
    (Working(NAME, 1, 2), {"file_name": NAME, "done": 1, "size": 2}),
    (Offer(()), {"files": []}),
    (
        Offer((OfferedFile(NAME, 1), OfferedFile(NAME, 0, -1, 0o644, MD5)), "blake3"),
        {"digest": "blake3", "files": [
            {"file_name": NAME, "file_size": 1},
            {"file_name": NAME, "file_size": 0, "mtime_ns": -1, "mode": 0o644, "md5": MD5},
        ]},
    ),
    (
        Offer((), "blake3", (NAME, "")),
        {"digest": "blake3", "files": [], "directories": [NAME, ""]},
    ),
    (Plan((), (NAME,)), {"files": [], "absent": [NAME]}),
    (
        Plan((PlannedFile(NAME, "send"), PlannedFile(NAME, "resume", 7, None, HEX))),
        {"files": [
            {"file_name": NAME, "action": "send"},
            {"file_name": NAME, "action": "resume", "offset": 7, "blake3": HEX},
        ]},
    ),
    (Done(), {}),
]  # fmt: skip
FULL = {message.type: fields for message, fields in PAIRS}
OPTIONAL = {
    "file": {"offset", "length", "mode", "mtime_ns"},
    "directory": {"mode", "mtime_ns"},
    "receipt": {"file_size", "md5", "blake3"},
    "working": {"done", "size"},
    "offer": {"digest", "directories"},
    "plan": {"absent"},
}

NO_TEXT: list[object] = [1, 1.5, True, [], {}, ["a"]]
NO_INTEGER: list[object] = ["1", "", 1.0, 0.0, 1e3, True, False, [], [1], {}, MOST + 1, 10**400]
NO_COUNT = [*NO_INTEGER, -1]


def no_hex(size: int) -> list[object]:
    odd = ["", "0" * (2 * size - 1), "0" * (2 * size + 1), "0" * (2 * size + 2)]
    strange = ["A" * 2 * size, "g" * 2 * size, "٣" * 2 * size, "0" * (2 * size - 1) + "\n"]
    return [*NO_TEXT, *odd, *strange]


FILE = {"file_name": "a", "file_size": 1, "action": "send"}
NO_FILES: list[object] = [
    None, 1, True, "a", {}, {"a": 1}, [None], [1], ["a"], [[]], [{}], [{**FILE, "file_name": 1}],
    1025 * [FILE], [{**FILE, "md5": "0"}], [{**FILE, "offset": -1, "mode": -1}],
    [{"file_name": "a"}], [{**FILE, "action": "delete", "file_size": -1}],
]  # fmt: skip
NO_NAMES: list[object] = [1, True, "a", {}, [1], [None], ["x" * 32_769], 1025 * ["a"]]
WRONG: dict[str, list[object]] = {
    "files": NO_FILES,
    "directories": NO_NAMES,
    "absent": NO_NAMES,
    "digest": ["sha1", *NO_TEXT],
    "done": NO_COUNT,
    "size": NO_COUNT,
    "version": [None, *NO_COUNT],
    "key_id": [None, "x" * 256, *NO_TEXT],
    "nonce": [None, *no_hex(32)],
    "mac": [None, *no_hex(32)],
    "digests": [None, "md5", 1, True, {}, {"md5": 1}, [1], [None], ["md5", ["md5"]]],
    "file_name": [None, "x" * 32_769, *NO_TEXT],
    "file_size": NO_COUNT,
    "md5": no_hex(16),
    "blake3": no_hex(32),
    "offset": NO_COUNT,
    "length": NO_COUNT,
    "mode": [0o10000, *NO_COUNT],
    "mtime_ns": [-MOST - 1, *NO_INTEGER],
    "target": [None, "x" * 32_769, *NO_TEXT],
    "outcome": [None, "", "failed", "x" * 65, *NO_TEXT],
    "code": [None, "x" * 65, *NO_TEXT],
    "message": [None, "x" * 32_769, *NO_TEXT],
    "retryable": [None, 0, 1, 0.0, "true", "", [], {}],
}


def parse(fields: Fields) -> Message:
    return messages.parse(json.dumps(fields).encode())


def refuse(fields: Fields) -> None:
    with pytest.raises(ProtocolError):
        parse(fields)


def without(fields: Fields, key: str) -> Fields:
    return {name: value for name, value in fields.items() if name != key}


@pytest.mark.parametrize(("message", "fields"), PAIRS, ids=lambda x: getattr(x, "type", ""))
def test_a_message_is_its_fields_on_the_wire_and_back(message: Message, fields: Fields) -> None:
    on_the_wire = {"type": message.type, **fields}
    assert json.loads(messages.encode(message)[4:]) == on_the_wire
    assert parse(on_the_wire) == message


@pytest.mark.parametrize("kind", FULL)
def test_unknown_keys_are_ignored(kind: str) -> None:
    fields = {"type": kind, **FULL[kind]}
    assert parse({**fields, "new": [1], "body": 5, "Type": 1, "self": 2}) == parse(fields)


@pytest.mark.parametrize(
    ("kind", "key", "wrong"),
    [(kind, key, w) for kind, fields in FULL.items() for key in fields for w in WRONG[key]],
    ids=lambda value: ascii(value)[:20],
)
def test_a_key_with_a_value_of_the_wrong_kind_is_refused(
    kind: str, key: str, wrong: object
) -> None:
    refuse({"type": kind, **FULL[kind], key: wrong})


@pytest.mark.parametrize(
    ("kind", "key"), [(k, key) for k, fields in FULL.items() for key in fields]
)
def test_only_an_optional_key_may_be_missing(kind: str, key: str) -> None:
    fields = {"type": kind, **without(FULL[kind], key)}
    if key in OPTIONAL.get(kind, ()):
        assert key not in json.loads(messages.encode(parse(fields))[4:])
    else:
        refuse(fields)


@pytest.mark.parametrize("kind", ["", "Hello", "hello ", "offer", "Message", None, 1, True, [], {}])
def test_a_message_of_unknown_type_is_refused(kind: object) -> None:
    refuse({"type": kind, **FULL["hello"]})


def test_a_message_without_a_type_is_refused() -> None:
    refuse({})
    refuse(FULL["hello"])


@pytest.mark.parametrize(
    ("file_size", "offset", "length", "expected"),
    [
        (12, 0, None, (12, 12, True)),
        (0, 0, None, (0, 0, True)),
        (12, 5, None, (7, 12, True)),
        (12, 12, None, (0, 12, True)),
        (12, 5, 6, (6, 11, False)),
        (12, 5, 0, (0, 5, False)),
        (12, 12, 0, (0, 12, True)),
        (None, 0, 0, (0, 0, False)),
        (None, 5, 7, (7, 12, False)),
        (None, MOST - 7, 7, (7, MOST, False)),
        (MOST, 0, None, (MOST, MOST, True)),
    ],
)
def test_a_part_knows_its_body_its_end_and_whether_it_is_the_last(
    file_size: int | None, offset: int, length: int | None, expected: tuple[int, int, bool]
) -> None:
    header = FileHeader("a", file_size, MD5, offset=offset, length=length)
    assert (header.body, header.end, header.is_last) == expected


@pytest.mark.parametrize(
    ("file_size", "offset", "length"),
    [
        (12, 13, None), (12, 13, 0), (12, 5, 8), (0, 0, 1), (12, 0, MOST),
        (None, 0, None), (None, 5, None), (None, MOST, 1), (MOST, MOST, MOST),
    ],
)  # fmt: skip
def test_a_part_outside_its_file_or_without_an_end_is_refused(
    file_size: int | None, offset: int, length: int | None
) -> None:
    refuse({"type": "file", "file_name": "a", "md5": MD5,
            "file_size": file_size, "offset": offset, "length": length})  # fmt: skip


@pytest.mark.parametrize("digests", [{}, {"md5": MD5, "blake3": HEX}, {"md5": None}])
def test_a_file_has_exactly_one_digest(digests: Fields) -> None:
    refuse({"type": "file", "file_name": "a", "file_size": 1, **digests})


@pytest.mark.parametrize(("algorithm", "digest"), [("md5", MD5), ("blake3", HEX)])
def test_a_file_names_its_digest(algorithm: str, digest: str) -> None:
    header = parse({"type": "file", "file_name": "a", "file_size": 1, algorithm: digest})
    assert isinstance(header, FileHeader)
    assert (header.algorithm, header.digest) == (algorithm, digest)


def test_texts_may_be_as_long_as_they_may_be() -> None:
    assert parse({"type": "directory", "file_name": "x" * 32_768}) == DirectoryHeader("x" * 32_768)
    assert parse({"type": "hello", **FULL["hello"], "key_id": "x" * 255})
    assert parse({"type": "error", **FULL["error"], "code": "x" * 64})


def test_a_message_stays_as_it_is() -> None:
    proof = Proof(HEX)
    with pytest.raises(AttributeError):
        proof.mac = "00"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize("name", [240 * "a", 80 * "€", 60 * "😀", 1024 * "😀"], ids=len)
def test_files_are_shared_out_among_frames_that_hold_them_whatever_their_names(name: str) -> None:
    """JSON takes 12 bytes for a character beyond the first 65,536, and 6 for others."""
    offered = [OfferedFile(name, MOST, MOST, 0o7777, HEX[:32], HEX) for _ in range(300)]
    planned = [PlannedFile(name, "resume", MOST, HEX[:32], HEX, True) for _ in range(300)]
    offers = [Offer(tuple(files)) for files in in_frames(offered, lambda file: file.file_name)]
    plans = [Plan(tuple(files)) for files in in_frames(planned, lambda file: file.file_name)]
    for message in (*offers, *plans):
        assert messages.parse(messages.encode(message)[4:]) == message
    assert [file for offer in offers for file in offer.files] == offered
    assert [file for plan in plans for file in plan.files] == planned


def test_a_message_that_fits_into_no_frame_is_not_sent() -> None:
    with pytest.raises(ProtocolError):
        messages.encode(DirectoryHeader("ü" * 32_768))


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from([MD5, HEX, "md5", MOST, MOST + 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
ANY_OBJECT = st.builds(
    lambda kind, fields: {**FULL.get(kind, {}), "type": kind, **fields},
    st.sampled_from([*FULL, "offer"]),
    st.dictionaries(st.sampled_from([*WRONG]) | st.text(), ANY_VALUE, max_size=4),
)


@given(ANY_OBJECT)
@settings(deadline=None)
def test_any_object_is_a_message_or_a_protocol_error(fields: dict[str, object]) -> None:
    try:
        message = parse(fields)
    except ProtocolError:
        return
    assert messages.parse(messages.encode(message)[4:]) == message
