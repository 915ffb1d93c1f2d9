"""A hostile or broken receiver cannot steer, fill or deceive who lists it: real processes."""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.hostile import Ending, Peer, _PeakWatch, _serve
from tests.support.processes import KEY, PATIENCE, Finished, environment, start
from xfer.outcomes import Outcome
from xfer.wire import messages
from xfer.wire.messages import Done, Error, List, ListedName, Listing, Refusal, Welcome, Working

Script = Callable[[Peer], object]

_PEAK_KIB: Final = 96 * 1024
_ROUNDS: Final = 100
"""Of a hundred messages each."""
STEERING: Final = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\r"
LAST: Final = Listing((), last=True)


def list_from(script: Script, home: Path, *options: str) -> Ending:
    """`xfer list docs` at a receiver that does `script`, in plaintext."""
    seen = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        thread = threading.Thread(target=_serve, args=(listening, script, seen))
        thread.start()
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        fixed = ["list", "--timeout", "1", "--retry-for", "0", "--insecure-plaintext"]
        began = time.monotonic()
        done, peak = _run([*fixed, *options, "docs", host], home)
        seconds = time.monotonic() - began
        thread.join()
    return Ending(done, seconds, peak, bytes(seen))


def _run(words: list[str], home: Path) -> tuple[Finished, int]:
    """How it ended, however much it says on either stream, and its most memory (KiB)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        env = environment(home)
        process = start(words, env, cwd=home, stdout=out.fileno(), stderr=err.fileno())
        watch = _PeakWatch(process.pid)
        watch.start()
        try:
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            watch.join()
        out.seek(0)
        err.seek(0)
        said = out.read().decode(), err.read().decode()
    return Finished(process.returncode, *said), watch.peak


def asked(peer: Peer) -> None:
    """Hear what is asked for, after a right proof."""
    transcript, proof = peer.challenge()
    mac = KEY.server_proof(transcript, bytes.fromhex(proof))
    peer.say(Welcome(mac.hex(), ["md5"], features=("list",)))
    assert messages.parse(peer.hear()) == List(("docs",))


def saying(*said: messages.Message | bytes) -> Script:
    def script(peer: Peer) -> None:
        asked(peer)
        peer.say(*said)

    return script


def endlessly(*said: messages.Message) -> Script:
    """The same again and again, as fast as it goes."""
    many = 100 * b"".join(map(messages.encode, said))

    def script(peer: Peer) -> None:
        asked(peer)
        with contextlib.suppress(OSError):
            for _ in range(_ROUNDS):
                peer.say(many)

    return script


def silently(peer: Peer) -> None:
    asked(peer)
    peer.keep_silent()


def raw(fields: bytes) -> bytes:
    payload = b'{"type":"listing","files":[{"file_name":"docs/a","kind":"file",%s}]}' % fields
    return len(payload).to_bytes(4, "big") + payload


LINE: Final = ListedName("docs/a", "file", 1, 0, 0o644)
LONG: Final = ListedName("docs/" + "/".join(15 * ["x" * 250]), "symlink", target=4000 * "y")
HOSTILE: Final[dict[str, tuple[Script, int, str]]] = {
    "done at once": (saying(Done()), 5, "before it had answered for every name"),
    "done after a line": (saying(Listing((LINE,)), Done()), 5, "before it had answered"),
    "nothing after the last line": (saying(Listing((LINE,), last=True)), 4, "closed"),
    "a line after the last": (saying(LAST, Listing((LINE,)), Done()), 5, "done was expected"),
    "another name": (saying(Listing((ListedName("etc", "file"),))), 5, "not asked for"),
    "a way up": (saying(Listing((ListedName("docs/../x", "file"),))), 5, "unsafe name"),
    "a name that steers": (
        saying(Listing((ListedName(f"docs/{STEERING}", "file"),))), 5, "unsafe name",
    ),
    "a refusal that steers": (
        saying(Refusal("docs", "not_found", STEERING, retryable=False), LAST, Done()),
        6, r"\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\r",
    ),
    "an error that steers": (
        saying(Error("storage", STEERING, retryable=False)), 6, r"\x1b]0;owned",
    ),
    "an unknown kind": (saying(raw(b'"size":1').replace(b'"file"', b'"fifo"')), 5, "].kind"),
    "a size below nothing": (saying(raw(b'"size":-1')), 5, "].size"),
    "a time beyond all": (saying(raw(b'"mtime_ns":99999999999999999999')), 5, "].mtime_ns"),
    "a mode of five digits": (saying(raw(b'"mode":40960')), 5, "].mode"),
    "garbage": (saying(b"\0\0\0\5{{{{{"), 5, "not plain JSON"),
    "a frame without an end": (saying(b"\xff\xff\xff\xff" + bytes(2**20)), 5, "outside 2 to"),
    "half a frame": (saying(b"\0\0\1\0{"), 4, "closed"),
    "silence": (silently, 4, "kept silent"),
    "endless signs of life, then nothing": (endlessly(Working("docs", 1)), 4, "closed"),
    "endless empty listings, then nothing": (endlessly(Listing(())), 4, "closed"),
    "endless long lines, then nothing": (endlessly(Listing((LONG,))), 4, "closed"),
    "endless refusals, then nothing": (
        endlessly(Refusal("docs/x", "storage", 400 * "no", retryable=False)), 4, "closed",
    ),
    "a receipt": (saying(messages.Receipt("docs", Outcome.STORED)), 5, "receipt"),
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_who_lists_is_neither_steered_nor_filled_nor_deceived(tmp_path: Path, hostile: str) -> None:
    script, code, sentence = HOSTILE[hostile]
    ending = list_from(script, tmp_path)
    done = ending.done
    assert (done.code, sentence in done.err, "Traceback" in done.err) == (code, True, False), (
        done.code, done.err[-500:],
    )  # fmt: skip
    assert done.err.replace("\n", "").isprintable()
    assert done.out.replace("\n", "").isprintable()
    assert ending.peak < _PEAK_KIB
    assert not list(tmp_path.iterdir())


def test_what_steers_in_a_target_is_escaped_and_whole_in_json(tmp_path: Path) -> None:
    line = ListedName("docs/\udce9", "symlink", target=STEERING)
    script = saying(Listing((line,)), LAST, Done())
    done = list_from(script, tmp_path).done
    assert done.code == 0
    assert done.out.endswith(r"docs/\udce9 -> \x1b]0;owned\x07\x1b[2J\x9b1m\u202e\r" + "\n")
    record, _ = list_from(script, tmp_path, "--json").done.records
    assert (record["file_name"], record["target"]) == ("docs/\udce9", STEERING)
