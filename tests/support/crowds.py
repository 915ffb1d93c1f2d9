"""Many senders at once."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.processes import MIB, PATIENCE, Site, environment

_PR_SET_PDEATHSIG: Final = 1
_CROWD: Final = f"""
import contextlib, ctypes, json, os, signal, sys
from xfer.cli.app import main

sys.argv = ["xfer", "--version"]
with contextlib.suppress(SystemExit):
    main()
children = []
for words, out in json.load(sys.stdin):
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT, 0o600), 1)
        sys.argv = ["xfer", *words]
        main()
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
"""Forks its senders once all is imported: else they would start one after the other."""


def send_at_once(site: Site, paths: Sequence[Path], home: Path) -> list[dict[str, Any]]:
    """What each sender says of the first thing it sent. All of them succeed."""
    jobs = []
    for number, path in enumerate(paths):
        words = site.command("--quiet", "--json", "--retry-for", "30", path)
        jobs.append((list(map(str, words)), str(home / f"{number}.json")))
    crowd = subprocess.run(
        [sys.executable, "-c", _CROWD],
        env=environment(site.home),
        input=json.dumps(jobs).encode(),
        capture_output=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert json.loads(crowd.stdout.splitlines()[-1]) == [0] * len(paths), crowd.stderr.decode()
    return [json.loads(Path(said).read_text().splitlines()[0]) for _, said in jobs]


SIZES = [
    pytest.param(1000, id="small"),
    pytest.param(MIB + MIB // 2, id="large", marks=pytest.mark.exhaustive),
]


def assert_none_is_lost(site: Site, home: Path, *, senders: int, size: int) -> None:
    """So many send as many contents of one name at once: each is there, or kept as a version.

    Only one at a time has what is left of a large file: the others are busy, and come again.
    """
    files = [home / str(number) / f"{home.name}.bin" for number in range(senders)]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(random.Random(number).randbytes(size))
    told = send_at_once(site, files, home)
    assert sorted(said["outcome"] for said in told) == ["stored"] + (senders - 1) * ["versioned"]
    kept = [site.stored(files[0]).read_bytes(), *site.versions(files[0])]
    assert sorted(kept) == sorted(file.read_bytes() for file in files)
