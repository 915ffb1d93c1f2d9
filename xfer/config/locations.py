"""Where this user's files are (XDG Base Directory)."""

import os


def default_secret_file() -> str:
    """`xfer/secret` in the configuration directory."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "xfer", "secret")


def default_state_directory() -> str:
    """`xfer` in the state directory."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "xfer")
