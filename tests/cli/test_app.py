"""The program: which commands there are, and that none waits for another's modules."""

import os
import subprocess
import sys

import pytest
import typer.main
from typer.testing import CliRunner

from xfer.cli.app import app


def modules_after(*words: str) -> set[str]:
    """What `xfer WORDS` has loaded by its end."""
    script = (
        "import sys, contextlib\n"
        "from xfer.cli.app import main\n"
        "sys.argv[0] = 'xfer'\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=env)
    return set(done.stderr.split())


def test_a_send_loads_neither_a_server_nor_a_store() -> None:
    loaded = modules_after("send", "--help")
    assert "xfer.cli.commands.send" in loaded
    for package in ("xfer.server", "xfer.daemon", "xfer.receiving", "xfer.storage", "logging"):
        assert not any(name == package or name.startswith(f"{package}.") for name in loaded), (
            package
        )


def test_only_the_command_that_is_asked_for_is_loaded() -> None:
    assert not any("xfer.cli.commands" in name for name in modules_after("--version"))


def test_every_command_is_in_the_help_in_the_order_of_use() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    places = [shown.index(f"\n  {name} ") for name in ("keygen", "receive", "send", "demo")]
    assert places == sorted(places)


@pytest.mark.parametrize("mistyped", ["sned", "recieve"])
def test_a_command_that_is_mistyped_is_suggested(mistyped: str) -> None:
    done = CliRunner().invoke(app, [mistyped])
    assert done.exit_code == 2
    assert "Did you mean" in done.output


def test_each_command_is_built_once() -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="xfer")
    assert group.get_command(context, "send") is group.get_command(context, "send")  # type: ignore[attr-defined]
    assert group.get_command(context, "nothing") is None  # type: ignore[attr-defined]
