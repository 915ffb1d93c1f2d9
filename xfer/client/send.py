"""`xfer.send`: what the package offers to programs that send."""

import os
from collections.abc import Callable, Iterable

from xfer import digests
from xfer.auth.keys import DEFAULT_KEY_ID, Key, derive_key
from xfer.auth.secret_files import find_key_id, find_secret, no_secret
from xfer.client.connect import Target
from xfer.client.job import MAX_JOB_CONNECTIONS, Job, send_job
from xfer.client.progress import Collector, SendProgress, observer_of
from xfer.client.retries import retry_times
from xfer.config.addresses import Address, parse_address
from xfer.errors import Incomplete, UsageError, XferError
from xfer.sending.observer import Observer, Result, only_error
from xfer.sending.parts import Options
from xfer.source.roots import STDIN
from xfer.wire.bandwidth import Bandwidth
from xfer.wire.cancel import CancelToken

Path = str | os.PathLike[str]


def send(
    paths: Path | Iterable[Path],
    host: str,
    *,
    secret: str | None = None,
    key_id: str | None = None,
    name: str | None = None,
    checksum: str = digests.DEFAULT,
    checksum_all: bool = False,
    timeout: float = 60.0,
    retry_for: float | None = None,
    bwlimit: int = 0,
    insecure_plaintext: bool = False,
    connections: int = 1,
    snapshot: str | None = None,
    progress: Observer | Callable[[SendProgress], object] | None = None,
    cancel: CancelToken | None = None,
) -> list[Result]:
    """Send a path, or several, to the receiver at `host` (`HOST[:PORT]`).

    Returns one receipt for each file, directory and link: verified, and on the
    receiver's stable storage. FIFOs, sockets and devices below a path are left out.
    Without `secret`, it and the key id are found as the
    command line finds them; `key_id` names the key that `secret` is, where the
    receiver has keys for several clients. The path `"-"` is standard input, stored
    as `name`. Files of which the receiver has one of equal size and time are skipped
    unread, and have no digest in their receipt; with `checksum_all`, equal contents
    are needed. A session in which nothing moves for `timeout` seconds ends. What can
    be tried again is, until no attempt has got further for `retry_for` seconds. At
    most `bwlimit` bytes a second are sent, 0 for no limit. Up to `connections`
    (1 to 64) share the files. With `snapshot`, the name of a job, the receiver remembers all
    of it as a snapshot of that job.

    `progress` is a function, called with a `SendProgress`, or an `Observer`; what it
    raises ends the send, and is raised here. It is called in any thread, one call at
    a time (of an Observer, `finished` only). `cancel.cancel()`, called in any thread
    or signal handler, ends the send at once.

    Raises `Incomplete` (with `receipts` and `failures`) when some went and some did
    not, `Cancelled` when `cancel` was, and another `XferError` when nothing went.
    Nothing is stored by halves, and the same call again finishes what is left.
    """
    if not 1 <= connections <= MAX_JOB_CONNECTIONS:
        raise UsageError(f"a job takes 1 to {MAX_JOB_CONNECTIONS} connections")
    target = target_at(
        parse_address(host),
        *key_of(secret, key_id),
        timeout=timeout,
        bwlimit=bwlimit,
        insecure_plaintext=insecure_plaintext,
        cancel=cancel,
    )
    options = Options(checksum, checksum_all)
    collector = Collector(observer_of(progress))
    job = Job(_texts(paths), name, options, retry_times(retry_for), connections, snapshot)
    try:
        send_job(target, job, collector)
    except XferError:
        if collector.raised:
            raise collector.raised from None
        raise
    return receipts_of(collector, "sent")


def target_at(
    address: Address,
    key: Key,
    key_id: str,
    *,
    timeout: float,
    bwlimit: int,
    insecure_plaintext: bool,
    cancel: CancelToken | None = None,
) -> Target:
    """The receiver at `address`, reached as these options of `send` say."""
    bandwidth = None
    if bwlimit:
        bandwidth = Bandwidth(bwlimit, cancel.wait) if cancel else Bandwidth(bwlimit)
    plaintext = insecure_plaintext
    return Target(address.host, address.port, key, timeout, plaintext, key_id, bandwidth, cancel)


def key_of(secret: str | None, key_id: str | None) -> tuple[Key, str]:
    """The key, and its id, of a secret, or of the one that the command line would find."""
    if secret is not None:
        return derive_key(secret), key_id or DEFAULT_KEY_ID
    found = find_secret()
    if found is None:
        raise no_secret()
    return derive_key(found), find_key_id(key_id)


def _texts(paths: Path | Iterable[Path]) -> list[str]:
    """Each path as text. A path object is never standard input: one of `-` is a file's."""
    several = [paths] if isinstance(paths, str | bytes | os.PathLike) else paths
    return [_text(path) for path in several]


def _text(path: Path) -> str:
    text = os.fsdecode(path)
    is_file = text == STDIN and not isinstance(path, str)
    return os.path.join(os.curdir, text) if is_file else text


def receipts_of(collector: Collector, done: str) -> list[Result]:
    """The receipts, if nothing has failed; else raise what stands for the failures."""
    receipts, failures = collector.receipts, collector.failures
    if not failures:
        return receipts
    errors = [failure.error for failure in failures if failure.error]
    summary = f"{len(failures)} of {len(failures) + len(receipts)} were not {done}"
    raise only_error(bool(receipts), errors) or Incomplete(summary, receipts, failures)
