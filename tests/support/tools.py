"""Programs that run a command in another way: with fewer powers, or traced.

Not every machine has them. A test is skipped where such a tool is missing or
can't do its work, and for no other reason: when the command fails that is run
with it, the test fails.
"""

import functools
import os
import shutil
import subprocess

import pytest


def working(*prefix: str) -> list[str]:
    """A tool and its options, to be put before a command. Skips where not even `true` runs so."""
    if trouble := _trouble_with(prefix):
        pytest.skip(trouble)
    return list(prefix)


@functools.cache
def _trouble_with(prefix: tuple[str, ...]) -> str:
    name = prefix[0]
    if not shutil.which(name):
        return f"{name} is not installed"
    done = subprocess.run(
        [*prefix, "true"], check=False, capture_output=True, text=True, timeout=20
    )
    return f"{name} does not work here: {done.stderr.strip()}" if done.returncode else ""


def without(*capabilities: str) -> list[str]:
    """A prefix that takes powers of root away, none if this is not root."""
    if os.geteuid() != 0:
        return []
    bounding = ",".join(f"-{capability}" for capability in capabilities)
    return working("setpriv", f"--bounding-set={bounding}", "--")
