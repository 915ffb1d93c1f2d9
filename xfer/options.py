"""Options of the command line that say whose key it is, and how much it may fill."""

from typing import Annotated

import typer

from xfer import config
from xfer.errors import UsageError
from xfer.storage import Limits

KeysFile = Annotated[
    str | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="Instead of one secret: a file with a key for each client, and what it opens. "
        "Read again when it changes, and on SIGHUP.",
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
KeyId = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Whose secret it is, for a receiver with several. Without it: XFER_KEY_ID, "
        "else default.",
    ),
]
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


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return config.parse_size(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}") from error
