"""Real xfer processes on loopback, and peers made by hand for them to talk to."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeVar

import pytest

from xfer import digests
from xfer.auth.identity import certificate_binding, client_context
from xfer.auth.keys import DEFAULT_KEY_ID, Key, derive_key
from xfer.auth.opening import admit_sender, prove_to_receiver
from xfer.errors import XferError
from xfer.wire import frames, messages
from xfer.wire.channel import Channel
from xfer.wire.messages import Done, Error, Message, PlannedFile, Welcome, Working

Value = TypeVar("Value")

SECRET: Final = "xfer-key-" + 43 * "A"
KEY: Final = derive_key(SECRET)
MIB: Final = 1024 * 1024
PATIENCE: Final = 20.0
"""Seconds that anything here may take before its test fails."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def assert_failed(done: Finished, code: int, sentence: str) -> None:
    """It ended with `code`, said `sentence`, and no traceback."""
    assert (done.code, sentence in done.err, "Traceback" in done.err) == (code, True, False), done


def environment(home: Path, secret: str | None = SECRET) -> dict[str, str]:
    """This process's environment, with everything of the user's own below `home`."""
    own = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
    }
    inherited = {key: text for key, text in os.environ.items() if key != "XFER_SECRET"}
    return inherited | own | ({"XFER_SECRET": secret} if secret is not None else {})


def start(
    arguments: Sequence[str | Path],
    env: dict[str, str],
    *,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """`python -m xfer arguments`, with a pipe on each of its three streams."""
    words = list(map(str, arguments))
    if words[:1] == ["send"] and "--retry-for" not in words:
        words[1:1] = ["--retry-for", "0"]  # a test sees the first failure, not the last
    command = [*prefix, sys.executable, "-m", "xfer", *words]
    return subprocess.Popen(command, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)


def finish(
    process: subprocess.Popen[bytes], stdin: bytes = b"", patience: float = PATIENCE
) -> Finished:
    """Feed `stdin`, wait for the end, kill what has not come to one after `patience` seconds."""
    try:
        out, err = process.communicate(stdin or None, timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Finished(process.returncode, _text(out), _text(err))


def run(
    home: Path, *arguments: str | Path, stdin: bytes = b"", secret: str | None = SECRET
) -> Finished:
    """Run one xfer command to its end."""
    return finish(start(arguments, environment(home, secret)), stdin)


def wait_until(look: Callable[[], Value]) -> Value:
    """The first true value of `look`."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return seen


class Log:
    """What a process says on a stream, kept by a thread that always drains it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.text = ""
        self._stream = stream
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def _drain(self) -> None:
        # A terminal ends in an error once nobody has it open any more.
        with self._stream, contextlib.suppress(OSError):
            for line in self._stream:
                self.text += _text(line)

    def wait_for(self, pattern: str) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text)
            assert found or self._thread.is_alive(), f"no {pattern} in: {self.text}"
            return found

        found = wait_until(look)
        assert found
        return found

    def join(self) -> None:
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Site:
    """A running `xfer receive`, and what a test wants from it."""

    home: Path
    directory: Path
    process: subprocess.Popen[bytes]
    log: Log
    host: str
    plaintext: bool

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def command(self, *arguments: str | Path) -> list[str | Path]:
        option = ["--insecure-plaintext"] if self.plaintext else []
        return ["send", *option, *arguments, self.host]

    def send(
        self, *arguments: str | Path, stdin: bytes = b"", secret: str | None = SECRET
    ) -> Finished:
        return run(self.home, *self.command(*arguments), stdin=stdin, secret=secret)

    def start_send(
        self, *arguments: str | Path, stdin: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        return start(self.command(*arguments), environment(self.home), stdin=stdin)

    def stored(self, path: Path | str) -> Path:
        """Where what was sent from `path` is."""
        return self.directory / Path(path).name

    def versions(self, path: Path | str) -> list[bytes]:
        """The older contents that are kept for what was sent from `path`."""
        kept = self.directory / ".xfer" / "versions" / Path(path).name
        return [version.read_bytes() for version in sorted(kept.glob("*"))]

    def partials(self) -> list[int]:
        """The sizes of what is arriving, in bytes."""
        sizes = []
        for partial in (self.directory / ".xfer" / "partials").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sizes.append(partial.stat().st_size)
        return sizes


@contextlib.contextmanager
def receiving(
    home: Path,
    *options: str,
    bind: str = "127.0.0.1",
    secret: str | None = SECRET,
    prefix: Sequence[str] = (),
    directory: Path | None = None,
) -> Iterator[Site]:
    """A receiver process with everything of its own below `home`; ended at the end."""
    directory = directory or home / "received"
    directory.mkdir(parents=True, exist_ok=True)
    is_quiet = "--quiet" in options  # then it does not say where it listens
    port = free_port() if is_quiet else 0
    command = ["receive", "--dir", str(directory), "--bind", bind, "--port", str(port), *options]
    null = subprocess.DEVNULL
    env = environment(home, secret)
    process = start(command, env, prefix=prefix, stdin=null, stdout=null)
    assert process.stderr
    log = Log(process.stderr)
    try:
        if is_quiet:
            wait_until(lambda: _accepts(port))
            host = f"{bind}:{port}"
        else:
            host = log.wait_for(r"listening on (\S+:\d+)\n")[1]
        yield Site(home, directory, process, log, host, "--insecure-plaintext" in options)
    finally:
        end(process)
        log.join()


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def unprivileged() -> list[str]:
    """What to run a command with, so that permissions hold for it even if we are root."""
    if os.geteuid():
        return []
    prefix = ["setpriv", "--bounding-set", "-all"]
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root, and setpriv cannot drop its privileges")
    return prefix


class Reachable(Protocol):
    """Something that listens on loopback."""

    @property
    def port(self) -> int: ...

    @property
    def plaintext(self) -> bool: ...


class HandSender:
    """A sender whose every frame is made by hand. A context manager."""

    def __init__(self, site: Reachable, key: Key = KEY, key_id: str = DEFAULT_KEY_ID) -> None:
        connected = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
        self.port = connected.getsockname()[1]
        self.channel = Channel(connected, PATIENCE / 2)
        certificate = b""
        if not site.plaintext:
            self.channel.start_tls(client_context(), server_side=False)
            certificate = self.channel.peer_certificate()
        prove_to_receiver(self.channel, key, certificate_binding(certificate), key_id)

    def __enter__(self) -> "HandSender":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def say(self, fields: dict[str, object], body: bytes = b"") -> None:
        self.channel.send_body(frames.encode(fields) + body)
        self.channel.flush()

    def file(self, name: str, body: bytes, **keys: object) -> None:
        """A whole file, unless `keys` make something else of it."""
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.say(
            {"type": "file", "file_name": name, "file_size": len(body), "md5": md5} | keys, body
        )

    def part(self, name: str, whole: bytes, begin: int, end: int) -> None:
        """The bytes of `whole` from `begin` to `end`."""
        md5 = hashlib.md5(whole[:end], usedforsecurity=False).hexdigest()
        body = whole[begin:end]
        self.file(name, body, file_size=len(whole), offset=begin, length=len(body), md5=md5)

    def answers(self, *, finish: bool = True) -> list[Message]:
        """Every answer up to the end of the session; the end is there only if it is an error."""
        if finish:
            self.say({"type": "done"})
        answers: list[Message] = []
        while not isinstance(message := self.channel.receive(), Done):
            answers.append(message)
            if isinstance(message, Error):
                break
        return answers


def codes(answers: Sequence[Message]) -> list[tuple[str, str]]:
    """The type of each answer, with its code or outcome; a sign of life is none."""
    return [
        (answer.type, str(getattr(answer, "code", getattr(answer, "outcome", ""))))
        for answer in answers
        if not isinstance(answer, Working)
    ]


@contextlib.contextmanager
def fake_receiver(script: Callable[[Channel], object]) -> Iterator[str]:
    """A server that runs `script` on the first connection to it; gives HOST:PORT.

    Then it half-closes, and reads until the sender is gone, so that no reset
    takes away what the script said.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def serve() -> None:
            connected = listening.accept()[0]
            with (
                contextlib.closing(connected.dup()) as spare,
                contextlib.closing(Channel(connected, PATIENCE / 2)) as channel,
            ):
                with contextlib.suppress(XferError):
                    script(channel)
                    channel.flush()
                _drain(spare)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def admit(channel: Channel) -> None:
    """Open a plaintext connection the way a receiver does."""
    allowed = list(digests.available())
    admit_sender(channel, {DEFAULT_KEY_ID: [KEY]}, b"", lambda _, mac: Welcome(mac, allowed))


def receive_file(channel: Channel) -> messages.FileHeader:
    """The next header, once its body has been read."""
    while isinstance(message := channel.receive(), messages.Offer):
        wanted = tuple(PlannedFile(file.file_name, "send") for file in message.files)
        channel.send(messages.Plan(wanted))
        channel.flush()
    assert isinstance(message, messages.FileHeader)
    channel.read(message.body)
    return message


def _drain(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.setblocking(True)
        connected.shutdown(socket.SHUT_WR)
        while connected.recv(MIB):
            pass


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "backslashreplace")
