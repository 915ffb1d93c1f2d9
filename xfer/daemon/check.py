"""`xfer receive --check`: is everything in place? Each answer comes from trying it.

Nothing is left that was not there before: the check may be run by another user,
root for example, and the receiver's own user could not touch what that one makes.
"""

import contextlib
import os
import resource
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from xfer.auth.grants import Expired
from xfer.auth.identity import identity_file, load_identity
from xfer.auth.keyring import Keyring
from xfer.auth.keys import derive_key
from xfer.auth.secret_files import find_secret
from xfer.config.locations import default_secret_file, default_state_directory
from xfer.config.sizes import in_units
from xfer.errors import LocalError, XferError
from xfer.names import STATE_DIRECTORY, printable
from xfer.server.listen import listen
from xfer.server.settings import ReceiverSettings
from xfer.storage.local.layout import doubt_about, was_used

Check = Callable[[ReceiverSettings], str]
"""Returns what was found; raises XferError when it is not in place."""

_RELEASED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""No clock of a running receiver says an earlier time."""
_MOST_CLOCK_SKEW = 10.0
"""Seconds between this machine's clock and that of the directory's file system."""
_IN_THE_DIRECTORY = frozenset(("lock", "disk", "clock"))
"""What is tried in it: in vain, if that can't be used."""
_DESCRIPTORS_A_SENDER = 8
"""Its socket, its store writer, and some files. With fewer, commits are smaller."""


def run(settings: ReceiverSettings, secret_file: str | None) -> int:
    """Print a line for each thing that has to be in place; return the exit code for all of them.

    Without `keys` in the settings there is one secret, in `secret_file` or where it usually is.
    """
    checks: list[tuple[str, Check]] = [
        ("secret", partial(_check_secret, secret_file)),
        ("directory", _check_directory),
        ("lock", _check_lock),
        ("disk", _check_disk),
        ("port", _check_port),
        ("identity", _check_identity),
        ("clock", _check_clock),
        ("descriptors", _check_descriptors),
    ]
    if settings.keys is not None:
        checks[0] = ("keys", _check_keys)
    exit_code = 0
    failed = set()
    for name, check in checks:
        try:
            if "directory" in failed and name in _IN_THE_DIRECTORY:
                verdict, finding = "?", "cannot be told without the directory"
            else:
                verdict, finding = "ok", check(settings)
        except XferError as error:
            verdict, finding = "FAILED", error.message
            exit_code = exit_code or error.exit_code
            failed.add(name)
        print(f"{verdict:<7} {name:<12} {printable(finding)}")
    return exit_code


def _check_secret(secret_file: str | None, _: ReceiverSettings) -> str:
    secret = find_secret(secret_file)
    if secret is None:
        file = default_secret_file()
        raise LocalError(f"none yet: `xfer keygen` makes one in {file}, as does the first start")
    derive_key(secret)
    return "is there, and nobody else can read it"


def _check_keys(settings: ReceiverSettings) -> str:
    file = settings.keys or ""
    keyring = Keyring(file)
    if settings.workers > 1:
        keyring.refuse_quotas()
    valid, grants = 0, keyring.current()
    for grant in grants.values():
        with contextlib.suppress(Expired):
            grant.require_valid()
            valid += 1
    if not valid:
        raise LocalError(f"every key in {file} has expired")
    return f"{valid} of {len(grants)} open, and nobody else can read them"


def _check_directory(settings: ReceiverSettings) -> str:
    with _probe(settings.directory):
        space = shutil.disk_usage(settings.directory).free
    return f"{settings.directory} can be written; {in_units(space)} are free"


def _check_lock(settings: ReceiverSettings) -> str:
    if not was_used(settings.directory):
        return "no receiver has ever used the directory"
    return "no other receiver is using the directory"


def _check_disk(settings: ReceiverSettings) -> str:
    if not settings.fsync:
        return "nothing will be flushed (--no-fsync): a crash can take files that have a receipt"
    with _probe(settings.directory) as descriptor:
        began = time.monotonic()
        try:
            os.write(descriptor, b"probe")
            os.fsync(descriptor)
        except OSError as error:
            raise LocalError(f"it cannot be flushed: {error.strerror}") from error
        finding = f"a flush takes {1000 * (time.monotonic() - began):.1f} ms"
        doubt = doubt_about(descriptor)
        return f"{finding}, but {doubt}: receipts say so" if doubt else finding


def _check_port(settings: ReceiverSettings) -> str:
    with listen(settings.bind, settings.port) as free:
        return f"{free.getsockname()[1]} is free"


def _check_identity(settings: ReceiverSettings) -> str:
    if settings.insecure_plaintext:
        return "none is needed: PLAINTEXT"
    state = default_state_directory()
    if os.path.lexists(identity_file(state)):
        load_identity(state)
        return f"is in {identity_file(state)}"
    place = state
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        raise LocalError(f"there is none, and none can be made in {state}")
    return f"the first start will make one in {state}"


def _check_clock(settings: ReceiverSettings) -> str:
    now = time.time()
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if now < _RELEASED:
        raise LocalError(f"it says {moment}, which is before this program was written")
    with _probe(settings.directory) as descriptor:
        skew = os.fstat(descriptor).st_mtime - time.time()
    if abs(skew) > _MOST_CLOCK_SKEW:
        raise LocalError(f"the clock of the directory's file system is {skew:+.0f} s off")
    return f"it is {moment}"


def _check_descriptors(settings: ReceiverSettings) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = settings.connection_limits
    needed = limits.max_unauthenticated + _DESCRIPTORS_A_SENDER * limits.max_connections
    if 0 <= hard < needed:
        raise LocalError(f"{needed} may be needed at once, and {hard} are allowed (ulimit -Hn)")
    return f"{needed} may be needed at once, and so many are allowed"


@contextlib.contextmanager
def _probe(directory: str) -> Iterator[int]:
    """A file that is there for a moment; its descriptor. LocalError when it can't be made."""
    file = os.path.join(directory, f"{STATE_DIRECTORY}-check-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalError(f"cannot receive into {directory}: {error.strerror}") from error
    try:
        os.unlink(file)
        yield descriptor
    finally:
        os.close(descriptor)
