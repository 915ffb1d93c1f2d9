"""The options and arguments of the command line, and what their texts amount to."""

import os
from enum import StrEnum
from typing import Annotated, Final

import typer

from xfer.config.sizes import parse_size
from xfer.daemon.units import Unit
from xfer.errors import UsageError
from xfer.storage.contract import IfExists, Limits


class Checksum(StrEnum):
    MD5 = "md5"
    BLAKE3 = "blake3"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


# Of both sides

SecretFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Read the secret from FILE, which only you may be able to read. Without it: "
        "XFER_SECRET, else xfer/secret in your configuration directory.",
    ),
]
Plaintext = Annotated[
    bool,
    typer.Option(
        "--insecure-plaintext",
        help="Leave TLS out (both sides): whoever is on the way can read and change everything.",
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Give up when nothing moves for so long.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]

BandwidthLimit = Annotated[
    str | None,
    typer.Option(
        "--bwlimit",
        metavar="SIZE",
        help="Move no more bytes a second than that: 500K, 20M. A receiver's is for all senders.",
    ),
]

# keygen

NewSecretFile = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="Where to; your configuration directory if left out."),
]
NewKeyId = Annotated[
    str | None,
    typer.Option("--id", metavar="NAME", help="Add a key of this name to the file of --keys."),
]
NewKeysFile = Annotated[
    str | None,
    typer.Option("--keys", metavar="FILE", help="A receiver's keys file; made if missing."),
]

# receive: where to, and from whom

Directory = Annotated[
    str, typer.Option("--dir", metavar="DIR", help="Where files are stored. Must exist.")
]
Bind = Annotated[
    str, typer.Option(metavar="ADDR", help="Listen on this address only; on all without it.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
KeysFile = Annotated[
    str | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="Instead of one secret: a file with a key for each client, and what it opens. "
        "Read again when it changes, and on SIGHUP.",
    ),
]

# receive: how files are kept

WhatExists = Annotated[
    IfExists,
    typer.Option(
        help="What to do with other content under a name: keep it as a version in "
        "DIR/.xfer/versions, refuse the new one, or replace it for good."
    ),
]
PartialDays = Annotated[
    float,
    typer.Option(min=0.0, metavar="DAYS", help="Keep what is left of interrupted files for."),
]
Fsync = Annotated[
    bool,
    typer.Option(
        help="Flush to disk before a receipt. Without it a crash can take files that have one."
    ),
]

# receive: how much may be stored, and who may come in

MaxFileSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Take no file that is larger: 500M, 20G, 1.5T."),
]
MaxFiles = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="One session creates up to N files and directories."),
]
Quota = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Everything in DIR, older versions included, has no more than this; "
        "with --keys, everything below each key's directory.",
    ),
]
MinFree = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Leave so much of the disk free.")
]
MaxUnauthenticated = Annotated[
    int, typer.Option(min=1, metavar="N", help="Connections at once that prove nothing (yet).")
]
MaxConnections = Annotated[
    int, typer.Option(min=1, metavar="N", help="Senders at once; the next one is told busy.")
]
MinRate = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Give up what flows slower, in bytes a second: 500K, 1M."),
]

Workers = Annotated[
    int,
    typer.Option(min=1, max=256, metavar="N", help="Receive in N processes, to use N processors."),
]

# receive: as a service

Log = Annotated[LogFormat, typer.Option(help="How to log: lines for people, or JSON objects.")]
Check = Annotated[
    bool, typer.Option("--check", help="Only say whether everything needed is in place.")
]
PrintUnit = Annotated[Unit | None, typer.Option(help="Only print a systemd unit that does this.")]

# send

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Files, directories, or - with --name.")
]
Host = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Where `xfer receive` runs.")]
StreamName = Annotated[str | None, typer.Option(help="What standard input (-) is to be stored as.")]
KeyId = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Whose secret it is, for a receiver with several. Without it: XFER_KEY_ID, "
        "else default.",
    ),
]
Digest = Annotated[Checksum, typer.Option(help="blake3 is faster; the receiver needs it too.")]
ChecksumAll = Annotated[
    bool,
    typer.Option("--checksum-all", help="Skip files by content, not by size and time."),
]
RetryFor = Annotated[
    float,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="Try again until nothing has got any further for so long; 0 for never.",
    ),
]
Connections = Annotated[
    int,
    typer.Option(min=1, max=64, metavar="N", help="Share the files among up to N connections."),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line for each file, then a summary.")
]

# demo

DemoPaths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="What to send; xfer's own source if left out."),
]

_NOT_IN_A_UNIT: Final = ("check", "print_unit")
_OF_FILES: Final = ("directory", "secret_file", "keys")


def limits(
    max_file_size: str | None, max_files: int | None, quota: str | None, min_free: str | None
) -> Limits:
    """What these options amount to. UsageError for a size that is none."""
    return Limits(
        _size("--max-file-size", max_file_size),
        max_files,
        _size("--quota", quota),
        _size("--min-free", min_free),
    )


def rate(option: str, text: str | None) -> int:
    """Bytes a second, 0 where there is no such option. UsageError for a size that is none."""
    return _size(option, text) or 0


def require_one_worker_for(workers: int, limits: Limits) -> None:
    """UsageError where several workers would have to count together, which they do not."""
    counted = {"--quota": limits.quota, "--min-free": limits.min_free}
    for option, size in counted.items():
        if workers > 1 and size is not None:
            raise UsageError(f"{option} needs one worker to count for all: leave out --workers")


def for_a_unit(context: typer.Context) -> list[str]:
    """The options that the command line has, for a service that does the same from anywhere."""
    words = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if not source or source.name != "COMMANDLINE" or option.name in _NOT_IN_A_UNIT:
            continue
        value = context.params[option.name or ""]
        if isinstance(value, bool):
            words.append((option.opts if value else option.secondary_opts)[0])
        else:
            is_file = option.name in _OF_FILES
            words += [option.opts[0], os.path.abspath(value) if is_file else str(value)]
    return words


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}") from error
