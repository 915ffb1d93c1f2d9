"""Fuzzing of whole sessions over loopback: mutated senders, and mutated receivers."""

import contextlib
import hashlib
import os
import re
import secrets
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.fuzzing import Tally, framed
from tests.support.mutations import MD5, PAYLOADS, Mutator
from tests.support.processes import KEY, end, environment, start, wait_until
from xfer.auth.identity import certificate_binding, client_context
from xfer.auth.opening import transcribe
from xfer.errors import ProtocolError
from xfer.outcomes import Outcome
from xfer.wire import frames, messages
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    FileHeader,
    Get,
    Hello,
    List,
    Message,
    Offer,
    OfferedFile,
    Plan,
    PlannedFile,
    Proof,
    Receipt,
    Refusal,
    SymlinkHeader,
    Working,
)

HANG_SECONDS: Final = 20.0
_WARM: Final = 1000
_GROWTH_KIB: Final = 32 * 1024
_DESCRIPTORS: Final = 4
_CONTEXT: Final = client_context()


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver process whose log is a file, since it says something on every session."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    plaintext: bool
    directory: Path


@contextlib.contextmanager
def receiving_for_long(home: Path, *options: str) -> Iterator[Target]:
    log, directory = home / "log", home / "received"
    directory.mkdir(parents=True)
    command = ["receive", "--dir", str(directory), "--bind", "127.0.0.1", "--port", "0", *options]
    with log.open("wb") as stderr:
        null = subprocess.DEVNULL
        env = environment(home)
        process = start(command, env, stdin=null, stdout=null, stderr=stderr.fileno())
    try:
        found = wait_until(lambda: re.findall(r"listening on \S+:(\d+)\n", log.read_text()))
        plaintext = "--insecure-plaintext" in options
        yield Target(process, log, int(found[0]), plaintext, directory)
    finally:
        end(process)


# Hostile senders


def attack(target: Target, count: int, seed: int) -> Tally:
    """`count` mutated sessions, one after the other; the receiver's own state at the end."""
    tally, mutate = Tally(), Mutator(seed, PAYLOADS)
    before = None
    for number in range(count):
        if number == min(_WARM, count // 2):
            before = usage(target.process.pid)
        try:
            began = time.monotonic()
            _check_answers(_one_session(target, mutate), tally)
            tally.slowest = max(tally.slowest, time.monotonic() - began)
        except TimeoutError:
            tally.hangs += 1
        tally.inputs += 1
    if target.process.poll() is not None:
        tally.note(RuntimeError("the receiver is gone"), target.log.read_text()[-2000:])
    elif before:
        tally.leaks += not _comes_back_to(target.process.pid, before)
    said = target.log.read_text("utf-8", "replace")
    for trace in re.findall(r"Traceback|internal", said):
        tally.note(RuntimeError(trace), said[said.index(trace) - 500 :][:2000])
    return tally


def usage(process: int | str) -> tuple[int, int]:
    """Open descriptors, and memory in KiB."""
    status = Path(f"/proc/{process}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+)", status)
    assert resident
    return len(os.listdir(f"/proc/{process}/fd")), int(resident[1])


def _comes_back_to(process: int, before: tuple[int, int]) -> bool:
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        descriptors, resident = usage(process)
        if descriptors <= before[0] + _DESCRIPTORS and resident <= before[1] + _GROWTH_KIB:
            return True
        time.sleep(0.1)
    return False


def _one_session(target: Target, mutate: Mutator) -> bytes:
    """Everything that the receiver answered, as far as this side can read it."""
    connected: socket.socket = socket.create_connection(("127.0.0.1", target.port), HANG_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    step = mutate.random.choice(["first bytes", "hello", "proof", *3 * ["files"]])
    try:
        # It may have enough before the end: what it said is still there to be read.
        with contextlib.suppress(ConnectionError, ssl.SSLError, EOFError):
            if step == "first bytes":
                connected.sendall(mutate(_first_bytes(target)))
            else:
                if not target.plaintext:
                    connected = _CONTEXT.wrap_socket(connected)
                _open_and_say(connected, step, mutate)
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_WR)
        answer = read_all(connected)
    finally:
        connected.close()
    return answer if target.plaintext else b""


def _first_bytes(target: Target) -> bytes:
    if target.plaintext:
        return framed(messages.encode(Hello(1, "default", secrets.token_hex(32)))[4:])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        _CONTEXT.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def _open_and_say(connected: socket.socket, step: str, mutate: Mutator) -> None:
    hello = messages.encode(Hello(1, "default", secrets.token_hex(32)))[4:]
    if step == "hello":
        connected.sendall(framed(mutate(hello)))
        return
    connected.sendall(framed(hello))
    challenge = read_frame(connected)
    certificate = b""
    if isinstance(connected, ssl.SSLSocket):
        certificate = connected.getpeercert(binary_form=True) or b""
    transcript = transcribe(hello, challenge, certificate_binding(certificate))
    proof = messages.encode(Proof(KEY.client_proof(transcript).hex()))
    if step == "proof":
        connected.sendall(mutate(proof))
        return
    connected.sendall(proof)
    read_frame(connected)
    connected.sendall(_mutated(mutate))


def _mutated(mutate: Mutator) -> bytes:
    """What travels after a welcome: harmed as bytes, in one message, or in its order."""
    random = mutate.random
    pieces = random.choice([_conversation, _conversation, _asking])(mutate)
    match random.randrange(3):
        case 0:
            return mutate(b"".join(header + body for header, body in pieces))
        case 1:
            at = random.randrange(len(pieces))
            header, body = pieces[at]
            pieces[at] = framed(mutate(header[4:])), body
        case _:
            random.shuffle(pieces)
            del pieces[random.randrange(len(pieces)) :]
            pieces.append(random.choice(pieces or [(b"", b"")]))
    return b"".join(header + body for header, body in pieces)


def _conversation(mutate: Mutator) -> list[tuple[bytes, bytes]]:
    """The frames and bodies of a valid session, for few enough names to meet again."""
    random = mutate.random
    name = f"fuzz/{random.randrange(40)}"
    body = random.randbytes(random.choice([0, 1, 13, 300]))
    cut = len(body) // 2
    said: list[tuple[Message, bytes]] = [
        (Offer((OfferedFile(name, len(body), 1, 0o644), OfferedFile("z", 3))), b""),
        (FileHeader(name, len(body), _md5(body), mode=0o644, mtime_ns=1), body),
        (FileHeader(f"{name}p", len(body), _md5(body[:cut]), length=cut), body[:cut]),
        (FileHeader(f"{name}p", len(body), _md5(body), offset=cut), body[cut:]),
        (DirectoryHeader(f"{name}d", 0o755, 1), b""),
        (SymlinkHeader(f"{name}l", "../outside"), b""),
        (Working(name, 1, 2), b""),
        (Done(), b""),
    ]
    return [(messages.encode(message), body) for message, body in said]


def _asking(mutate: Mutator) -> list[tuple[bytes, bytes]]:
    """The frames of a getter, whose answers come before what they answer; or a listing."""
    random = mutate.random
    name = f"fuzz/{random.randrange(40)}"
    own = name.rpartition("/")[2]
    more = random.random() < 0.3
    said: list[Message] = [
        Get((name, "fuzz"), digest="md5", more=more),
        Get(("z",), share=0, shares=random.choice([1, 3])),
        Plan((PlannedFile(own, random.choice(["send", "resume", "skip", "refuse"])),)),
        Plan((), ("fuzz",)),
        Receipt(own, Outcome.STORED, 13, MD5),
        Refusal(own, "exists", "no", retryable=False),
        Working(own, 1, 2),
        Done(),
    ]
    if not more:
        del said[1]
    if random.random() < 0.2:
        said = [List((name, "fuzz"), recursive=random.random() < 0.5)]
    return [(messages.encode(message), b"") for message in said]


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read_frame(connected: socket.socket) -> bytes:
    def read(length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = connected.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    return frames.read_payload(read)


def read_all(connected: socket.socket) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connected.recv(65_536):
            data += piece
    return bytes(data)


def parsed(stream: bytes) -> tuple[list[Message], bytes]:
    """The messages that `stream` begins with, and what comes after them, without bodies."""
    found = []
    with contextlib.suppress(ProtocolError, struct.error):
        while stream:
            (length,) = struct.unpack_from("!I", stream)
            message = messages.parse(stream[4 : 4 + length])
            found.append(message)
            stream = stream[4 + length + (message.body if isinstance(message, FileHeader) else 0) :]
    return found, stream


def _check_answers(answer: bytes, tally: Tally) -> None:
    """The receiver itself keeps to the protocol, and has no fault of its own."""
    understood, rest = parsed(answer)
    tally.accepted += any(message.type == "receipt" for message in understood)
    if rest:
        tally.note(RuntimeError("the receiver's own answer is no message"), rest)
    for message in understood:
        if getattr(message, "code", "") == "internal":
            tally.note(RuntimeError("internal"), message)
