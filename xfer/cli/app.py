"""The program: its commands, and what they have in common.

A command's module is loaded when that command is asked for: a small file is
sent sooner than all of the package is loaded.
"""

import importlib
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from xfer import __version__
from xfer.system.process import collect_seldom, keep_out_of_core_files

_COMMANDS: Final = ("keygen", "receive", "send", "get", "demo")
"""Each is an `app` with one command, in a module of `commands` that has its name."""


class _Commands(TyperGroup):
    """Knows the names of all commands, and loads those that it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the group's own signature)
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """An unknown name loads all commands, so that Typer can suggest one."""
        for name in [cmd_name] if cmd_name in _COMMANDS else _COMMANDS:
            if name not in self.commands:
                module = importlib.import_module(f"xfer.cli.commands.{name}")
                self.commands[name] = typer.main.get_command(module.app)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_Commands,
    help="Send files to a machine of yours: encrypted, verified, never half-written.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # of all commands
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script. Ends the process with the exit code of the command."""
    keep_out_of_core_files()
    collect_seldom()
    app(prog_name="xfer")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"xfer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass
