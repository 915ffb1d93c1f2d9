"""`xfer.send`: what the package offers to programs that send."""

from collections.abc import Sequence

from xfer import digests
from xfer.auth.keys import DEFAULT_KEY_ID, Key, derive_key
from xfer.client.connect import Target
from xfer.client.job import MAX_JOB_CONNECTIONS, Job, send_job
from xfer.client.retries import retry_times
from xfer.config.addresses import Address, parse_address
from xfer.errors import Incomplete, UsageError
from xfer.sending.observer import SKIPPED, Observer, Result, only_error
from xfer.sending.offers import Options
from xfer.wire.bandwidth import Bandwidth


def send(
    paths: Sequence[str],
    host: str,
    *,
    secret: str,
    key_id: str = DEFAULT_KEY_ID,
    name: str | None = None,
    checksum: str = digests.DEFAULT,
    checksum_all: bool = False,
    timeout: float = 60.0,
    retry_for: float | None = None,
    bwlimit: int = 0,
    insecure_plaintext: bool = False,
    connections: int = 1,
) -> list[Result]:
    """Send files and directories to the receiver at `host` (`HOST[:PORT]`).

    Returns one receipt for each file, directory and link: verified, and on the
    receiver's stable storage. FIFOs, sockets and devices below a path are left
    out. `key_id` names the key that `secret` is, where the receiver has keys
    for several clients. `-` among `paths` is standard
    input, stored as `name`. Files of which the receiver has one of equal size
    and time are skipped; with `checksum_all`, equal contents are needed. A
    session in which nothing moves for `timeout` seconds ends. What can be tried
    again is, until no attempt has got further for `retry_for` seconds. At most
    `bwlimit` bytes a second are sent, 0 for no limit. Up to `connections`
    (1 to 64) share the files.

    Raises `Incomplete` (with `receipts` and `failures`) when some went and
    some did not, and another `XferError` when nothing did.
    """
    if not 1 <= connections <= MAX_JOB_CONNECTIONS:
        raise UsageError(f"a job takes 1 to {MAX_JOB_CONNECTIONS} connections")
    target = target_at(
        parse_address(host),
        derive_key(secret),
        key_id=key_id,
        timeout=timeout,
        bwlimit=bwlimit,
        insecure_plaintext=insecure_plaintext,
    )
    options = Options(checksum, checksum_all)
    collector = _Collector()
    job = Job(list(paths), name, options, retry_times(retry_for), connections)
    send_job(target, job, collector)
    receipts, failures = collector.receipts, collector.failures
    if not failures:
        return receipts
    errors = [failure.error for failure in failures if failure.error]
    summary = f"{len(failures)} of {len(failures) + len(receipts)} were not sent"
    raise only_error(bool(receipts), errors) or Incomplete(summary, receipts, failures)


def target_at(
    address: Address,
    key: Key,
    *,
    key_id: str,
    timeout: float,
    bwlimit: int,
    insecure_plaintext: bool,
) -> Target:
    """The receiver at `address`, reached as these options of `send` say."""
    bandwidth = Bandwidth(bwlimit) if bwlimit else None
    return Target(address.host, address.port, key, timeout, insecure_plaintext, key_id, bandwidth)


class _Collector(Observer):
    """Keeps every receipt and every failure."""

    def __init__(self) -> None:
        self.receipts: list[Result] = []
        self.failures: list[Result] = []

    def finished(self, result: Result) -> None:
        if result.outcome != SKIPPED:
            (self.failures if result.error else self.receipts).append(result)
