"""--bwlimit keeps to what it says, for one connection and for many."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import finish, receiving

RATE = 400_000
SECONDS = 3.0
TLS: list[str] = []
PLAINTEXT = ["--insecure-plaintext"]


def timed(seconds: float) -> bool:
    """Whether so long a wait fits a limit of which `SECONDS` were to be felt.

    A loaded machine can only make it longer; to the sides of a start, a little
    has been moved before the first byte is paid for.
    """
    return 0.95 * SECONDS <= seconds <= 2 * SECONDS + 2


BOTH = [
    pytest.param(TLS, id="TLS"),
    pytest.param(PLAINTEXT, id="plaintext", marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize("mode", BOTH)
def test_a_sender_keeps_to_its_limit(tmp_path: Path, mode: list[str]) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(int(RATE * SECONDS)))
    with receiving(tmp_path / "far", *mode) as site:
        done = site.send("--json", "--bwlimit", f"{RATE}", file)
        assert done.code == 0, done
        assert site.stored(file).read_bytes() == file.read_bytes()
    assert timed(done.records[-1]["seconds"]), done


@pytest.mark.parametrize(
    "mode",
    [
        *BOTH,
        pytest.param([*TLS, "--workers", "2"], id="processes", marks=pytest.mark.exhaustive),
    ],
)
def test_a_receiver_s_limit_is_for_all_senders_together(tmp_path: Path, mode: list[str]) -> None:
    files = [tmp_path / f"part-{number}" for number in range(4)]
    for file in files:
        file.write_bytes(os.urandom(int(RATE * SECONDS) // len(files)))
    with receiving(tmp_path / "far", "--bwlimit", f"{RATE}", *mode) as site:
        began = time.monotonic()
        sending = [site.start_send("--timeout", "3", file) for file in files]
        assert [finish(process).code for process in sending] == [0] * len(files)
        assert timed(time.monotonic() - began)
        for file in files:
            assert site.stored(file).read_bytes() == file.read_bytes()


PAID_BY_FOUR = f"""
import os, time
from xfer.wire.bandwidth import SharedBandwidth
bandwidth = SharedBandwidth({RATE})
began = time.monotonic()
children = []
while len(children) < 3 and (child := os.fork()):
    children.append(child)
for _ in range(10):
    bandwidth.pay(int({RATE} * {SECONDS}) // 40)
if len(children) == 3:
    for child in children:
        os.waitpid(child, 0)
    print(time.monotonic() - began)
"""


def test_processes_that_share_a_limit_share_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PAID_BY_FOUR], capture_output=True, text=True, check=True
    )
    assert timed(float(done.stdout.split()[-1])), done


def test_small_files_are_limited_too(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(100):
        (tree / f"{number}").write_bytes(os.urandom(int(RATE * SECONDS) // 100))
    with receiving(tmp_path / "far") as site:
        done = site.send("--json", "--bwlimit", f"{RATE}", tree)
    assert done.code == 0, done
    assert timed(done.records[-1]["seconds"]), done


def test_a_very_slow_limit_keeps_nobody_silent_for_too_long(tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_bytes(os.urandom(4000))
    with receiving(tmp_path / "far", "--timeout", "1") as site:
        assert site.send("--timeout", "1", "--bwlimit", "2000", file).code == 0


def test_what_is_no_rate_is_refused(tmp_path: Path) -> None:
    with receiving(tmp_path / "far") as site:
        done = site.send("--bwlimit", "fast", __file__)
    assert (done.code, "--bwlimit" in done.err) == (2, True)
