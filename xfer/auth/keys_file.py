"""The keys file of `xfer receive --keys`: one table for each client, and what its key opens.

    [alice]
    secret = "xfer-key-…"     or secret_file = "alice.secret"
    previous = "…"            or previous_file: opens too, while it is being replaced
    directory = "alice"       all names of hers are below DIR/alice
    quota = "20G"
    if_exists = "version"
    gone = "version"          what a snapshot has no more becomes a version; or "stay"
    access = "write"          or "read", "read-write", "drop"
    expires = 2027-01-01

Reads the file into grants, and adds tables to it. Which grants are in force is
for `keyring`.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from xfer import names
from xfer.auth.grants import Grant, Rights
from xfer.auth.keys import Key, derive_key, generate_secret
from xfer.auth.secret_files import read_secret
from xfer.config.sizes import MAX_SIZE, parse_size
from xfer.errors import LocalError, UsageError, XferError
from xfer.storage.contract import Access, IfExists
from xfer.system import private_files

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KNOWN: Final = (
    "secret", "secret_file", "previous", "previous_file", "directory", "quota", "if_exists",
    "access", "gone", "expires",
)  # fmt: skip
_MAX_CHARACTERS: Final = 16 * 1024 * 1024

Word = TypeVar("Word", bound=StrEnum)
Signature = tuple[int, int, int, int]
"""Inode, size, mtime and ctime (nanoseconds) of a file: they differ once it has changed."""


class Gone(StrEnum):
    """What happens to a file whose name is in no snapshot of its job any more."""

    STAY = "stay"
    VERSION = "version"


class KeysFileReader:
    """Reads a keys file, and the secret files that it names, once.

    Afterwards, `signatures` are those of the files that were read, and `derived` the
    keys that were needed, by the SHA-256 of their secret. Keys in `known` are not
    derived again: a passphrase takes 0.1 s.
    """

    def __init__(self, file: str, known: Mapping[bytes, Key]) -> None:
        self.derived: dict[bytes, Key] = {}
        self.signatures: dict[str, Signature | None] = {file: signature_of(file)}
        self._file = file
        self._known = known

    def grants(self) -> dict[str, Grant]:
        """The grant of each key id. LocalError says which table is wrong, and how."""
        try:
            return self._read_grants()
        except XferError:
            raise
        except Exception as error:  # noqa: BLE001 (a file must not shut every key out)
            # Without its text or its cause, which may have secrets.
            raise LocalError(f"{self._file} cannot be used: {type(error).__name__}") from None

    def _read_grants(self) -> dict[str, Grant]:
        tables = parse(read(self._file), self._file)
        if not tables:
            raise LocalError(f"there is no key in {self._file}")
        grants = {key_id: self._in_table(key_id, table) for key_id, table in tables.items()}
        owners: dict[bytes, str] = {}
        for key_id, grant in grants.items():
            for key in grant.keys:
                other = owners.setdefault(key.secret, key_id)
                if other != key_id:
                    raise self._fault(key_id, f"has the same secret as [{other}]")
        return grants

    def _in_table(self, key_id: str, table: object) -> Grant:
        if not _KEY_ID.fullmatch(key_id):
            raise self._fault(key_id, "has a name other than 1 to 64 letters, digits, _ and -")
        if not isinstance(table, dict):
            raise self._fault(key_id, "is not a table")
        for name in table:
            if name not in _KNOWN:
                raise self._fault(key_id, f"has an unknown key: {name}")
        secret, previous = (self._key(key_id, table, name) for name in ("secret", "previous"))
        if secret is None:
            raise self._fault(key_id, "has no secret")
        try:
            rights = _one_of(Rights, table, "access") or Rights.WRITE
            if_exists = _one_of(IfExists, table, "if_exists")
            gone = _one_of(Gone, table, "gone") is Gone.VERSION
            adds = rights is Rights.DROP
            access = Access(_directory(table), if_exists, _quota(table), adds, gone)
            expires = _expires(table)
        except (ValueError, XferError) as error:
            raise self._fault(key_id, str(error)) from None
        return Grant((secret, previous) if previous else (secret,), access, expires, rights)

    def _key(self, key_id: str, table: Mapping[str, Any], name: str) -> Key | None:
        text, file = table.get(name), table.get(f"{name}_file")
        if text is not None and file is not None:
            raise self._fault(key_id, f"has both {name} and {name}_file")
        for key, value in ((name, text), (f"{name}_file", file)):
            if value is not None and not isinstance(value, str):
                raise self._fault(key_id, f"has a {key} that is not text")
            if value is not None and "\0" in value:
                raise self._fault(key_id, f"has a {key} with a NUL character")
        try:
            if file is not None:
                path = os.path.join(os.path.dirname(self._file), file)
                self.signatures[path] = signature_of(path)
                text = read_secret(path)
            return None if text is None else self._derive(text)
        except LocalError as error:
            raise self._fault(key_id, f"has an unusable {name}: {error.message}") from None

    def _derive(self, text: str) -> Key:
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        key = self._known.get(digest) or self.derived.get(digest) or derive_key(text)
        self.derived[digest] = key
        return key

    def _fault(self, key_id: str, sentence: str) -> LocalError:
        return LocalError(f"{self._file}: [{key_id}] {sentence}")


def read(file: str) -> str:
    """The text of a keys file. LocalError when it cannot be read, or others can."""
    with private_files.reading(file, "the keys") as opened:
        return opened.read(_MAX_CHARACTERS)


def parse(text: str, file: str) -> dict[str, Any]:
    """What is in the tables of a keys file. LocalError when it is not TOML."""
    import tomllib  # noqa: PLC0415 (only receivers with keys need it)

    try:
        return tomllib.loads(text)
    # Without their causes, which have the text of the file, and so secrets.
    except tomllib.TOMLDecodeError as error:
        raise LocalError(f"{file} is not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise LocalError(f"{file} has a number or nesting beyond what can be read") from None


def add(file: str, key_id: str) -> str:
    """Add a table with a new secret to a keys file, made if missing; returns the secret.

    LocalError when the file has that table, or cannot be used or written, and
    UsageError for an id that cannot be one.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise UsageError("a key id has 1 to 64 letters, digits, _ and -")
    secret = generate_secret()

    def with_table(text: str) -> str:
        if key_id in parse(text, file):
            raise LocalError(f"{file} has [{key_id}] already, which is not changed")
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f'{text}{gap}[{key_id}]\nsecret = "{secret}"\n'

    private_files.change(file, "the keys", with_table)
    return secret


def _directory(table: Mapping[str, Any]) -> str:
    directory = table.get("directory", "")
    if not isinstance(directory, str) or (directory and not names.is_safe(directory)):
        raise ValueError("has a directory that is no relative path below DIR")
    return directory


def _one_of(words: type[Word], table: Mapping[str, Any], name: str) -> Word | None:
    """The word that a table has under `name`, None if it has none."""
    wanted = table.get(name)
    if wanted is not None and wanted not in list(words):
        raise ValueError(f"has an {name} other than {', '.join(words)}")
    return None if wanted is None else words(wanted)


def _quota(table: Mapping[str, Any]) -> int | None:
    quota = table.get("quota")
    if isinstance(quota, str):
        try:
            return parse_size(quota)
        except XferError as error:
            raise ValueError(f"has an unusable quota: {error.message}") from None
    if quota is not None and (type(quota) is not int or not 0 <= quota <= MAX_SIZE):
        raise ValueError("has a quota that is no size such as 500M, 20G or 1.5T")
    return quota


def _expires(table: Mapping[str, Any]) -> datetime | None:
    """A date means its first moment, and a time without a zone is UTC.

    A moment whose UTC no calendar has, such as the last one of the year 9999 in
    America, is the last or the first one that there is.
    """
    moment = table.get("expires")
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if moment is not None and not isinstance(moment, datetime):
        raise ValueError("has an expires that is no date, such as 2027-01-01")
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        furthest = datetime.max if moment.year > 1 else datetime.min
        return furthest.replace(tzinfo=UTC)


def signature_of(file: str) -> Signature | None:
    """The signature of a file as it is now; None where there is none."""
    try:
        status = os.lstat(file)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
