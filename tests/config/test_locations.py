"""Where this user's files are."""

from pathlib import Path

import pytest

from xfer.config.locations import default_secret_file, default_state_directory


def test_directories_follow_xdg_and_else_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_secret_file() == str(home / ".config/xfer/secret")
    assert default_state_directory() == str(home / ".local/state/xfer")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "c"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "s"))
    assert default_secret_file() == str(home / "c/xfer/secret")
    assert default_state_directory() == str(home / "s/xfer")
