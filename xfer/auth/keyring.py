"""The grants in force: those of a keys file, which is read again when it has changed.

A file with a mistake changes nothing: the grants before stay in force, and the log
says why.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

from xfer import logs
from xfer.auth.grants import Grant
from xfer.auth.keys import Key
from xfer.auth.keys_file import KeysFileReader, signature_of
from xfer.errors import UsageError, XferError
from xfer.names import printable

log = logging.getLogger("xfer.receiver")

_CHECK_SECONDS: Final = 1.0
"""Between two looks at the file, at least."""


class Keyring:
    """The grants of a keys file, by key id. Any thread may call anything.

    LocalError when the file cannot be used at the start.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._may_have_quotas = True  # changed before there are threads
        # Guards reading the file and all that follows. `current` reads two of them without
        # it: `_grants` is one reference, replaced whole, and a `_checked_at` that is old
        # costs no more than one attempt to take the lock.
        self._reading = threading.Lock()
        self._keys: dict[bytes, Key] = {}
        self._checked_at = time.monotonic()
        reader = KeysFileReader(file, self._keys)
        self._grants = reader.grants()
        self._keys = reader.derived
        self._signatures = reader.signatures

    def current(self) -> Mapping[str, Grant]:
        """The grants in force. Looks at the file first, unless that was done a second ago."""
        if time.monotonic() - self._checked_at >= _CHECK_SECONDS and self._reading.acquire(False):
            try:
                self._checked_at = time.monotonic()
                if any(signature_of(file) != seen for file, seen in self._signatures.items()):
                    self._read()
            finally:
                self._reading.release()
        return self._grants

    def refuse_quotas(self) -> None:
        """From here on, a quota in the file is a mistake. UsageError if there is one now."""
        self._may_have_quotas = False
        self._require_no_quotas(self._grants)

    def _require_no_quotas(self, grants: Mapping[str, Grant]) -> None:
        for key_id, grant in grants.items():
            if grant.access.quota is not None and not self._may_have_quotas:
                raise UsageError(
                    f"{self._file}: [{key_id}] has a quota, which is for a receiver with one worker"
                )

    def reload(self) -> None:
        """Read the file again, now. A mistake in it is logged, and changes nothing."""
        with self._reading:
            self._read()

    def _read(self) -> None:
        reader = KeysFileReader(self._file, self._keys)
        try:
            grants = reader.grants()
            self._require_no_quotas(grants)
            self._grants, self._keys = grants, reader.derived
            log.info(
                "%s: %d key(s) in force", printable(self._file), len(self._grants),
                extra=logs.about("keys", keys=len(self._grants)),
            )  # fmt: skip
        except XferError as error:
            log.warning(
                "%s; the keys before stay in force", printable(error.message),
                extra=logs.about("keys_refused", code=error.code),
            )  # fmt: skip
        # Kept after a mistake too, so that it is logged once and not at each connection.
        self._signatures = reader.signatures
