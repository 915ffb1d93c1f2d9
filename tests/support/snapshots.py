"""Clients that make snapshots and get them back, and what a tree is to them."""

import gzip
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.processes import PATIENCE, SECRET, Finished, Site, environment, finish, start

State = dict[str, tuple[object, ...]]
"""By name: kind, and what of it has to come back."""

_WITHOUT_RETRY: Final = ("--retry-for", "0")


def tree_of(docs: Path, files: int, directories: int, size: int) -> Path:
    """So many files of so many bytes in so many directories, a link, an empty directory."""
    for number in range(files):
        file = docs / f"{number % directories}" / f"{number:02}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(size))
    (docs / "link").symlink_to("0/00")
    (docs / "empty").mkdir()
    return docs


def state_of(root: Path) -> State:
    """What is below `root`, which a snapshot has to give back: a link's time is not kept."""
    found: State = {}
    for at, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = Path(at, name)
            status = path.lstat()
            own = path.relative_to(root).as_posix()
            if stat.S_ISLNK(status.st_mode):
                found[own] = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                found[own] = ("directory", stat.S_IMODE(status.st_mode), status.st_mtime_ns)
            else:
                about = stat.S_IMODE(status.st_mode), status.st_mtime_ns
                found[own] = ("file", *about, path.read_bytes())
    return found


@dataclass(frozen=True)
class Client:
    """Who sends to `site` and gets from it, with a key."""

    site: Site
    key_id: str = "default"
    secret: str = SECRET

    def send(self, *arguments: str | Path) -> Finished:
        command = self.site.command("--key-id", self.key_id, *arguments)
        return finish(start(command, environment(self.site.home, self.secret)))

    def snapshot(self, *arguments: str | Path, job: str = "nightly") -> str:
        """Send, and make a good snapshot of it: its stamp."""
        done = self.send("--json", "--snapshot", job, *arguments)
        assert done.code == 0, done
        made = made_by(done)
        assert made["complete"], made
        return str(made["snapshot"])

    def get_from_directory(self, *arguments: str | Path) -> Finished:
        """On the receiver's machine, and not through the receiver."""
        words = ["get", *_WITHOUT_RETRY, "--dir", self.site.directory, *arguments]
        return finish(start(words, environment(self.site.home, None)))

    def get(self, *arguments: str | Path, patience: float = PATIENCE) -> Finished:
        plaintext = ["--insecure-plaintext"] if self.site.plaintext else []
        words = ["get", *_WITHOUT_RETRY, *plaintext, "--key-id", self.key_id, *arguments]
        command = [*words, self.site.host]
        return finish(start(command, environment(self.site.home, self.secret)), patience=patience)


def made_by(done: Finished) -> dict[str, Any]:
    """What the summary of a send with --json says of its snapshot, among other things."""
    return done.records[-1]


def manifests(site: Site, key_id: str = "default", job: str = "nightly") -> Sequence[Path]:
    return sorted((site.directory / ".xfer/snapshots" / key_id / job).glob("*.gz"))


def runs(site: Site) -> list[Path]:
    """The directories of runs that are no snapshots yet."""
    found = (site.directory / ".xfer/runs").glob("[!.]*")
    return [path for path in found if path.is_dir()]


def age(run: Path, seconds: float) -> None:
    """Let nothing have been recorded for a run for so long."""
    for path in (*run.iterdir(), run):
        changed_at = path.stat().st_mtime - seconds
        os.utime(path, (changed_at, changed_at))


def lines_in(manifest: Path) -> list[dict[str, Any]]:
    """The names of a manifest, read as anybody would."""
    lines = [json.loads(line) for line in gzip.decompress(manifest.read_bytes()).splitlines()]
    assert (lines[0]["type"], lines[-1]["type"]) == ("header", "footer")
    return lines[1:-1]
