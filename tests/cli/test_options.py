"""Options as the fields of a struct: names, types and defaults are the command's own."""

from typing import Annotated

import pytest
import typer
from msgspec import Struct
from typer.testing import CliRunner

from xfer.cli import options
from xfer.errors import UsageError


class Chosen(Struct, frozen=True, kw_only=True):
    where: Annotated[str, typer.Option("--dir")]
    times: Annotated[int, typer.Option(min=1)] = 3
    quiet: options.Quiet = False


app = typer.Typer()


@app.command()
@options.takes(Chosen)
def command(context: typer.Context, chosen: Chosen) -> None:
    """What it does."""
    print(context.info_name, chosen)


def said(*words: str) -> str:
    return CliRunner().invoke(app, words).output


def test_a_command_gets_what_was_chosen_and_else_the_defaults() -> None:
    assert "Chosen(where='d', times=3, quiet=False)" in said("--dir", "d")
    assert "Chosen(where='d', times=5, quiet=True)" in said("--dir", "d", "--times", "5", "-q")


def test_what_is_required_and_what_is_out_of_range_is_told() -> None:
    assert "Missing option '--dir'" in said()
    assert "0 is not in the range" in said("--dir", "d", "--times", "0")


def test_the_help_is_the_commands_own() -> None:
    assert "What it does." in said("--help")


def test_a_size_that_is_none_is_told_with_its_option() -> None:
    assert options.size("--quota", "2K") == 2048
    assert options.size("--quota", None) is None
    assert options.rate("--bwlimit", None) == 0
    with pytest.raises(UsageError, match="--quota: lots is not a size"):
        options.size("--quota", "lots")
