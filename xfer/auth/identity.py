"""TLS 1.3: the contexts, the receiver's identity, and what binds the opening to it.

A receiver makes a key and a self-signed certificate once, and keeps both in one
file. No sender checks a chain of certificates: the proofs of the opening cover the
certificate that was shown, so an impostor with another one cannot pass.
"""

import datetime
import hashlib
import os
import ssl
from typing import Final

from msgspec import Struct

from xfer.errors import LocalError
from xfer.system import private_files

_IDENTITY: Final = "identity.pem"
_VALID_DAYS: Final = 365 * 100


def client_context() -> ssl.SSLContext:
    """TLS 1.3, and any certificate: the opening tells whose it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Identity(Struct, frozen=True):
    """A receiver's TLS context, and the binding of its certificate (32 bytes)."""

    context: ssl.SSLContext
    binding: bytes


def identity_file(state_directory: str) -> str:
    return os.path.join(state_directory, _IDENTITY)


def load_identity(state_directory: str) -> Identity:
    """The receiver's identity, made in `state_directory` if there is none.

    LocalError when it can't be read or made.
    """
    file = identity_file(state_directory)
    try:
        if not os.path.exists(file):
            # Another receiver may be first: then both use what that one made.
            private_files.create_if_missing(file, _self_signed())
        certificate = _certificate(file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # No sender resumes a TLS session, and to close a connection over an unread ticket
        # would reset it.
        context.num_tickets = 0
        context.load_cert_chain(file)
        return Identity(context, certificate_binding(certificate))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise LocalError(f"the TLS identity in {file} cannot be used: {error}") from error


def _certificate(file: str) -> bytes:
    """The certificate in DER, from a file that is private, since the key is in it too."""
    with private_files.reading(file, "the TLS identity") as opened:
        text = opened.read()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])


def certificate_binding(certificate: bytes) -> bytes:
    """The SHA-256 of a DER certificate, which both proofs cover; empty without TLS."""
    return hashlib.sha256(certificate).digest() if certificate else b""


def _self_signed() -> str:
    """A new P-256 key and a certificate for it, in PEM."""
    # Imported here because only a receiver's very first start needs it.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "xfer")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    private_key = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (private_key + certificate.public_bytes(serialization.Encoding.PEM)).decode()
