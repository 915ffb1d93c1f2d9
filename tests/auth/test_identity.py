"""TLS: one identity, made once and kept to itself, and nothing older than TLS 1.3."""

import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.channels import concurrently, joined, over_loopback
from xfer.auth.identity import certificate_binding, client_context, load_identity
from xfer.errors import LocalError, ProtocolError
from xfer.wire.channel import Channel


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def handshake(channel: Channel, context: ssl.SSLContext, *, server_side: bool) -> str:
    try:
        channel.start_tls(context, server_side=server_side)
    except ProtocolError:
        return "refused"
    finally:
        channel.close()
    return "done"


def handshakes(client: ssl.SSLContext, server: ssl.SSLContext) -> list[str]:
    with joined(over_loopback(), 5) as (ours, theirs):
        return concurrently(
            lambda: handshake(ours, client, server_side=False),
            lambda: handshake(theirs, server, server_side=True),
        )


def test_an_identity_is_made_once_and_used_again(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    first = load_identity(str(state))
    content = (state / "identity.pem").read_bytes()
    assert load_identity(str(state)).binding == first.binding
    assert (state / "identity.pem").read_bytes() == content


@pytest.mark.usefixtures("open_umask")
def test_an_identity_is_for_its_owner_only_and_leaves_no_draft(tmp_path: Path) -> None:
    load_identity(str(tmp_path / "state"))
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "identity.pem").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "state") == ["identity.pem"]


def test_the_binding_is_the_sha256_of_the_certificate(tmp_path: Path) -> None:
    identity = load_identity(str(tmp_path))
    certificate = x509.load_pem_x509_certificate((tmp_path / "identity.pem").read_bytes())
    assert identity.binding == certificate.fingerprint(hashes.SHA256())
    assert certificate_binding(b"") == b""


def test_receivers_that_start_at_once_agree_on_one_identity(tmp_path: Path) -> None:
    made = concurrently(*[lambda: load_identity(str(tmp_path)).binding] * 4)
    assert len(set(made)) == 1
    assert os.listdir(tmp_path) == ["identity.pem"]


def test_every_receiver_has_an_identity_of_its_own(tmp_path: Path) -> None:
    one, other = (load_identity(str(tmp_path / name)).binding for name in "ab")
    assert one != other


@pytest.mark.parametrize(
    "content",
    [b"", b"no PEM", b"\xff", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"],
)
def test_an_unusable_identity_is_a_local_error_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "identity.pem"
    file.write_bytes(content)
    with pytest.raises(LocalError):
        load_identity(str(tmp_path))
    assert file.read_bytes() == content


def test_a_state_directory_that_cannot_be_made_is_a_local_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocalError):
        load_identity(str(tmp_path / "file" / "state"))


def test_the_two_contexts_meet_in_tls_1_3(tmp_path: Path) -> None:
    server = load_identity(str(tmp_path)).context
    assert handshakes(client_context(), server) == ["done", "done"]


def test_neither_side_speaks_tls_1_2(tmp_path: Path) -> None:
    server = load_identity(str(tmp_path)).context
    old_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old_client.check_hostname = False
    old_client.verify_mode = ssl.CERT_NONE
    old_client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshakes(old_client, server) == ["refused", "refused"]
    old_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old_server.load_cert_chain(tmp_path / "identity.pem")
    old_server.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshakes(old_client, old_server) == ["done", "done"]
    assert handshakes(client_context(), old_server) == ["refused", "refused"]


def test_only_a_first_start_needs_the_cryptography_package(tmp_path: Path) -> None:
    program = (
        "import sys, xfer.auth.identity; xfer.auth.identity.load_identity(sys.argv[1]); "
        "print('cryptography' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    starts = [subprocess.check_output(command, text=True, timeout=20) for _ in range(2)]
    assert starts == ["True\n", "False\n"]
