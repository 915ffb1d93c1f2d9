"""Fuzzing of the client: a receiver that answers with mutated bytes, and what a client makes of it.

The client is a process of its own that sends one file again and again through
the library, and gets one now and then; it says at the end how each attempt ended.
"""

import contextlib
import ctypes
import gc
import hashlib
import secrets
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import xfer
from tests.support.fuzzed_sessions import HANG_SECONDS, parsed, read_all, read_frame, usage
from tests.support.fuzzing import Tally, framed
from tests.support.mutations import BODY, MD5, PAYLOADS, Mutator
from tests.support.processes import KEY, SECRET
from xfer.auth.identity import Identity, load_identity
from xfer.auth.opening import transcribe
from xfer.client.get import get
from xfer.errors import ProtocolError, XferError
from xfer.outcomes import Outcome
from xfer.sending.observer import Result
from xfer.wire import messages
from xfer.wire.messages import (
    Challenge,
    DirectoryHeader,
    Done,
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

NAME: Final = "victim.txt"
_QUIET_SECONDS: Final = 0.05
_OPENING_SECONDS: Final = 0.3
_WARM: Final = 200
_GROWTH_KIB: Final = 32 * 1024
_GETS: Final = 3
"""Every third session is a get."""


@dataclass(frozen=True, slots=True)
class _Job:
    file: str
    host: str
    plaintext: bool
    count: int


def defend(home: Path, count: int, seed: int, *, plaintext: bool) -> Tally:
    """`count` sessions of a sender process with mutated receivers."""
    file = home / NAME
    file.write_bytes(BODY)
    identity = None if plaintext else load_identity(str(home))
    mine, theirs = get_context("spawn").Pipe()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(HANG_SECONDS)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        job = _Job(str(file), host, plaintext, count)
        process = get_context("spawn").Process(target=_send, args=(job, theirs))
        process.start()
        mutate = Mutator(seed, PAYLOADS)
        try:
            earned = [
                _serve(listening, identity, mutate, is_get=number % _GETS == 0)
                for number in range(count)
            ]
            assert mine.poll(HANG_SECONDS), "the sender does not come to an end"
            told: tuple[Tally, list[bool]] = mine.recv()
        except TimeoutError:
            return Tally(hangs=1, first="the sender does not connect again")
        finally:
            process.kill()
            process.join()
    tally, ended = told
    for number, (success, was_earned) in enumerate(zip(ended, earned, strict=True)):
        if success and not was_earned:
            tally.note(RuntimeError("exit code 0 without a receipt"), number)
    return tally


def _send(job: _Job, pipe: Connection) -> None:
    """The sender's process."""
    tally, ended = Tally(), []
    before = (0, 0)
    for number in range(job.count):
        if number == min(_WARM, job.count // 2):
            before = _kept()
        began = time.monotonic()
        once = _get_once if number % _GETS == 0 else _send_once
        ended.append(once(job, tally))
        seconds = time.monotonic() - began
        tally.slowest = max(tally.slowest, seconds)
        tally.hangs += seconds > HANG_SECONDS / 2
        tally.inputs += 1
    descriptors, resident = _kept()
    if descriptors > before[0] or resident > before[1] + _GROWTH_KIB:
        tally.leaks += 1
        tally.first = f"descriptors, KiB: {before} before, {(descriptors, resident)} after"
    tally.accepted = sum(ended)
    pipe.send((tally, ended))


def _kept() -> tuple[int, int]:
    """Descriptors and memory (KiB) once what nobody holds any more went back to the system."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)
    return usage("self")


def _get_once(job: _Job, tally: Tally) -> bool:
    """Whether a get succeeded that came to nothing: it must not; nor touch what is beside it."""
    home = Path(job.file).parent / "gets"
    target = home / "to"
    target.mkdir(parents=True)
    (home / "beside").write_bytes(BODY)
    succeeded: list[Result] = []
    try:
        succeeded += get(
            [NAME], job.host, to=target, secret=SECRET,
            retry_for=0, timeout=5, insecure_plaintext=job.plaintext,
        )  # fmt: skip
    except XferError as error:
        if "internal error" in error.message:
            tally.note(error, error.message)
    except BaseException as error:  # noqa: BLE001 (it is what is looked for)
        tally.note(error, "")
    for result in succeeded:
        content = target / result.name
        if result.digest and hashlib.md5(content.read_bytes()).hexdigest() != result.digest:
            tally.note(RuntimeError("what was got has another digest"), result)
    if {path.name for path in home.iterdir()} != {"to", "beside"}:
        tally.note(RuntimeError("a get has made something beside its target"), "")
    others = {path.name for path in target.iterdir()} - {NAME, ".xfer"}
    if (home / "beside").read_bytes() != BODY or others:
        tally.note(RuntimeError("a get has touched what it was not asked for"), "")
    shutil.rmtree(home)
    return bool(succeeded)


def _send_once(job: _Job, tally: Tally) -> bool:
    try:
        xfer.send(
            [job.file], job.host, secret=SECRET,
            retry_for=0, timeout=5, insecure_plaintext=job.plaintext,
        )  # fmt: skip
    except XferError as error:
        if "internal error" in error.message:
            tally.note(error, error.message)
        return False
    except BaseException as error:  # noqa: BLE001 (it is what is looked for)
        tally.note(error, "")
        return False
    return True


# The hostile receiver


def _serve(
    listening: socket.socket, identity: Identity | None, mutate: Mutator, *, is_get: bool
) -> bool:
    """One session; whether what was said amounts to a receipt for the file.

    Of a get, whose files are looked at by who got them, nothing is said.
    """
    connected: socket.socket = listening.accept()[0]
    connected.settimeout(_OPENING_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    said = bytearray()
    try:
        with contextlib.suppress(OSError, EOFError, ProtocolError):
            last = "gets" if is_get else "files"
            step = mutate.random.choice(["first bytes", "challenge", "welcome", *3 * [last]])
            if step == "first bytes":
                connected.sendall(mutate(mutate.random.choice(PAYLOADS)))
            else:
                if identity:
                    connected = identity.context.wrap_socket(connected, server_side=True)
                _answer(connected, identity, step, mutate, said)
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_WR)
        if connected.fileno() >= 0:  # a handshake that failed has closed it
            connected.settimeout(HANG_SECONDS)
            with contextlib.suppress(ssl.SSLError):
                read_all(connected)
    finally:
        connected.close()
    return is_get or any(map(_pays, parsed(bytes(said))[0]))


def _pays(message: Message) -> bool:
    match message:
        case Receipt(file_name=name, md5=md5):
            return (name, md5) == (NAME, MD5)
        case Plan(files=files):
            return any((file.file_name, file.action) == (NAME, "skip") for file in files)
    return False


def _answer(
    connected: socket.socket,
    identity: Identity | None,
    step: str,
    mutate: Mutator,
    said: bytearray,
) -> None:
    def say(frame: bytes, *, harm: bool) -> bytes:
        frame = _harmed(frame, mutate) if harm else frame
        connected.sendall(frame)
        return frame

    hello = read_frame(connected)
    assert isinstance(messages.parse(hello), Hello)
    challenge = messages.encode(Challenge(1, secrets.token_hex(32)))
    challenge = say(challenge, harm=step == "challenge")
    binding = identity.binding if identity else b""
    transcript = transcribe(hello, challenge[4:], binding)
    proof = messages.parse(read_frame(connected))
    assert isinstance(proof, Proof)
    mac = KEY.server_proof(transcript, bytes.fromhex(proof.mac)).hex()
    welcome = Welcome(mac, ["md5"], features=("get",))
    say(messages.encode(welcome), harm=step == "welcome")
    if step in _CONVERSATIONS:
        answer_all = _CONVERSATIONS[step]
        answer_all(connected, mutate, lambda frame, harm: said.extend(say(frame, harm=harm)))


def _answer_files(
    connected: socket.socket, mutate: Mutator, say: Callable[[bytes, bool], None]
) -> None:
    """A plan, and after the file a receipt and the end: one of them, or their order, harmed."""
    plan, working, receipt, done = map(
        messages.encode,
        (
            Plan((PlannedFile(NAME, mutate.random.choice(["send", "resume", "skip", "refuse"])),)),
            Working(NAME, 1, 2),
            Receipt(NAME, Outcome.STORED, len(BODY), MD5),
            Done(),
        ),
    )
    connected.settimeout(_QUIET_SECONDS)
    frames_in_order = [plan, working, receipt, done]
    victim = mutate.random.randrange(6)
    if victim == 5:  # early receipts, doubled plans, an end before the beginning
        mutate.random.shuffle(frames_in_order)
    for number, frame in enumerate(frames_in_order):
        if number == 2 and victim != 5:
            _read_until_done(connected)
        say(frame, number == victim)


def _give_files(
    connected: socket.socket, mutate: Mutator, say: Callable[[bytes, bool], None]
) -> None:
    """What a receiver gives: one message of it, a body, or their order, harmed."""
    read_frame(connected)
    header = messages.encode(FileHeader(NAME, len(BODY), MD5, mode=0o644, mtime_ns=1))
    given = [
        messages.encode(Offer((OfferedFile(NAME, len(BODY), 1, 0o644),))),
        header + BODY,
        messages.encode(mutate.random.choice(_ALSO_GIVEN)),
        messages.encode(Done()),
    ]
    connected.settimeout(_QUIET_SECONDS)
    victim = mutate.random.randrange(6)
    if victim == 5:
        mutate.random.shuffle(given)
    for number, frame in enumerate(given):
        say(frame, number == victim)


_ALSO_GIVEN: Final[list[Message]] = [
    DirectoryHeader(NAME, 0o755, 1),
    DirectoryHeader(f"{NAME}/below", 0o755, 1),
    SymlinkHeader(NAME, "../beside"),
    Refusal(NAME, "storage", "no", retryable=False),
    Working(NAME, 1, 2),
    Plan(()),
]


_CONVERSATIONS: Final = {"files": _answer_files, "gets": _give_files}


def _read_until_done(connected: socket.socket) -> None:
    seen = b""
    while b'"type":"done"' not in seen and (piece := connected.recv(65_536)):
        seen = seen[-20:] + piece


def _harmed(frame: bytes, mutate: Mutator) -> bytes:
    if mutate.random.random() < 0.5:
        return mutate(frame)
    return framed(mutate(frame[4:]))
