"""The end of runs, as a receiver sees it."""

import os
from pathlib import Path

import pytest

import xfer
from tests.support.processes import SECRET, wait_until
from tests.support.receivers import serving
from xfer.server import server
from xfer.storage.local.store import LocalStore
from xfer.storage.recording import Confirmed, Run

TWO_DAYS = 172_800


def abandoned_run(root: Path, job: str, run: str) -> Path:
    """What a client recorded two days ago, and never came back."""
    with LocalStore(str(root)) as store:
        writer = store.open_writer("default")
        writer.begin_run(Run(run, job))
        writer.record([Confirmed("a", "directory")])
        writer.close()
    path = root / f".xfer/runs/default.{run}"
    for changed in (*path.iterdir(), path):
        time = changed.stat().st_mtime - TWO_DAYS
        os.utime(changed, (time, time))
    return path


def test_a_run_that_cannot_be_ended_keeps_no_other_and_stops_no_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has put a snapshot there that none can follow."""
    root = tmp_path / "received"
    root.mkdir()
    bad = abandoned_run(root, "bad", 32 * "0")
    good = abandoned_run(root, "good", 32 * "1")
    job = root / ".xfer/snapshots/default/bad"
    job.mkdir(parents=True)
    (job / "99991231T235959.999999Z.jsonl.gz").touch()
    monkeypatch.setattr(server, "_TIDY_SECONDS", 0.1)
    with serving(tmp_path) as (_, host):
        wait_until(lambda: not good.exists())
        wait_until(lambda: "could not tidy up: no snapshot can follow" in caplog.text)
        assert bad.exists()
        (tmp_path / "a").write_bytes(b"1")
        (sent,) = xfer.send(str(tmp_path / "a"), host, secret=SECRET)
    assert sent.outcome == "stored"
