"""`xfer keygen`: new secrets, and what their owner is told of how they get to the other machine."""

import logging
import os
import sys
from typing import Final

import typer

from xfer import logs
from xfer.auth import keys_file
from xfer.auth.keys import derive_key
from xfer.auth.secret_files import create_secret, store_secret
from xfer.cli import options
from xfer.cli.exits import exit_codes
from xfer.cli.output.console import is_terminal, say, write
from xfer.config.locations import default_secret_file
from xfer.errors import LocalError, UsageError
from xfer.storage.local.layout import Layout

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MAX_SECRET: Final = 4096


@app.command(
    short_help="Make a secret, or store one.", epilog="Example: xfer keygen ~/.config/xfer/secret"
)
def keygen(
    file: options.NewSecretFile = None,
    key_id: options.NewKeyId = None,
    keys: options.NewKeysFile = None,
    imported: options.Import = False,
) -> None:
    """Make a new secret in FILE, which must not exist. Give the other machine a copy.

    With --import, there: store that copy, which no command line and no history sees.
    With --id NAME --keys FILE: add a key for one more client to a receiver's keys.
    """
    with exit_codes():
        if imported:
            _import_secret(file, key_id or keys)
        elif key_id is not None or keys is not None:
            _add_key(file, key_id, keys)
        else:
            _new_secret(file)


def _new_secret(file: str | None) -> None:
    """Make a secret in `file`, or where this user's is by default."""
    target = file or default_secret_file()
    create_secret(target)
    say(f"a new secret is in {target}")
    say("on the other machine, once: xfer keygen --import, and paste that file's line there")
    say("for one more client, with a secret of its own: xfer keygen --id NAME --keys FILE")


def _import_secret(file: str | None, of_a_key: str | None) -> None:
    """Store the secret that the user types, or pipes in. UsageError for a weak one."""
    if of_a_key is not None:
        raise UsageError("--import stores this machine's own secret: leave out --id and --keys")
    target = file or default_secret_file()
    if os.path.lexists(target):
        raise LocalError(f"{target} exists and is not overwritten")
    secret = _read_secret()
    derive_key(secret)  # raises for one that is too short, as it would each time it is used
    store_secret(target, secret)
    say(f"the secret is in {target}")


def _read_secret() -> str:
    """A line of standard input; where that is a terminal, typed without an echo."""
    if sys.stdin is None:
        raise LocalError("standard input is closed: there is no secret to import")
    try:
        if not sys.stdin.isatty():
            return sys.stdin.readline(_MAX_SECRET).strip()
        import getpass  # noqa: PLC0415 (a person is slower than it is to load)

        return getpass.getpass("the secret, which is not shown: ").strip()
    except (EOFError, UnicodeDecodeError) as error:
        raise LocalError("no secret was given") from error


def first_secret(directory: str, *, in_log: bool) -> str:
    """Make the user's secret at the first start of a receiver into `directory`.

    It is shown on a terminal only, never `in_log`: logs are kept, and read by others.
    """
    Layout(directory).close()  # an unusable directory fails before a secret is made for nothing
    file = default_secret_file()
    secret = create_secret(file)
    # Also with --quiet: nobody gets in without it.
    logs.tell(f"there was no secret yet: a new one is in {file}", "secret", logging.WARNING)
    if is_terminal() and not in_log:
        _show_secret(secret)
    else:
        advice = "copy that file to ~/.config/xfer/secret on the other machine"
        logs.tell(advice, "secret", logging.WARNING)
    return secret


def _add_key(file: str | None, key_id: str | None, keys: str | None) -> None:
    """Add a key to a receiver's keys file. UsageError for anything but --id with --keys."""
    if file is not None or key_id is None or keys is None:
        raise UsageError("one more key takes --id NAME, --keys FILE, and nothing else")
    secret = keys_file.add(keys, key_id)
    say(f"a new key is in {keys}, as [{key_id}]")
    if is_terminal():
        _show_secret(secret)
    else:
        say("copy its secret to ~/.config/xfer/secret on the other machine")
    say(f"and there: xfer send --key-id {key_id} FILE HOST")
    say(f"here: xfer receive --dir DIR --keys {keys}, which reads it again when it changes")


def _show_secret(secret: str) -> None:
    say("on the other machine, once: xfer keygen --import, and paste there")
    write(f"    {secret}")
