"""Options that several commands share, what their texts amount to, and options as a struct."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from msgspec import Struct, structs

from xfer.config.sizes import parse_size
from xfer.errors import UsageError


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
Import = Annotated[
    bool,
    typer.Option(
        "--import",
        help="Store a secret that another machine has, instead of a new one: from standard "
        "input, or asked for where that is a terminal.",
    ),
]
NewKeyId = Annotated[
    str | None,
    typer.Option("--id", metavar="NAME", help="Add a key of this name to the file of --keys."),
]
NewKeysFile = Annotated[
    str | None,
    typer.Option("--keys", metavar="FILE", help="A receiver's keys file; made if missing."),
]

# send

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Files, directories, or - with --name.")
]
Host = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="Where `xfer receive` runs.")]
StreamName = Annotated[str | None, typer.Option(help="What standard input (-) is to be stored as.")]
SnapshotJob = Annotated[
    str | None,
    typer.Option(
        "--snapshot",
        metavar="JOB",
        help="Have the receiver remember all of it as a snapshot of this job: `get --at` gives "
        "it back as it was.",
    ),
]
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
    float | None,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="Try again until nothing has got any further for so long; 0 for never. "
        "[default: 900 once connected; 60 before, or 10 on a terminal]",
    ),
]
Connections = Annotated[
    int,
    typer.Option(min=1, max=64, metavar="N", help="Share the files among up to N connections."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Only say what would be done; change nothing anywhere."),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line for each file, then a summary.")
]

# get, list

NamesAndHost = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME... HOST[:PORT]",
        help="What you want, or . for everything, and where `xfer receive` runs.",
    ),
]
ListedAndHost = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]... HOST[:PORT]",
        help="What to list, or all that there is, and where `xfer receive` runs.",
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-R", help="List all that is below a directory.")
]
Itself = Annotated[
    bool, typer.Option("--directory", "-d", help="List a directory itself, not what is in it.")
]
Versions = Annotated[
    bool,
    typer.Option(
        "--versions",
        help="List older contents, of all below a directory, too, each with the time when it was "
        "replaced. With --recursive, also what older directories hold.",
    ),
]
Snapshots = Annotated[
    bool,
    typer.Option("--snapshots", help="List the snapshots that there are, with what is in each."),
]
FromDirectory = Annotated[
    str | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="In place of HOST: the directory of a receiver on this machine, running or not.",
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="WHEN",
        help="As it was then, by the newest complete snapshots: a date (the end of that day), a "
        "time, yesterday, 3d, or a snapshot's stamp.",
    ),
]
Link = Annotated[
    bool,
    typer.Option(
        "--link",
        help="With --dir and --at: hard links to the store's own files, in read-only directories. "
        "It takes no room; do not write to the files.",
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to", metavar="DIR|-", help="Where to: a directory that is there, or standard output."
    ),
]

# demo

DemoPaths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="What to send; xfer's own source if left out."),
]

Chosen = TypeVar("Chosen", bound=Struct)


def takes(
    kind: type[Chosen],
) -> Callable[[Callable[[typer.Context, Chosen], None]], Callable[..., None]]:
    """Have a command take a struct, each field of which is an option.

    Typer wants one parameter an option, and reads names, types and defaults off the
    signature: it is given those of the struct, which the command can hand on whole.
    """

    def decorate(command: Callable[[typer.Context, Chosen], None]) -> Callable[..., None]:
        def with_options(context: typer.Context, **chosen: Any) -> None:
            command(context, kind(**chosen))

        annotations = {"context": typer.Context} | get_type_hints(kind, include_extras=True)
        defaults = {
            field.name: inspect.Parameter.empty if field.required else field.default
            for field in structs.fields(kind)
        }
        with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
        with_options.__annotations__ = annotations
        vars(with_options)["__signature__"] = inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name, inspect.Parameter.empty),
                    annotation=annotation,
                )
                for name, annotation in annotations.items()
            ]
        )
        return with_options

    return decorate


def size(option: str, text: str | None) -> int | None:
    """Bytes; None where the option was not given. UsageError for a size that is none."""
    try:
        return None if text is None else parse_size(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}") from error


def rate(option: str, text: str | None) -> int:
    """Bytes a second; 0 where the option was not given. UsageError for a size that is none."""
    return size(option, text) or 0
