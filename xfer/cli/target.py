"""From the options of a command to the receiver that it is about."""

from xfer.auth.keys import derive_key
from xfer.auth.secret_files import find_key_id, find_secret, no_secret
from xfer.cli import options
from xfer.client.connect import Target
from xfer.client.send import target_at
from xfer.config.addresses import parse_address


def target_named(
    host: str,
    *,
    secret_file: str | None,
    key_id: str | None,
    timeout: float,
    bwlimit: str | None,
    insecure_plaintext: bool,
) -> Target:
    """The receiver at `host`, and the key that these options, or their defaults, lead to.

    LocalError without a secret, UsageError for an address, a key id or a rate that is none.
    """
    secret = find_secret(secret_file)
    if secret is None:
        raise no_secret()
    return target_at(
        parse_address(host),
        derive_key(secret),
        key_id=find_key_id(key_id),
        timeout=timeout,
        bwlimit=options.rate("--bwlimit", bwlimit),
        insecure_plaintext=insecure_plaintext,
    )
