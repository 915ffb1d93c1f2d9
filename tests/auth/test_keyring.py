"""A keys file: what may be in it, and that no mistake in it goes unnoticed."""

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.processes import assert_failed, run
from xfer.auth import keyring, keys_file
from xfer.auth.keyring import Keyring
from xfer.auth.keys import Key, derive_key
from xfer.auth.secret_files import create_secret
from xfer.errors import AuthenticationError, LocalError
from xfer.storage.contract import Access, IfExists

ONE, OTHER, THIRD = ("xfer-key-" + 43 * letter for letter in "BCD")
PASSPHRASE = "a passphrase of many letters"


def written(directory: Path, text: str, mode: int = 0o600) -> str:
    """A keys file. Replaced in one step, so that its inode tells, whatever the clock does."""
    draft = directory / "draft"
    draft.write_text(text)
    draft.chmod(mode)
    draft.rename(directory / "keys")
    return str(directory / "keys")


def test_a_table_says_all_that_a_key_opens(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(f"{OTHER}\n")
    (tmp_path / "one").chmod(0o600)
    file = written(
        tmp_path,
        f"""
        [alice]
        secret = "{ONE}"
        previous_file = "one"
        directory = "clients/alice"
        quota = "20G"
        if_exists = "refuse"
        expires = 2100-01-01
        [bob_2-x]
        secret = "{PASSPHRASE}"
        quota = 5
        expires = 2100-01-01T12:00:00+02:00
        [carol]
        secret = "{THIRD}"
        expires = 2100-01-01T12:00:00
        """,
    )
    grants = Keyring(file).current()
    assert grants["alice"].keys == (derive_key(ONE), derive_key(OTHER))
    assert grants["alice"].access == Access("clients/alice", IfExists.REFUSE, 20 * 1024**3)
    assert grants["alice"].expires == datetime(2100, 1, 1, tzinfo=UTC)
    assert grants["bob_2-x"].keys == (derive_key(PASSPHRASE),)
    assert grants["bob_2-x"].access == Access("", None, 5)
    assert grants["bob_2-x"].expires == datetime(2100, 1, 1, 10, tzinfo=UTC)
    assert grants["carol"].expires == datetime(2100, 1, 1, 12, tzinfo=UTC)
    assert list(grants) == ["alice", "bob_2-x", "carol"]


def table(line: str) -> str:
    return f'[alice]\nsecret = "{ONE}"\n{line}\n'


MISTAKES = {
    "no table": ("", "there is no key in"),
    "no TOML": ("[alice", "is not TOML"),
    "two of a name": (table(table("")), "is not TOML"),
    "a value outside": ('secret = "x"', "[secret] is not a table"),
    "an unknown key": (table("qouta = 5"), "[alice] has an unknown key: qouta"),
    "a table in it": (table("[alice.below]"), "[alice] has an unknown key: below"),
    "a name with a space": (f'["a b"]\nsecret = "{ONE}"', "[a b] has a name other than"),
    "no name": (f'[""]\nsecret = "{ONE}"', "[] has a name other than"),
    "no secret": ("[alice]", "[alice] has no secret"),
    "only a previous one": (f'[alice]\nprevious = "{ONE}"', "[alice] has no secret"),
    "a secret that is a number": ("[alice]\nsecret = 5", "[alice] has a secret that is not text"),
    "a short secret": ('[alice]\nsecret = "short"', "[alice] has an unusable secret: "),
    "two secrets": (table('secret_file = "x"'), "[alice] has both secret and secret_file"),
    "a file that is missing": (
        '[alice]\nsecret_file = "x"', "[alice] has an unusable secret: cannot read"
    ),
    "a secret of two": (
        table(f'[bob]\nsecret = "{OTHER}"\nprevious = "{ONE}"'),
        "[bob] has the same secret as [alice]",
    ),
    "a directory above": (table('directory = "../bob"'), "[alice] has a directory that is no"),
    "a directory that is absolute": (table('directory = "/srv"'), "[alice] has a directory"),
    "the receiver's own": (table('directory = ".xfer"'), "[alice] has a directory"),
    "a directory that is a number": (table("directory = 5"), "[alice] has a directory"),
    "a size that is none": (table('quota = "20 GB"'), "[alice] has an unusable quota: 20 GB is"),
    "a negative size": (table("quota = -1"), "[alice] has a quota that is no size"),
    "a size that is a truth": (table("quota = true"), "[alice] has a quota that is no size"),
    "an unknown way": (table('if_exists = "ask"'), "[alice] has an if_exists other than version"),
    "a way that is a number": (table("if_exists = 1"), "[alice] has an if_exists other than"),
    "a date that is text": (table('expires = "2027"'), "[alice] has an expires that is no date"),
    "a file with a NUL": ('[alice]\nsecret_file = "a\\u0000"', "has a secret_file with a NUL"),
    "a size beyond all": (table(f"quota = {2**63}"), "[alice] has a quota that is no size"),
    "digits without end": (table("quota = " + 5000 * "9"), "beyond what can be read"),
    "hexadecimal digits without end": (table("quota = 0x" + 9000 * "f"), "a quota that is no size"),
    "nested without end": ("x = " + 9999 * "[" + 9999 * "]", "beyond what can be read"),
    "a time without a day": (table("expires = 12:00:00"), "[alice] has an expires that is no"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_said_with_the_name_of_its_table(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(LocalError) as caught:
        Keyring(written(tmp_path, text))
    assert sentence in caught.value.message
    for secret in (ONE, OTHER):
        assert secret not in caught.value.message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("9999-12-31T23:59:59-05:00", datetime.max),
        ("9999-12-31", datetime(9999, 12, 31)),
        ("0001-01-01T00:00:00+05:00", datetime.min),
    ],
)
def test_an_expiry_at_the_end_of_the_calendar_is_one(
    tmp_path: Path, text: str, moment: datetime
) -> None:
    grants = Keyring(written(tmp_path, table(f"expires = {text}"))).current()
    assert grants["alice"].expires == moment.replace(tzinfo=UTC)


TOML_VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.isoformat()),
    st.dates().map(str),
    st.times().map(str),
    st.text().map(json.dumps),
    st.sampled_from(["[]", "{}", "[[1], []]", '["a", 1]', "{a.b = 1}", "-0", "'", "0o777", "inf"]),
)
TOML_NAMES = st.sampled_from(
    ["secret", "secret_file", "previous", "directory", "quota", "if_exists", "expires", "x"]
)


@pytest.mark.usefixtures("impatient")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(st.tuples(TOML_NAMES, TOML_VALUES), max_size=4))
def test_whatever_a_file_says_is_a_grant_or_a_sentence_and_shuts_nobody_out(
    tmp_path: Path, lines: list[tuple[str, str]]
) -> None:
    good = Keyring(written(tmp_path, f'[bob]\nsecret = "{OTHER}"'))
    text = f'[bob]\nsecret = "{OTHER}"\n[alice]\n' + "\n".join(f"{n} = {v}" for n, v in lines)
    file = written(tmp_path, text)
    try:
        fresh = Keyring(file).current()
    except LocalError:
        assert set(good.current()) == {"bob"}
    else:
        assert set(fresh) == set(good.current())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_keys_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(LocalError, match=r"others can read the keys in .*: chmod 600"):
        Keyring(written(tmp_path, table(""), mode))


def test_keys_behind_a_link_are_refused(tmp_path: Path) -> None:
    written(tmp_path, table(""))
    (tmp_path / "link").symlink_to("keys")
    with pytest.raises(LocalError, match=r"cannot read the keys in .*: it is a link"):
        Keyring(str(tmp_path / "link"))


# Reading it again


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_CHECK_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_change_is_in_force_at_the_next_look(tmp_path: Path) -> None:
    keys = Keyring(written(tmp_path, table("")))
    written(tmp_path, f'[bob]\nsecret = "{OTHER}"')
    assert list(keys.current()) == ["bob"]


@pytest.mark.usefixtures("impatient")
def test_a_change_of_a_file_that_is_named_is_seen_too(tmp_path: Path) -> None:
    secret = tmp_path / "s"
    create_secret(str(secret))
    keys = Keyring(written(tmp_path, '[a]\nsecret_file = "s"'))
    before = keys.current()["a"].keys
    secret.unlink()
    assert keys.current()["a"].keys == before
    after = derive_key(create_secret(str(secret)))
    assert keys.current()["a"].keys == (after,)


def test_the_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    keys = Keyring(written(tmp_path, table("")))
    written(tmp_path, f'[bob]\nsecret = "{OTHER}"')
    assert list(keys.current()) == ["alice"]
    keys.reload()
    assert list(keys.current()) == ["bob"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("bad", ["[alice", "", table("qouta = 5"), None])
def test_a_mistake_leaves_the_keys_before_in_force_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str | None
) -> None:
    file = written(tmp_path, table(""))
    keys = Keyring(file)
    if bad is None:
        os.unlink(file)
    else:
        written(tmp_path, bad)
    for _ in range(3):
        assert list(keys.current()) == ["alice"]
    (record,) = caplog.records
    assert "the keys before stay in force" in record.getMessage()
    assert ONE not in caplog.text
    written(tmp_path, f'[bob]\nsecret = "{OTHER}"')
    assert list(keys.current()) == ["bob"]


@pytest.mark.usefixtures("impatient")
def test_a_passphrase_is_derived_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []

    def deriving(text: str) -> Key:
        derived.append(text)
        return derive_key(text)

    monkeypatch.setattr(keys_file, "derive_key", deriving)
    text = f'[a]\nsecret = "{PASSPHRASE}"\n'
    keys = Keyring(written(tmp_path, text))
    for line in ("quota = 5", 'previous = "another passphrase"', "qouta = 5", "quota = 6"):
        written(tmp_path, text + line)
        keys.current()
    assert derived == [PASSPHRASE, "another passphrase"]


def test_a_key_opens_until_it_has_expired(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    for moment, is_valid in ((soon, True), (soon - timedelta(hours=2), False)):
        grant = Keyring(written(tmp_path, table(f"expires = {moment.isoformat()}"))).current()
        if is_valid:
            grant["alice"].require_valid()
        else:
            with pytest.raises(AuthenticationError, match="this key expired at"):
                grant["alice"].require_valid()


# keygen --id


def test_keygen_adds_a_table_and_changes_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "new" / "keys"
    made = run(tmp_path, "keygen", "--id", "alice", "--keys", file, secret=None)
    assert (made.code, made.out) == (0, "")
    assert f"a new key is in {file}, as [alice]" in made.err
    assert "xfer send --key-id alice FILE HOST" in made.err
    assert stat.filemode(file.stat().st_mode) == "-rw-------"
    before = file.read_text() + "# the owner's own words, without a line end"
    file.write_text(before)
    assert run(tmp_path, "keygen", "--id", "bob", "--keys", file, secret=None).code == 0
    after = file.read_text()
    assert after.startswith(before + "\n")
    grants = Keyring(str(file)).current()
    assert list(grants) == ["alice", "bob"]
    assert stat.filemode(file.stat().st_mode) == "-rw-------"
    assert sorted(os.listdir(file.parent)) == ["keys"]
    for line in after.splitlines():
        if line.startswith("secret"):
            assert line.split('"')[1] not in made.err


def test_keygen_refuses_an_id_that_exists(tmp_path: Path) -> None:
    file = written(tmp_path, table(""))
    done = run(tmp_path, "keygen", "--id", "alice", "--keys", file, secret=None)
    assert_failed(done, 1, f"xfer: {file} has [alice] already, which is not changed")
    assert Path(file).read_text() == table("")


@pytest.mark.parametrize("text", ["[alice", "[a]\nsecret="])
def test_keygen_leaves_a_file_with_a_mistake_alone(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    done = run(tmp_path, "keygen", "--id", "bob", "--keys", file, secret=None)
    assert_failed(done, 1, "is not TOML")
    assert Path(file).read_text() == text


WRONG = {
    "no id": ["--keys", "k"],
    "no keys": ["--id", "alice"],
    "a file as well": ["file", "--id", "alice", "--keys", "k"],
    "a bad id": ["--id", "a b", "--keys", "k"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_keygen_used_wrongly_makes_nothing(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_failed(run(tmp_path, "keygen", *arguments, secret=None), 2, "xfer: ")
    assert os.listdir(tmp_path) == []


def test_keys_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    file, barrier = str(tmp_path / "keys"), threading.Barrier(8)

    def add(number: int) -> str:
        barrier.wait()
        return keys_file.add(file, f"client-{number}")

    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(add, range(8)))
    grants = Keyring(file).current()
    assert [grants[f"client-{n}"].keys for n in range(8)] == [(derive_key(s),) for s in secrets]
