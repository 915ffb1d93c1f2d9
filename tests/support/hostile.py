"""A receiver that can do everything wrong, and what a real `xfer send` made of it."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.support.fuzzed_sessions import read_all, read_frame
from tests.support.mutations import BODY, MD5
from tests.support.processes import KEY, PATIENCE, Finished, environment, start
from xfer.auth.identity import load_identity
from xfer.auth.opening import transcribe
from xfer.outcomes import Outcome
from xfer.wire import messages
from xfer.wire.messages import Challenge, Get, Message, Offer, Proof, Receipt, Welcome

NAME: Final = "victim.txt"
BACK: Final = "back"
"""Where a get puts what it gets."""
SIBLING: Final = "sibling.txt"
SIBLINGS: Final = b"what nobody asked to be sent"
RECEIPT: Final = Receipt(NAME, Outcome.STORED, len(BODY), MD5)


@dataclass(slots=True)
class Peer:
    """One connection of a sender, from the hostile side. `seen` is all that it said."""

    connected: socket.socket
    seen: bytearray
    binding: bytes = b""

    def start_tls(self, context: ssl.SSLContext, binding: bytes = b"") -> None:
        self.connected = context.wrap_socket(self.connected, server_side=True)
        self.binding = binding

    def say(self, *said: Message | bytes) -> None:
        for one in said:
            self.connected.sendall(one if isinstance(one, bytes) else messages.encode(one))

    def hear(self) -> bytes:
        """The payload of the sender's next frame."""
        payload = read_frame(self.connected)
        self.seen += payload
        return payload

    def hear_all(self) -> None:
        with contextlib.suppress(OSError):  # it is closed while another thread reads
            self.seen += read_all(self.connected)

    def challenge(self) -> tuple[bytes, str]:
        """The opening up to the sender's proof: the transcript, and the proof's mac."""
        hello = self.hear()
        challenge = messages.encode(Challenge(1, 64 * "0"))
        self.say(challenge)
        proof = messages.parse(self.hear())
        assert isinstance(proof, Proof)
        return transcribe(hello, challenge[4:], self.binding), proof.mac

    def open(self) -> None:
        """All of the opening, as who holds the secret does it."""
        transcript, proof = self.challenge()
        mac = KEY.server_proof(transcript, bytes.fromhex(proof))
        self.say(Welcome(mac.hex(), ["md5"], features=("get", "list")))

    def offered(self) -> None:
        """Hear up to the offer of the file."""
        self.open()
        while not isinstance(message := messages.parse(self.hear()), Offer) or not message.files:
            pass

    def asked(self) -> Get:
        """Hear what a getter asks for."""
        self.open()
        asked = messages.parse(self.hear())
        assert isinstance(asked, Get)
        return asked

    def sent(self) -> None:
        """Ask for the file, and hear all of it."""
        self.offered()
        self.say(messages.Plan((messages.PlannedFile(NAME, "send"),)))
        while b'"type":"done"' not in self.seen:
            self.seen += self.connected.recv(65_536)

    def keep_silent(self) -> None:
        self.hear_all()


Script = Callable[[Peer], object]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a sender ended: after so many seconds, with so much memory at the most (KiB)."""

    done: Finished
    seconds: float
    peak: int
    seen: bytes


def send_to(script: Script, home: Path, *options: str) -> Ending:
    """Send a file of `home` to a receiver that does `script`, in plaintext unless said."""
    (home / NAME).write_bytes(BODY)
    (home / SIBLING).write_bytes(SIBLINGS)
    rest = [word for word in options if word != "--tls"]
    plaintext = [] if "--tls" in options else ["--insecure-plaintext"]
    return _meet(script, home, lambda host: ["send", *plaintext, *rest, NAME, host])


def get_from(script: Script, home: Path, *options: str, names: Sequence[str] = (NAME,)) -> Ending:
    """Get a file into `home`/back from a receiver that does `script`, in plaintext."""
    (home / BACK).mkdir(exist_ok=True)
    fixed = ["get", "--retry-for", "0", "--insecure-plaintext", "--to", BACK]
    return _meet(script, home, lambda host: [*fixed, *options, *names, host])


def _meet(script: Script, home: Path, words: Callable[[str], list[str]]) -> Ending:
    """One command of `words`, for HOST, at a receiver that does `script`."""
    seen = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        thread = threading.Thread(target=_serve, args=(listening, script, seen))
        thread.start()
        command, *rest = words(f"127.0.0.1:{listening.getsockname()[1]}")
        began = time.monotonic()
        done, peak = _run([command, "--timeout", "1", *rest], home)
        seconds = time.monotonic() - began
        thread.join()
    return Ending(done, seconds, peak, bytes(seen))


def _serve(listening: socket.socket, script: Script, seen: bytearray) -> None:
    connected = listening.accept()[0]
    connected.settimeout(PATIENCE)
    peer = Peer(connected, seen)
    try:
        with contextlib.suppress(OSError, EOFError):
            script(peer)
            peer.connected.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            peer.hear_all()
    finally:
        peer.connected.close()


def _run(words: list[str], home: Path) -> tuple[Finished, int]:
    process = start(words, environment(home), cwd=home)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    killer = threading.Timer(PATIENCE, process.kill)
    killer.start()
    watch = _PeakWatch(process.pid)
    watch.start()
    with process.stdin, process.stdout, process.stderr:
        process.stdin.close()
        out, err = process.stdout.read(), process.stderr.read()
        process.wait()
    killer.cancel()
    watch.join()
    return Finished(process.returncode, out.decode(), err.decode()), watch.peak


class _PeakWatch(threading.Thread):
    """The most memory that a process had, in KiB.

    The system's own account at its end counts what its parent had when it forked, too.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._status = Path("/proc", str(pid), "status")

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while found := re.search(r"VmHWM:\s+(\d+)", self._status.read_text()):
                self.peak = int(found[1])
                time.sleep(0.01)


def key_updates(keylog: Path, count: int) -> bytes:
    """Records in which a server asks for new keys, the first that it sends after the handshake."""
    secret = bytes.fromhex(re.findall(r"SERVER_TRAFFIC_SECRET_0 \w+ (\w+)", keylog.read_text())[-1])
    header = bytes.fromhex("1703030016")
    records = bytearray()
    for _ in range(count):
        key, nonce = _expanded(secret, b"key", 32), _expanded(secret, b"iv", 12)
        records += header + AESGCM(key).encrypt(nonce, bytes.fromhex("180000010116"), header)
        secret = _expanded(secret, b"traffic upd", 48)
    return bytes(records)


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of TLS 1.3 (RFC 8446), for TLS_AES_256_GCM_SHA384."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(SHA384(), length, info).derive(secret)


def strange_context(home: Path, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A server's context with a certificate of its own."""
    load_identity(str(home))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(str(home / "identity.pem"))
    return context
