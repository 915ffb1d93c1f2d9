"""A receiver with a key for each client: who gets in, where to, and what the others learn."""

import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import field

import xfer
from tests.support.channels import concurrently, joined
from tests.support.processes import (
    KEY,
    PATIENCE,
    SECRET,
    Finished,
    Site,
    assert_failed,
    environment,
    finish,
    receiving,
    run,
    start,
    wait_until,
)
from tests.support.terminals import terminal
from tests.support.trees import bytes_below
from xfer.auth import opening
from xfer.auth.identity import certificate_binding, client_context
from xfer.auth.keys import Key, derive_key
from xfer.auth.opening import admit_sender, prove_to_receiver
from xfer.errors import AuthenticationError, XferError
from xfer.wire.channel import Channel
from xfer.wire.messages import Welcome

ALICE, BOB, OLD, EXPIRED = ("xfer-key-" + 43 * letter for letter in "BCDE")
KEYS = f"""
[alice]
secret = "{ALICE}"
previous = "{OLD}"
directory = "of/alice"
quota = "1K"
[bob]
secret = "{BOB}"
directory = "bob"
if_exists = "refuse"
[default]
secret = "{SECRET}"
[gone]
secret = "{EXPIRED}"
expires = 2020-01-01
"""
UNKNOWN = "the two sides do not hold the same secret"


def write_keys(home: Path, text: str) -> Path:
    draft = home / "draft"
    draft.write_text(text)
    draft.chmod(0o600)
    return draft.rename(home / "keys")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("hub")
    with receiving(home, "--keys", str(write_keys(home, KEYS)), secret=None) as site:
        yield site
    assert "Traceback" not in site.log.text


def send_as(site: Site, key_id: str, secret: str, *arguments: str | Path) -> Finished:
    return site.send("--json", "--key-id", key_id, *arguments, secret=secret)


def test_each_client_writes_below_its_own_directory(hub: Site, document: Path) -> None:
    for key_id, secret in (("alice", ALICE), ("bob", BOB), ("default", SECRET)):
        done = send_as(hub, key_id, secret, document)
        assert (done.code, done.records[0]["outcome"]) == (0, "stored")
        assert {said.get("key_id", "default") for said in done.records} == {key_id}
        hub.log.wait_for(rf" {key_id} {re.escape(document.name)}: 13 bytes, .* stored\n")
    for place in ("of/alice", "bob", "."):
        assert (hub.directory / place / document.name).read_bytes() == document.read_bytes()


def test_each_client_has_its_own_way_with_what_exists(hub: Site, tmp_path: Path) -> None:
    file = tmp_path / "changing"
    for content, code in ((b"before", 0), (b"after", 6)):
        file.write_bytes(content)
        assert send_as(hub, "bob", BOB, file).code == code
        assert send_as(hub, "alice", ALICE, file).code == 0
    versions = hub.directory / ".xfer" / "versions"
    assert [path.read_bytes() for path in (versions / "of/alice/changing").iterdir()] == [b"before"]
    assert not (versions / "bob").exists()
    assert (hub.directory / "bob" / "changing").read_bytes() == b"before"


def test_each_client_has_its_own_quota(hub: Site, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(1025))
    done = send_as(hub, "alice", ALICE, file)
    assert (done.code, done.records[0]["code"]) == (6, "quota")
    assert send_as(hub, "bob", BOB, file).code == 0
    assert bytes_below(hub.directory / "of" / "alice") <= 1024


def test_the_previous_secret_opens_too(hub: Site, document: Path) -> None:
    assert send_as(hub, "alice", OLD, document).code == 0


def test_the_environment_can_say_whose_secret_it_is(hub: Site, document: Path) -> None:
    env = environment(hub.home, BOB) | {"XFER_KEY_ID": "bob"}
    assert finish(start(hub.command(document), env)).code == 0
    assert finish(start(hub.command("--key-id", "alice", document), env)).code == 3


@pytest.mark.parametrize(
    ("key_id", "secret"),
    [
        ("alice", BOB), ("bob", ALICE), ("nobody", ALICE), ("gone", ALICE), ("bob", OLD),
        ("of/alice", ALICE), ("gone", SECRET),
    ],
)  # fmt: skip
def test_everybody_else_gets_one_and_the_same_answer(
    hub: Site, document: Path, key_id: str, secret: str
) -> None:
    done = send_as(hub, key_id, secret, document)
    assert_failed(done, 3, f"xfer: {UNKNOWN}\n")
    assert send_as(hub, "default", SECRET, document).code == 0  # which forgives wrong proofs
    assert done.err == f"xfer: {UNKNOWN}\n"


def test_who_holds_an_expired_key_is_told_so(hub: Site, document: Path) -> None:
    done = send_as(hub, "gone", EXPIRED, document)
    assert_failed(done, 3, "xfer: this key expired at 2020-01-01 00:00 UTC\n")
    assert (done.records[-1]["code"], done.records[-1]["retryable"]) == ("auth_failed", False)


def test_the_library_has_keys_too(hub: Site, document: Path, tmp_path: Path) -> None:
    (receipt,) = xfer.send([str(document)], hub.host, secret=BOB, key_id="bob")
    assert receipt.outcome in ("stored", "unchanged")
    keys = str(write_keys(tmp_path, KEYS))
    for secret, file in ((None, None), (SECRET, keys)):
        with pytest.raises(xfer.UsageError, match="one secret, or a file of keys"):
            xfer.Receiver(str(tmp_path), secret=secret, keys=file, bind="127.0.0.1", port=0)
    with xfer.Receiver(
        str(tmp_path), keys=keys, bind="127.0.0.1", port=0, state_directory=str(tmp_path / "state")
    ) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        host = "{}:{}".format(*receiver.address)
        xfer.send([str(document)], host, secret=ALICE, key_id="alice")
        write_keys(tmp_path, f'[alice]\nsecret = "{BOB}"')
        receiver.reload_keys()
        with pytest.raises(xfer.AuthenticationError):
            xfer.send([str(document)], host, secret=ALICE, key_id="alice")
    thread.join()


def test_what_keygen_tells_a_person_to_type_lets_a_client_in(
    tmp_path: Path, document: Path
) -> None:
    keys, other = tmp_path / "keys", tmp_path / "other"
    other.mkdir()
    with terminal() as (tty, seen):
        command = ["keygen", "--id", "dora", "--keys", str(keys)]
        assert finish(start(command, environment(tmp_path, None), stderr=tty)).code == 0
    told = r"once: (xfer keygen --import), and paste there\s+(\S+)\r\n"
    typed, secret = seen.wait_for(told).groups()
    home = {"HOME": str(other), "PATH": os.environ["PATH"]}
    importing = start(shlex.split(typed)[1:], home, stdin=subprocess.PIPE)
    importing.communicate(f"{secret}\n".encode(), timeout=PATIENCE)
    assert importing.returncode == 0
    with receiving(tmp_path, "--keys", str(keys), secret=None) as site:
        words = seen.wait_for(r"and there: xfer send (--key-id dora) FILE HOST")[1].split()
        assert finish(start(["send", *words, document, site.host], home)).code == 0


# Usage


def test_keys_and_a_secret_are_one_too_many(tmp_path: Path) -> None:
    done = run(tmp_path, "receive", "--dir", tmp_path, "--keys", "k", "--secret-file", "s")
    assert_failed(done, 2, "--secret-file or --keys, not both")


def test_keys_with_a_mistake_keep_a_receiver_from_starting(tmp_path: Path) -> None:
    keys = write_keys(tmp_path, KEYS + "qouta = 5")
    done = run(tmp_path, "receive", "--dir", tmp_path, "--keys", keys)
    assert_failed(done, 1, f"xfer: {keys}: [gone] has an unknown key: qouta\n")


def test_a_key_id_that_is_too_long_is_wrong_usage(tmp_path: Path, document: Path) -> None:
    done = run(tmp_path, "send", "--key-id", 256 * "x", document, "localhost")
    assert_failed(done, 2, "a key id has at most 255 characters")


# Reloading


def test_a_hang_up_reloads_and_drops_nobody(tmp_path: Path, document: Path) -> None:
    keys = write_keys(tmp_path, KEYS)
    with receiving(tmp_path, "--keys", str(keys), secret=None) as site:
        command = site.command("--json", "--key-id", "bob", "-", "--name", "stream")
        streaming = start(command, environment(tmp_path, BOB))
        assert streaming.stdin
        streaming.stdin.write(bytes(1024 * 1024 + 1))
        streaming.stdin.flush()
        wait_until(lambda: 1024 * 1024 in site.partials())
        write_keys(tmp_path, "[alice")
        site.process.send_signal(signal.SIGHUP)
        site.log.wait_for("is not TOML.*; the keys before stay in force")
        assert send_as(site, "alice", ALICE, document).code == 0
        write_keys(tmp_path, f'[carol]\nsecret = "{BOB}"')
        site.process.send_signal(signal.SIGHUP)
        site.log.wait_for(r"1 key\(s\) in force")
        assert send_as(site, "carol", BOB, document).code == 0
        assert send_as(site, "alice", ALICE, document).code == 3
        done = finish(streaming, b"the end")
        assert (done.code, done.records[0]["outcome"]) == (0, "stored")
    assert "Traceback" not in site.log.text


def test_a_change_needs_no_signal(tmp_path: Path, document: Path) -> None:
    keys = write_keys(tmp_path, KEYS)
    with receiving(tmp_path, "--keys", str(keys), secret=None) as site:
        write_keys(tmp_path, f'[carol]\nsecret = "{BOB}"')
        time.sleep(1.1)
        assert send_as(site, "carol", BOB, document).code == 0


# What strangers can measure


class Counting(Key, frozen=True):
    """A key that keeps count of the proofs it was asked for."""

    asked: list[bytes] = field(default_factory=list)

    def client_proof(self, transcript: bytes) -> bytes:
        self.asked.append(transcript)
        return super().client_proof(transcript)


def test_as_much_is_computed_for_a_key_id_that_nobody_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Computations, not seconds, so that it fails for a reason only."""
    nobodys, one, two = Counting(b"0" * 32), Counting(b"1" * 32), Counting(b"2" * 32)
    monkeypatch.setattr(opening, "_NOBODYS", nobodys)
    keys = {"one": (one,), "two": (one, two)}

    def computed(key_id: str, proof_of: Key) -> tuple[int, str]:
        for key in (nobodys, one, two):
            key.asked.clear()

        def receiver(channel: Channel) -> str:
            try:
                return admit_sender(channel, keys, b"", lambda _, mac: Welcome(mac, [])).key_id
            except XferError as error:
                channel.end_with(error)
                return error.message
            finally:
                channel.close()

        def sender(channel: Channel) -> None:
            try:
                prove_to_receiver(channel, proof_of, b"", key_id)
            except AuthenticationError:
                pass
            finally:
                channel.close()

        with joined(socket.socketpair(), PATIENCE) as (ours, theirs):
            told, _ = concurrently(lambda: receiver(ours), lambda: sender(theirs))
        assert told
        return sum(len(key.asked) for key in (nobodys, one, two)), told

    for key_id in ("nobody", "one", "two"):
        assert computed(key_id, KEY) == (2, UNKNOWN)
    assert computed("two", Key(b"1" * 32)) == computed("two", Key(b"2" * 32)) == (2, "two")
    assert computed("one", Key(b"1" * 32)) == (2, "one")


# What must not be seen


def test_no_secret_shows_in_logs_receipts_processes_or_core_files(
    tmp_path: Path, document: Path
) -> None:
    passphrase = "correct horse battery staple"
    text = KEYS + f'[words]\nsecret = "{passphrase}"\n'
    shown = ""
    with receiving(tmp_path, "--keys", str(write_keys(tmp_path, text)), secret=None) as site:
        attempts = [
            ("alice", ALICE), ("alice", OLD), ("gone", EXPIRED), ("bob", ALICE),
            ("words", passphrase), ("words", passphrase + "!"), ("", BOB),
        ]  # fmt: skip
        for key_id, secret in attempts:
            done = send_as(site, key_id, secret, document, tmp_path / "missing")
            shown += done.out + done.err
        write_keys(tmp_path, text + f'[other]\nsecret = "{BOB}"\n')
        site.process.send_signal(signal.SIGHUP)
        site.log.wait_for("has the same secret as")
        for proof in proofs_of_a_stranger(site):
            assert proof not in site.log.text
        pid = site.process.pid
        shown += Path(f"/proc/{pid}/cmdline").read_text()
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
    shown += site.log.text
    for secret in (ALICE, BOB, OLD, EXPIRED, passphrase):
        key = derive_key(secret).secret
        for spelling in (secret, secret.removeprefix("xfer-key-"), key.hex(), repr(key)[2:-1]):
            assert spelling not in shown
    assert not re.search("[0-9a-f]{64}", shown)  # no nonce, no proof


def proofs_of_a_stranger(site: Site) -> list[str]:
    """What somebody shows who has a wrong key, and then one who has the right one."""
    shown = []
    for key in (KEY, derive_key(BOB)):
        counting = Counting(key.secret)
        channel = Channel(socket.create_connection(("127.0.0.1", site.port), PATIENCE), PATIENCE)
        try:
            channel.start_tls(client_context(), server_side=False)
            binding = certificate_binding(channel.peer_certificate())
            prove_to_receiver(channel, counting, binding, "bob")
        except AuthenticationError:
            pass
        finally:
            channel.close()
        shown += [Key.client_proof(key, transcript).hex() for transcript in counting.asked]
    assert len(shown) == 2
    return shown
