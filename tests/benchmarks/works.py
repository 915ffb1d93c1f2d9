"""What is sent: files made for it, or copied from the standard library."""

import math
import os
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks.processes import BenchmarkError

KIB: Final = 1024
MIB: Final = 1024 * KIB
_FILES_PER_DIRECTORY: Final = 100
_ONE_IN: Final = 100
"""One file in so many is a changed one."""
_NOT_SOURCE: Final = frozenset({"__pycache__", "site-packages", "dist-packages"})
_MADE_AT: Final = time.time() - 24 * 3600
"""Yesterday: a change of a moment ago may be trusted less, and is not the usual case."""


@dataclass(frozen=True, slots=True)
class Work:
    """A file or directory to send. `before`, of the same name, is what was sent earlier."""

    source: Path
    before: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A work that can be made: `make` takes an empty directory and a scale, where 1 is all.

    `is_repeated` says that it is about what is at the destination already, and tells nothing
    of a contender that sends everything every time.
    """

    title: str
    make: Callable[[Path, float], Work]
    is_repeated: bool = False


def one_file(directory: Path, size: int) -> Work:
    """A file of `size` random bytes."""
    source = directory / "file.bin"
    _write_random(source, size)
    return Work(source)


def many_files(directory: Path, count: int, size: int) -> Work:
    """A tree of `count` files of `size` random bytes, 100 to a directory."""
    source = directory / "tree"
    for number in range(count):
        parent = source / f"directory-{number // _FILES_PER_DIRECTORY:04}"
        parent.mkdir(parents=True, exist_ok=True)
        _write_random(parent / f"file-{number:06}.bin", size)
    return Work(source)


def standard_library(directory: Path, scale: float) -> Work:
    """The standard library's own files, without caches and installed packages."""
    library = Path(sysconfig.get_path("stdlib"))
    files = list(_source_files(library))
    source = directory / "stdlib"
    for file in files[: scaled(len(files), scale)]:
        copy = source / file.relative_to(library)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    return Work(source)


def _one_gib(directory: Path, scale: float) -> Work:
    return one_file(directory, scaled(1024 * MIB, scale))


def _small_files(directory: Path, scale: float) -> Work:
    return many_files(directory, scaled(10_000, scale), 4 * KIB)


def _unchanged(directory: Path, scale: float) -> Work:
    source = _small_files(directory, scale).source
    return Work(source, before=source)


def _changed(directory: Path, scale: float) -> Work:
    before = _small_files(directory / "before", scale).source
    source = directory / "after" / before.name
    shutil.copytree(before, source)
    for file in sorted(source.rglob("*.bin"))[::_ONE_IN]:
        _write_random(file, file.stat().st_size)
        os.utime(file)
    return Work(source, before)


def _one_kib(directory: Path, _scale: float) -> Work:
    return one_file(directory, KIB)


def _tiny_files(directory: Path, scale: float) -> Work:
    return many_files(directory, scaled(100_000, scale), 100)


PLANS: Final = {
    "a": Plan("one file of 1 GiB", _one_gib),
    "b": Plan("10,000 files of 4 KiB in 100 directories", _small_files),
    "c": Plan("the standard library's source", standard_library),
    "d": Plan("one file of 1 KiB", _one_kib),
    "e": Plan("b again, unchanged", _unchanged, is_repeated=True),
    "f": Plan("b again, with 1 % of the files changed", _changed, is_repeated=True),
    "g": Plan("100,000 files of 100 bytes in 1,000 directories", _tiny_files),
}


class Extent(NamedTuple):
    """How many files, and how many bytes in all of them."""

    files: int
    bytes: int


def extent(source: Path) -> Extent:
    """What there is to send."""
    if source.is_file():
        return Extent(1, source.stat().st_size)
    count = size = 0
    for directory, _, names in os.walk(source):
        count += len(names)
        size += sum(Path(directory, name).stat().st_size for name in names)
    return Extent(count, size)


def require_same(source: Path, destination: Path) -> None:
    """BenchmarkError unless `destination` has `source`, under its name, to the last byte.

    Beside it there may be xfer's own directory, and nothing else.
    """
    beside = {entry.name for entry in destination.iterdir()} - {source.name, ".xfer"}
    if beside:
        raise _differs(destination / beside.pop(), "should not be there")
    _require_same(source, destination / source.name)


def scaled(whole: int, scale: float) -> int:
    """`scale` of the whole, and at least one."""
    return math.ceil(whole * scale)


def _write_random(file: Path, size: int) -> None:
    with file.open("wb") as stream:
        for offset in range(0, size, MIB):
            stream.write(os.urandom(min(MIB, size - offset)))
    os.utime(file, (_MADE_AT, _MADE_AT))


def _source_files(directory: Path) -> Iterator[Path]:
    for entry in sorted(directory.iterdir()):
        if entry.is_dir() and entry.name not in _NOT_SOURCE:
            yield from _source_files(entry)
        elif entry.is_file():
            yield entry


def _require_same(here: Path, there: Path) -> None:
    if not os.path.lexists(there):
        raise _differs(there, "is missing")
    if here.is_dir() and there.is_dir():
        names = {entry.name for entry in here.iterdir()}
        if surplus := {entry.name for entry in there.iterdir()} - names:
            raise _differs(there / surplus.pop(), "should not be there")
        for name in names:
            _require_same(here / name, there / name)
    elif not _same_content(here, there):
        raise _differs(there, "has another content")


def _differs(there: Path, how: str) -> BenchmarkError:
    return BenchmarkError(f"what arrived is not what was sent: {there} {how}")


def _same_content(here: Path, there: Path) -> bool:
    if there.is_symlink() or not there.is_file():
        return False
    with here.open("rb") as one, there.open("rb") as other:
        while data := one.read(MIB):
            if data != other.read(MIB):
                return False
        return not other.read(1)
