"""What counts for a quota: all that is below a directory, however it got there or is hidden."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.limited_stores import SIZE, code, code_of_next, limited, take
from tests.support.processes import unprivileged
from xfer.errors import Code
from xfer.storage.contract import (
    Limits,
)


def test_what_was_there_before_counts(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(bytes(SIZE))
    (tmp_path / "same").hardlink_to(tmp_path / "deep" / "er" / "file")
    (tmp_path / "link").symlink_to("/etc")
    with limited(tmp_path, Limits(quota=2 * SIZE)) as writer:
        assert code(take(writer, "a")) == "stored"
        assert code(take(writer, "b", 1)) == Code.QUOTA


def test_older_versions_count(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(quota=2 * SIZE)) as writer:
        take(writer, "a")
        assert code(take(writer, "a", SIZE, b"y")) == "versioned"
        assert code(take(writer, "b", 1)) == Code.QUOTA
    assert code_of_next(tmp_path, 2 * SIZE, 1) == Code.QUOTA
    assert code_of_next(tmp_path, 2 * SIZE + 1, 1) == "stored"


def test_a_directory_that_forbids_to_look_into_it_hides_nothing(tmp_path: Path) -> None:
    """Run without privileges, which may look anywhere."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.support.limited_stores import *\n"
        "print(code_of_next(Path(sys.argv[1]), 2 * SIZE, SIZE + 1))\n"
    )
    store = tmp_path / "store"
    (store / "locked" / "below").mkdir(parents=True)
    (store / "locked" / "below" / "file").write_bytes(bytes(SIZE))
    (store / "locked" / "below").chmod(0)
    (store / "locked").chmod(0)
    assert printed_by(script, store) == "quota"
    assert (store / "locked").stat().st_mode & 0o777 == 0
    (store / "locked").chmod(0o700)
    assert (store / "locked" / "below").stat().st_mode & 0o777 == 0
    (store / "locked" / "below").chmod(0o700)


def printed_by(script: Path, argument: Path) -> str:
    command = [*unprivileged(), sys.executable, str(script), str(argument)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_name_longer_than_one_call_takes_is_counted(tmp_path: Path) -> None:
    name = "/".join(20 * ["n" * 200])
    above = "a" * 200 + "/" + "b" * 200
    with limited(tmp_path, Limits(quota=SIZE), access=above) as writer:
        assert code(take(writer, name)) == "stored"
    with limited(tmp_path, Limits(quota=SIZE), access=above) as writer:
        assert code(take(writer, "b", 1)) == Code.QUOTA
