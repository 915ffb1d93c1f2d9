"""The golden bytes and the page in fixtures/wire, made apart from xfer: all must say the same."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from xfer import digests
from xfer.auth.identity import certificate_binding
from xfer.auth.keys import derive_key
from xfer.auth.opening import transcribe
from xfer.errors import RETRYABLE, Code
from xfer.outcomes import Outcome
from xfer.wire import messages
from xfer.wire.messages import (
    Challenge,
    Commit,
    DirectoryHeader,
    Done,
    Error,
    FileHeader,
    Get,
    Hello,
    List,
    ListedName,
    ListedSnapshot,
    Listing,
    Message,
    Offer,
    OfferedFile,
    Plan,
    PlannedFile,
    Proof,
    Receipt,
    Refusal,
    Run,
    SnapshotMade,
    SymlinkHeader,
    Welcome,
    Working,
)

WIRE = Path(__file__).parents[2] / "fixtures" / "wire"
PAGE = (WIRE / "README.md").read_text()
OPENING = json.loads((WIRE / "opening.json").read_text())
BODY = b"hello, xfer\n"
MD5 = "81ee73cfce57bf3f7a2236e9dd34487b"
BLAKE3 = "7afef5704d49bdd56bebd55c4c959eff8a6e27b0a5b1e34058a47e4904dc6d5c"
GOLDEN: dict[str, Message] = {
    "hello": Hello(1, "default", "a1" * 32),
    "challenge": Challenge(1, "b2" * 32),
    "proof": Proof(OPENING["tls"]["proof"]),
    "welcome": Welcome(OPENING["tls"]["welcome"], ["md5", "blake3"]),
    "file": FileHeader("docs/a.txt", 12, MD5),
    "file_part": FileHeader("docs/a.txt", None, None, BLAKE3, 7, 5, 0o644, -1),
    "directory": DirectoryHeader("docs/empty", 0o755, 1_700_000_000_000_000_000),
    "symlink": SymlinkHeader("docs/ü \U0001f4c4", "caf\udce9.txt"),
    "offer": Offer(
        (
            OfferedFile("docs/a.txt", 12, 1_700_000_000_000_000_000, 0o644),
            OfferedFile("b.log", 5_000_000, md5=MD5),
        )
    ),
    "plan": Plan(
        (PlannedFile("docs/a.txt", "skip"), PlannedFile("b.log", "resume", 12, MD5)),
    ),
    "plan_differs": Plan(
        (PlannedFile("docs/a.txt", "skip"), PlannedFile("b.log", "send", differs=True)),
    ),
    "working": Working("b.log", 1_048_576, 5_000_000),
    "receipt": Receipt("docs/a.txt", Outcome.VERSIONED, 12, MD5),
    "refusal": Refusal(
        "../a.txt",
        "bad_name",
        "unsafe name: it has an empty, . or .. component",
        retryable=False,
    ),
    "error": Error("busy", "too many senders", retryable=True),
    "done": Done(),
    "run": Run("c3" * 16, "nightly", ("docs",)),
    "commit": Commit("c3" * 16, "nightly", 3, complete=True, digest="blake3"),
    "snapshot": SnapshotMade(
        "20261123T030002.123456Z", False, 3, 2, 24, 1, 1, 200, True, ("docs/a.txt",)
    ),
    "get": Get(("docs", "b.log"), digest="blake3", share=1, shares=4),
    "list": List(("docs/a.txt",), "versions"),
    "listing": Listing(
        (
            ListedName("docs", "directory", 12, 1_700_000_000_000_000_000, 0o755),
            ListedName("docs/l", "symlink", target="a.txt"),
        )
    ),
    "listing_snapshots": Listing(
        (), (ListedSnapshot("laptop", "nightly", "20261123T030002.123456Z", True, names=3),)
    ),
}


def frame(name: str) -> bytes:
    return (WIRE / f"{name}.frame").read_bytes()


def test_every_frame_there_is_checked() -> None:
    assert {file.stem for file in WIRE.glob("*.frame")} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_is_exactly_its_golden_frame(name: str) -> None:
    assert messages.encode(GOLDEN[name]) == frame(name)
    assert messages.parse(frame(name)[4:]) == GOLDEN[name]


@pytest.mark.parametrize(("algorithm", "golden"), [("md5", MD5), ("blake3", BLAKE3)])
def test_the_golden_digests_are_those_of_the_body(algorithm: str, golden: str) -> None:
    digest = digests.new(algorithm)
    digest.update(BODY)
    assert digest.hexdigest() == golden


@pytest.mark.parametrize(("text", "key"), [("secret", "key"), ("passphrase", "passphrase_key")])
def test_a_secret_gives_its_golden_key(text: str, key: str) -> None:
    assert derive_key(OPENING[text]).secret.hex() == OPENING[key]


@pytest.mark.parametrize(
    ("way", "certificate"),
    [("tls", (WIRE / "certificate.der").read_bytes()), ("plaintext", b"")],
    ids=["tls", "plaintext"],
)
def test_the_recorded_opening_comes_out_as_recorded(way: str, certificate: bytes) -> None:
    golden = OPENING[way]
    key = derive_key(OPENING["secret"])
    binding = certificate_binding(certificate)
    transcript = transcribe(frame("hello")[4:], frame("challenge")[4:], binding)
    proof = key.client_proof(transcript)
    assert binding.hex() == golden["binding"]
    assert transcript.hex() == golden["T"]
    assert proof.hex() == golden["proof"]
    assert key.server_proof(transcript, proof).hex() == golden["welcome"]


# The page


def test_the_page_has_every_message_and_every_key() -> None:
    shown = set(re.findall(r'"(\w+)"|`(\w+)`', PAGE))
    words = {word for pair in shown for word in pair}
    for message in GOLDEN.values():
        assert f'"type":"{message.type}"' in PAGE
        assert {field.name for field in msgspec.structs.fields(message)} <= words


def test_the_page_has_every_code_that_travels() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .* \| (yes|no) \|$", PAGE, re.MULTILINE)
    told = {code: may_retry for codes, may_retry in rows for code in re.findall(r"\w+", codes)}
    of_this_side_only = {Code.CANCELLED, Code.LOCAL, Code.LOST, Code.USAGE}
    assert set(told) == set(Code) - of_this_side_only
    assert {code for code, may_retry in told.items() if may_retry == "yes"} == (
        RETRYABLE - of_this_side_only
    )


def shown_messages() -> list[str]:
    """The examples that leave nothing out."""
    lines = re.findall(r'^    (?:S→R|R→S|either) (\{"type".*?\})(?:  .*)?$', PAGE, re.MULTILINE)
    whole = [line for line in lines if "…" not in line]
    return [re.sub(r"<(\d+) hex>", lambda found: "0" * int(found[1]), line) for line in whole]


@pytest.mark.parametrize("line", shown_messages())
def test_an_example_of_the_page_is_a_message(line: str) -> None:
    assert json.loads(messages.encode(messages.parse(line.encode()))[4:]).items() <= (
        json.loads(line).items()
    )


def test_enough_of_the_examples_are_whole() -> None:
    assert len(shown_messages()) >= 11
