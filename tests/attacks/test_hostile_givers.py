"""A hostile or broken receiver gives a getter nothing that it did not ask for, nor makes it wait,
grow, overwrite, or believe."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from tests.attacks.test_hostile_receiver import STEERING, check, in_turn, rarely
from tests.support.hostile import BACK, NAME, Peer, Script, get_from
from tests.support.mutations import BODY, MD5
from tests.support.processes import KEY
from tests.support.trees import everything_below
from xfer.outcomes import Outcome
from xfer.wire import messages
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    Error,
    FileHeader,
    Get,
    Hello,
    Listing,
    Message,
    Offer,
    OfferedFile,
    Plan,
    Receipt,
    Refusal,
    SymlinkHeader,
    Welcome,
    Working,
)

OUTSIDE: Final = b"the getter's own, and staying as it is\n"
TREE: Final = "tree"
UNASKED: Final = "the receiver gave a name that was not asked for"
SILENT: Final = "the other side kept silent for too long"
GONE: Final = "closed the connection"
SMALL_LIMIT: Final = 3000
"""Messages of each kind that has no end; enough to see whether they are kept."""


def giving(*said: Message | bytes) -> Script:
    """Answer a get with just this."""
    return in_turn(Peer.asked, lambda peer: peer.say(*said))


def silent_after(*said: Message | bytes) -> Script:
    return in_turn(giving(*said), Peer.keep_silent)


def endlessly(*said: Message | bytes) -> Script:
    many = b"".join(one if isinstance(one, bytes) else messages.encode(one) for one in said) * 50

    def script(peer: Peer) -> None:
        peer.asked()
        with contextlib.suppress(OSError):
            for _ in range(SMALL_LIMIT // 50):
                peer.say(many)

    return script


def file(
    name: str = NAME,
    body: bytes = BODY,
    md5: str = MD5,
    *,
    file_size: int | None = None,
    offset: int = 0,
    length: int | None = None,
) -> list[Message | bytes]:
    """One message and its body."""
    size = len(body) if file_size is None else file_size
    return [messages.encode(FileHeader(name, size, md5, offset=offset, length=length)) + body]


def hash_of(size: int) -> str:
    """The md5 of so many zeros."""
    return hashlib.md5(bytes(size), usedforsecurity=False).hexdigest()


def named(name: str) -> dict[str, list[Message | bytes]]:
    """All ways to give a name."""
    return {
        "a file": [*file(name), Done()],
        "an offer": [Offer((OfferedFile(name, 13),)), Done()],
        "a directory": [DirectoryHeader(name, 0o777, 1), Done()],
        "a link": [SymlinkHeader(name, "/etc/passwd"), Done()],
        "a refusal": [Refusal(name, "exists", "no", retryable=False), Done()],
    }


def given(
    script: Script,
    home: Path,
    code: int,
    sentence: str,
    *options: str,
    names: Sequence[str] = (NAME,),
) -> str:
    """What the getter said: it ended with `code`, and changed nothing but what it got."""
    (home / BACK).mkdir(exist_ok=True)
    (home / "own").mkdir()
    (home / "own" / "file").write_bytes(OUTSIDE)
    (home / BACK / "link").symlink_to(home / "own")
    before = {path for path in everything_below(home) if not path.startswith(f"{home}/{BACK}/")}
    ending = get_from(script, home, *options, names=names)
    left = {path for path in everything_below(home) if not path.startswith(f"{home}/{BACK}/")}
    assert left == before
    assert (home / "own" / "file").read_bytes() == OUTSIDE
    check(ending, home, set(everything_below(home)), code, sentence)
    return ending.done.err


def arrived(home: Path) -> list[str]:
    """What is in the directory that was got into, but for what is kept to resume."""
    back = home / BACK
    return sorted(
        name
        for name in (os.path.relpath(path, back) for path in everything_below(back))
        if not name.startswith(".xfer") and name != "link"
    )


OTHERS: Final = [f"{NAME}x", "sibling.txt", f"other/{NAME}", "..", f"../{NAME}", "/etc/passwd",
                 ".xfer", ".xfer/lock", "link/file", ""]  # fmt: skip


def each_way(names: Sequence[str], often: Sequence[str]) -> list[ParameterSet]:
    """Every name in every way; in the ordinary run those of `often`, and one of each other."""
    return [
        pytest.param(
            name, way, marks=() if way == "a file" or name in often else pytest.mark.exhaustive
        )
        for name in names
        for way in named("")
    ]


@pytest.mark.parametrize(("name", "way"), each_way(OTHERS, OTHERS[:1]))
def test_a_name_that_was_not_asked_for_ends_the_session(
    tmp_path: Path, name: str, way: str
) -> None:
    given(giving(*named(name)[way]), tmp_path, 5, UNASKED)
    assert arrived(tmp_path) == []


UNSAFE: Final = [
    "tree/../own/file",
    "tree/../../own/file",
    "tree//x",
    "tree/.",
    "tree/a\0b",
    "tree/",
]


@pytest.mark.parametrize(("name", "way"), each_way(UNSAFE, UNSAFE[:1]))
def test_nor_is_one_below_it_that_leads_out_of_it_taken(
    tmp_path: Path, name: str, way: str
) -> None:
    sentence = "unsafe name" if way != "a refusal" else "without giving tree"
    given(giving(*named(name)[way]), tmp_path, 5, sentence, names=(TREE,))
    assert arrived(tmp_path) == []


@pytest.mark.parametrize("name", [".xfer", ".xfer/lock", "../own/file", "/etc/passwd", "link/file"])
def test_of_everything_the_getter_s_own_is_not_taken(tmp_path: Path, name: str) -> None:
    given(giving(*file(name), Done()), tmp_path, 6, "", names=(".",))
    assert arrived(tmp_path) == []


@pytest.mark.parametrize("target", rarely(["../own", "/etc", ".", ".."], ["/etc", ".", ".."]))
@pytest.mark.parametrize("if_exists", ["refuse", "version", "replace"])
def test_nothing_is_put_through_a_link_that_was_just_given(
    tmp_path: Path, target: str, if_exists: str
) -> None:
    script = giving(
        SymlinkHeader("tree/a", target),
        *file("tree/a/file"),
        DirectoryHeader("tree/a", 0o777, 1),
        *file("tree/a/b/file"),
        Done(),
    )
    home = tmp_path
    (home / BACK).mkdir()
    (home / "own").mkdir()
    (home / "own" / "file").write_bytes(OUTSIDE)
    mode = (home / "own").stat().st_mode
    ending = get_from(script, home, "--if-exists", if_exists, names=(TREE,))
    assert (home / "own" / "file").read_bytes() == OUTSIDE
    assert everything_below(home / "own") == [str(home / "own" / "file")]
    assert (home / "own").stat().st_mode == mode
    assert "Traceback" not in ending.done.err
    assert not list((home / BACK).rglob("passwd"))


HEADER: Final = messages.encode(FileHeader(NAME, len(BODY), MD5))
LARGE: Final = bytes(3_000_000)
ENDED: Final = f"the receiver ended without giving {NAME}"
NOTHING: Final = Refusal(NAME, "exists", STEERING, retryable=False)
LIES: Final[dict[str, tuple[Script, int, str]]] = {
    "another digest": (giving(*file(md5=32 * "0"), Done()), 5, "does not match its digest"),
    "other bytes": (giving(HEADER + BODY.upper(), Done()), 5, "does not match its digest"),
    "a large file of another digest": (
        giving(*file(body=LARGE, md5=32 * "0"), Done()), 5, "does not match its digest",
    ),
    "more bytes than it said": (  # which is right by itself
        giving(HEADER + BODY + BODY, Done()), 5, "a frame of"),
    "fewer bytes than it said": (giving(HEADER + BODY[:-1]), 4, GONE),
    "fewer bytes, then silence": (silent_after(HEADER + BODY[:-1]), 4, SILENT),
    "a part and no more": (giving(*file(file_size=26, length=13), Done()), 5, ENDED),
    "a part of nothing": (giving(*file(offset=13, file_size=26), Done()), 6, "continues nothing"),
    "the end of an endless file": (
        giving(*file(offset=2**62, file_size=2**62 + 13), Done()), 6, "continues nothing",
    ),
    "an endless file": (
        giving(messages.encode(FileHeader(NAME, 2**62, MD5)) + bytes(10_000)), 4, GONE,
    ),
    "nothing": (giving(Done()), 5, ENDED),
    "an offer and nothing of it": (giving(Offer((OfferedFile(NAME, 13),)), Done()), 5, ENDED),
    "a receipt": (giving(Receipt(NAME, Outcome.STORED, 13, MD5), Done()), 5, "a receipt message"),
    "a plan": (giving(Plan(()), Done()), 5, "a plan message"),
    "an opening": (giving(Hello(1, "default", 64 * "0")), 5, "a hello message"),
    "a second welcome": (giving(Welcome(64 * "0", ["md5"])), 5, "a welcome message"),
    "a listing": (giving(Listing(())), 5, "a listing message"),
    "a get of its own": (giving(Get((NAME,))), 5, "a get message"),
    "garbage": (giving(b"\xff" * 1000), 5, "a frame of 4294967295 bytes"),
    "silence": (silent_after(), 4, SILENT),
    "silence after an offer": (silent_after(Offer((OfferedFile(NAME, 13),))), 4, SILENT),
    "silence in a frame": (silent_after(HEADER[:20]), 4, SILENT),
    "steering in a refusal": (giving(NOTHING, Done()), 6, r"\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\r"),
    "steering in an error": (giving(Error("busy", STEERING, retryable=True)), 4, r"\x1b]0;owned"),
    "steering in an unknown error": (giving(Error("new", STEERING, retryable=True)), 6, r"\x1b]0;"),
    "endless work": (endlessly(Working("x", 1, 2)), 4, GONE),
    "endless offers": (endlessly(Offer((OfferedFile(NAME, 13),))), 4, GONE),
    "endless refusals": (endlessly(NOTHING), 4, GONE),
    "endless refusals that may go well later": (
        endlessly(Refusal(NAME, "busy", "x" * 400, retryable=True)), 4, GONE,
    ),
}  # fmt: skip
RARE: Final = {
    "a plan", "an opening", "a second welcome", "a listing", "other bytes", "endless offers",
    "silence in a frame", "fewer bytes, then silence", "the end of an endless file",
    "steering in an unknown error", "endless refusals that may go well later",
}  # fmt: skip


@pytest.mark.parametrize("lie", rarely(LIES, RARE))
def test_what_is_not_as_it_was_said_is_not_taken(tmp_path: Path, lie: str) -> None:
    script, code, sentence = LIES[lie]
    said = given(script, tmp_path, code, sentence)
    assert len(said.splitlines()) <= 2
    assert arrived(tmp_path) == [NAME] * (lie == "more bytes than it said")


def test_each_name_is_told_once(tmp_path: Path) -> None:
    """And what was refused first is no success, though it comes in the end."""
    script = giving(NOTHING, *file(), NOTHING, Done())
    said = given(script, tmp_path, 6, f"{NAME}: ", "--json")
    assert said.count(NAME) == 1


def hear_on(peer: Peer) -> None:
    with contextlib.suppress(OSError):  # closed meanwhile
        peer.hear_all()


@pytest.mark.parametrize("way", ["files", "offers", "directories", "links"])
def test_names_without_an_end_are_given_up_or_taken_within_bounds(tmp_path: Path, way: str) -> None:
    """A receiver could go on for ever, as one that sends could: memory is what must not grow."""
    number = iter(range(10**9))

    def one() -> bytes:
        name = f"{TREE}/{next(number):0250}"
        return {
            "files": lambda: messages.encode(FileHeader(name, len(BODY), MD5)) + BODY,
            "offers": lambda: messages.encode(
                Offer(tuple(OfferedFile(f"{name}-{n}", 13) for n in range(100)))
            ),
            "directories": lambda: messages.encode(DirectoryHeader(name, 0o755, 1)),
            "links": lambda: messages.encode(SymlinkHeader(name, "x")),
        }[way]()  # fmt: skip

    def script(peer: Peer) -> None:
        peer.asked()
        threading.Thread(target=hear_on, args=(peer,), daemon=True).start()
        with contextlib.suppress(OSError):
            for _ in range(1200):
                peer.say(one())

    (tmp_path / BACK).mkdir()
    ending = get_from(script, tmp_path, "--quiet", names=(TREE,))
    expected = (5, "offers more than it gives") if way == "offers" else (4, GONE)
    assert (ending.done.code, expected[1] in ending.done.err) == (expected[0], True), ending.done
    assert ending.peak < 160 * 1024


STREAMS: Final[dict[str, tuple[Script, int, str]]] = {
    "another digest": (giving(*file(md5=32 * "0"), Done()), 5, "does not match its digest"),
    "another digest of a large file": (
        giving(*file(body=LARGE, md5=32 * "0"), Done()), 5,
        "does not match its digest; do not use what went to standard output",
    ),
    "a part": (
        giving(file(body=LARGE, file_size=4_000_000)[0]), 4,
        f"{GONE}; do not use what went to standard output",
    ),
    "a part, and the end": (
        giving(*file(file_size=26, length=13), Done()), 5,
        f"{ENDED}; do not use what went to standard output",
    ),
    "the same again": (
        giving(*file(body=LARGE[:2**20], file_size=4_000_000, length=2**20, md5=hash_of(2**20)),
               *file()), 1, "cannot be taken back; do not use what went to standard output",
    ),
    "a directory": (giving(DirectoryHeader(NAME, 0o755, 1), Done()), 6, "no file"),
    "a link": (giving(SymlinkHeader(NAME, "/etc/passwd"), Done()), 6, "no file"),
    "a name below it": (giving(*file(f"{NAME}/x"), Done()), 6, f"{NAME} is a directory"),
    "another name": (giving(*file("other"), Done()), 5, UNASKED),
    "nothing": (giving(Done()), 5, ENDED),
}  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS)
def test_what_goes_to_standard_output_is_said_to_be_wrong_when_it_is(
    tmp_path: Path, stream: str
) -> None:
    script, code, sentence = STREAMS[stream]
    ending = get_from(script, tmp_path, "--to", "-")
    assert (ending.done.code, sentence in ending.done.err) == (code, True), ending.done.err
    assert "Traceback" not in ending.done.err
    assert everything_below(tmp_path) == [str(tmp_path / BACK)]
    assert ("do not use" in ending.done.err) == bool(ending.done.out)


def test_an_older_receiver_is_told_apart_in_one_sentence(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        transcript, proof = peer.challenge()
        peer.say(Welcome(KEY.server_proof(transcript, bytes.fromhex(proof)).hex(), ["md5"]))
        peer.hear_all()

    said = given(
        script, tmp_path, 6, "is of an earlier version, which knows no get: update it first"
    )
    assert len(said.splitlines()) == 1
