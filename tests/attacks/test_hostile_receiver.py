"""A hostile or broken receiver makes a sender neither wait, grow, tell, nor believe.

What a receiver can do wrong message by message is in test_hostile_peers.
"""

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from tests.support.fuzzed_sessions import read_frame
from tests.support.hostile import (
    NAME,
    RECEIPT,
    SIBLING,
    SIBLINGS,
    Ending,
    Peer,
    Script,
    key_updates,
    send_to,
)
from tests.support.hostile import strange_context as context
from tests.support.processes import KEY, Site
from xfer.auth.identity import client_context
from xfer.errors import PeerTimeout
from xfer.outcomes import Outcome
from xfer.sending.batches import InOrder
from xfer.sending.observer import ProgressSink, Results
from xfer.sending.parts import Options
from xfer.sending.session import SendSession
from xfer.source import tree
from xfer.wire import keepalive, messages
from xfer.wire.channel import Channel
from xfer.wire.messages import (
    Done,
    Error,
    Message,
    Plan,
    PlannedFile,
    Receipt,
    Refusal,
    Welcome,
    Working,
)

_SECONDS: Final = 6.0
"""The timeout of a second, with room for a process to start on a busy machine."""
_PEAK_KIB: Final = 128 * 1024
ROUNDS: Final = 400
"""Of fifty messages each."""
SILENT: Final = "the other side kept silent for too long"
CLOSED: Final = "closed the connection"
STEERING: Final = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\r"


def check(ending: Ending, home: Path, before: set[str], code: int, sentence: str) -> None:
    done = ending.done
    assert (done.code, sentence in done.err, "Traceback" in done.err) == (code, True, False), done
    assert code != 0
    assert done.err.removesuffix("\n").replace("\n", "").isprintable(), done.err
    assert done.out.replace("\n", "").isprintable()
    assert ending.seconds < _SECONDS
    assert ending.peak < _PEAK_KIB
    assert SIBLINGS not in ending.seen
    assert everything(home) == before


def everything(home: Path) -> set[str]:
    return {os.path.join(at, name) for at, ds, fs in os.walk(home) for name in ds + fs}


def said_to(script: Script, home: Path, code: int, sentence: str, *options: str) -> Ending:
    (home / NAME).touch()
    (home / SIBLING).touch()
    before = everything(home)
    ending = send_to(script, home, *options)
    check(ending, home, before, code, sentence)
    return ending


def in_turn(*steps: Script) -> Script:
    def script(peer: Peer) -> None:
        for step in steps:
            step(peer)

    return script


def saying(*said: Message | bytes) -> Script:
    return lambda peer: peer.say(*said)


def rarely(cases: Iterable[str], rare: Collection[str]) -> list[ParameterSet]:
    """Those of `rare` only in the exhaustive run: each is a process."""
    marks = pytest.mark.exhaustive
    return [pytest.param(case, marks=marks if case in rare else ()) for case in cases]


# Before the receiver has proved itself


def echo_the_proof(peer: Peer) -> None:
    _, proof = peer.challenge()
    peer.say(Welcome(proof, ["md5"]))


def prove_it_as_a_client_does(peer: Peer) -> None:
    transcript, _ = peer.challenge()
    peer.say(Welcome(KEY.client_proof(transcript).hex(), ["md5"]))


def skip_the_challenge(peer: Peer) -> None:
    peer.hear()
    peer.say(Welcome(64 * "0", ["md5"]), Plan((PlannedFile(NAME, "send"),)))


def ask_for_the_file_instead(peer: Peer) -> None:
    peer.challenge()
    peer.say(Plan((PlannedFile(NAME, "send"),)))


def reflect(peer: Peer) -> None:
    """Whatever comes goes back."""
    while data := peer.connected.recv(4096):
        peer.seen += data
        peer.connected.sendall(data)


PROOF: Final = "the receiver could not prove that it holds the same secret"
STRANGE: Final = "does not open like a receiver"
STRANGERS: Final[dict[str, tuple[Script, int, str]]] = {
    "its own proof echoed": (echo_the_proof, 3, PROOF),
    "a client's proof in place of its own": (prove_it_as_a_client_does, 3, PROOF),
    "no challenge": (skip_the_challenge, 3, STRANGE),
    "no welcome": (ask_for_the_file_instead, 3, STRANGE),
    "everything reflected": (reflect, 3, STRANGE),
    "a frame without an end": (saying(b"\xff\xff\xff\xff" + bytes(2**20)), 3, STRANGE),
    "silence after hello": (in_turn(Peer.hear, Peer.keep_silent), 4, SILENT),
    "silence after the proof": (in_turn(Peer.challenge, Peer.keep_silent), 4, SILENT),
    "an endless wait before the proof": (
        saying(*1000 * [Working("x")]), 3, STRANGE,
    ),
    "steering": (saying(Error("busy", STEERING, retryable=True)), 4, r"\x1b]0;owned"),
}  # fmt: skip


RARE_STRANGERS: Final = {"no welcome", "an endless wait before the proof", "no challenge",
                         "silence after hello", "a frame without an end"}  # fmt: skip


@pytest.mark.parametrize("stranger", rarely(STRANGERS, RARE_STRANGERS))
def test_who_has_not_proved_itself_gets_no_name(tmp_path: Path, stranger: str) -> None:
    script, code, sentence = STRANGERS[stranger]
    ending = said_to(script, tmp_path, code, sentence)
    assert NAME.encode() not in ending.seen


# TLS


def answer_in_plaintext(peer: Peer) -> None:
    peer.connected.recv(4096)
    peer.say(Error("busy", "never mind the encryption", retryable=True))


def say_nothing_to_tls(peer: Peer) -> None:
    peer.keep_silent()


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [(answer_in_plaintext, 3, STRANGE), (say_nothing_to_tls, 4, SILENT)],
)
def test_tls_is_not_talked_down(tmp_path: Path, script: Script, code: int, sentence: str) -> None:
    ending = said_to(script, tmp_path, code, sentence, "--tls")
    assert NAME.encode() not in ending.seen


def test_tls_1_2_is_not_spoken(tmp_path: Path) -> None:
    old = context(tmp_path, ssl.TLSVersion.TLSv1_2)
    ending = said_to(lambda peer: peer.start_tls(old), tmp_path, 3, STRANGE, "--tls")
    assert ending.seen == b""


def test_requests_for_new_keys_are_not_answered_endlessly(tmp_path: Path) -> None:
    """Each answer waits for something to be sent, and a stranger can ask for thousands."""
    mine = context(tmp_path)
    mine.num_tickets = 0
    mine.keylog_filename = str(tmp_path / "keylog")

    def script(peer: Peer) -> None:
        peer.start_tls(mine)
        with socket.socket(fileno=os.dup(peer.connected.fileno())) as raw:
            raw.sendall(key_updates(tmp_path / "keylog", 1000))
        peer.keep_silent()

    said_to(script, tmp_path, 3, "too many requests for new keys", "--tls")


def test_a_relay_with_another_certificate_gets_no_further(nas: Site, tmp_path: Path) -> None:
    """Both ends hold the secret, and the one in the middle sees all that they say."""
    known = everything(nas.directory)
    mine = context(tmp_path)

    def relay(peer: Peer) -> None:
        peer.start_tls(mine)
        with (
            socket.create_connection(("127.0.0.1", nas.port)) as raw,
            client_context().wrap_socket(raw) as onwards,
        ):
            for _ in range(2):
                payload = peer.hear()
                onwards.sendall(len(payload).to_bytes(4, "big") + payload)
                answer = read_frame(onwards)
                peer.say(len(answer).to_bytes(4, "big") + answer)

    ending = said_to(relay, tmp_path, 3, "do not hold the same secret", "--tls")
    assert NAME.encode() not in ending.seen
    assert everything(nas.directory) == known


# After a right proof


def plan(*planned: PlannedFile) -> Script:
    return in_turn(Peer.offered, saying(Plan(planned)), Peer.keep_silent)


def raw_plan(fields: bytes) -> Script:
    payload = b'{"type":"plan","files":[{"file_name":"%s",%s}]}' % (NAME.encode(), fields)
    return in_turn(Peer.offered, saying(len(payload).to_bytes(4, "big") + payload))


def endlessly(*said: Message) -> Script:
    """The same again and again, as fast as it goes."""
    many = b"".join(map(messages.encode, said)) * 50

    def script(peer: Peer) -> None:
        peer.offered()
        with contextlib.suppress(OSError):
            for _ in range(ROUNDS):
                peer.say(many)

    return script


_LONG: Final = b'{"type":"plan","files":[{"action":"send","file_name":"%s"}]}' % (
    32_767 * b"x" + "\U0001f600".encode()
)
LONG_PLAN: Final = len(_LONG).to_bytes(4, "big") + _LONG
"""Takes four bytes of memory for each that travels."""


_FAILED: Final = messages.encode(RECEIPT)[4:].replace(b'"stored"', b'"failed"')
FAILED_RECEIPT: Final = len(_FAILED).to_bytes(4, "big") + _FAILED


HOLDERS: Final[dict[str, tuple[Script, int, str]]] = {
    "a receipt before the file": (in_turn(Peer.open, saying(RECEIPT, Done())), 5, "not sent"),
    "a receipt before the plan": (in_turn(Peer.offered, saying(RECEIPT, Done())), 5, "not sent"),
    "a receipt for a directory in a file's place": (
        in_turn(Peer.sent, saying(Receipt(NAME, Outcome.STORED))), 5, "not sent",
    ),
    "a plan for an unknown name": (plan(PlannedFile("/etc/passwd", "send")), 5, "not offered"),
    "a plan for its neighbour": (plan(PlannedFile(SIBLING, "send")), 5, "not offered"),
    "nothing of what nobody asked about": (
        in_turn(Peer.offered, saying(Plan((), (SIBLING,)))), 5, "not offered",
    ),
    "a negative offset": (raw_plan(b'"action":"resume","offset":-1'), 5, "].offset"),
    "an unknown action": (raw_plan(b'"action":"delete"'), 5, "].action"),
    "refused, and no refusal": (
        plan(PlannedFile(NAME, "refuse")), 4, SILENT,
    ),
    "endless plans": (endlessly(Plan(100 * (PlannedFile("x", "send"),))), 5, "offered"),
    "endless plans of long names": (
        in_turn(
            Peer.offered,
            saying(Plan((PlannedFile(NAME, "send"),))),
            saying(*2000 * [LONG_PLAN]),
        ), 5, "not offered",
    ),
    "endless receipts": (endlessly(RECEIPT), 5, "not sent"),
    "endless signs of life, then nothing": (endlessly(Working("x", 1, 2)), 4, CLOSED),
    "endless refusals of nothing, then nothing": (
        endlessly(Refusal("x" * 200, "exists", "no", retryable=False)), 4, CLOSED,
    ),
    "half a frame": (in_turn(Peer.open, saying(b"\0\0\1\0{"), Peer.keep_silent), 4, SILENT),
    "a receipt that reads like a failure": (
        in_turn(Peer.sent, saying(FAILED_RECEIPT, Done())), 5, "unusable outcome",
    ),
    "silence after the offer": (in_turn(Peer.offered, Peer.keep_silent), 4, SILENT),
    "silence after the file": (in_turn(Peer.sent, Peer.keep_silent), 4, SILENT),
    "steering in a refusal": (
        in_turn(Peer.sent, saying(Refusal(NAME, "exists", STEERING, retryable=False), Done())),
        6, r"\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\r",
    ),
}  # fmt: skip


RARE_HOLDERS: Final = {
    "a receipt before the plan", "an unknown action", "endless receipts", "half a frame",
    "a receipt for a directory in a file's place", "silence after the file",
    "refused, and no refusal", "a plan for an unknown name",
    "endless refusals of nothing, then nothing",
}  # fmt: skip


@pytest.mark.parametrize("holder", rarely(HOLDERS, RARE_HOLDERS))
def test_who_holds_the_secret_is_not_believed_everything(tmp_path: Path, holder: str) -> None:
    script, code, sentence = HOLDERS[holder]
    said_to(script, tmp_path, code, sentence, "--json")


@pytest.mark.parametrize("offset", [13, 2**63 - 1])
def test_an_offset_whose_digest_is_not_ours_begins_at_nothing(tmp_path: Path, offset: int) -> None:
    """Past the end or before it: the whole file goes, and nothing that lies behind it."""
    resume = PlannedFile(NAME, "resume", offset, md5=32 * "0")

    def script(peer: Peer) -> None:
        peer.offered()
        peer.say(Plan((resume,)))
        while b'"type":"done"' not in peer.seen:
            peer.seen += peer.connected.recv(65_536)
        peer.say(RECEIPT, Done())

    ending = send_to(script, tmp_path)
    assert ending.done.code == 0
    assert b"offset" not in ending.seen
    assert b"what matters\n" in ending.seen
    assert SIBLINGS not in ending.seen


@pytest.mark.parametrize(
    "said",
    [
        Working(NAME, 1, 2),
        Plan(()),
        Refusal("nobody's", "exists", "no", retryable=False),
    ],
    ids=lambda said: str(said.type),
)
def test_work_without_an_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Message
) -> None:
    """An hour is long for a test, so this one sender has less trust."""
    monkeypatch.setattr(keepalive, "_LONGEST_WORK", 0.5)
    (tmp_path / NAME).write_bytes(b"x")
    ours, theirs = socket.socketpair()

    def work() -> None:
        with theirs, contextlib.suppress(OSError):
            while True:
                theirs.sendall(messages.encode(said))
                time.sleep(0.02)

    working = threading.Thread(target=work)
    working.start()
    session = SendSession(Channel(ours, 30.0), Options(), ProgressSink(), Results())
    with pytest.raises(PeerTimeout, match="at work all the time"):
        session.run(InOrder(tree.walk([str(tmp_path / NAME)])))
    working.join()


def test_of_a_refusal_without_an_end_the_beginning_is_told(tmp_path: Path) -> None:
    endless = Refusal(NAME, "exists", "no" + 16_000 * " !", retryable=False)
    script = in_turn(Peer.sent, saying(endless, Done()))
    ending = said_to(script, tmp_path, 6, "no !", "--json")
    assert len(ending.done.err) + len(ending.done.out) < 2_000
