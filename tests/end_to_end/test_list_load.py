"""A list of very many names: in order, and in the memory that few of them take, on both sides."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import Site, end, environment, receiving, start
from tests.support.resources import memory

MIB: Final = 1024 * 1024
_MORE: Final = 40 * MIB
"""What both sides may need more for many names than for a few: the names of two times 65,536."""


@dataclass(frozen=True, slots=True)
class Listed:
    lines: int
    client: int
    server: int
    """Bytes of memory at the most."""


def plant(root: Path, count: int, width: int) -> None:
    """So many empty files, of which `width` are in each directory, in an order of their own."""
    for number in range(count):
        below = root / f"{number // width:05}"
        if number % width == 0:
            below.mkdir(parents=True)
        name = f"{number * 7919 % 1_000_003:07}.txt"
        os.close(os.open(below / name, os.O_CREAT | os.O_WRONLY, 0o600))


def listed(site: Site, *arguments: str) -> Listed:
    """What listing takes; the lines are looked at one by one, and must be in order."""
    process = start(["list", *arguments, site.host], environment(site.home))
    assert process.stdout
    count, before, most = 0, "", 0
    try:
        for line in process.stdout:
            name = line.decode().split()[4]
            assert name.replace("/", "\0") > before
            before, count = name.replace("/", "\0"), count + 1
            if count % 1000 == 0:
                most = max(most, memory(process, "VmHWM"))
        assert process.wait() == 0
    finally:
        end(process)
        process.communicate()
    return Listed(count, most, memory(site.process, "VmHWM"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with receiving(tmp_path, "--access", "read") as site:
        yield site


def compared(site: Site, few: int, many: int, is_flat: bool) -> None:
    """That both sides take about the same for few names and for many."""
    plant(site.directory / "few", few, few if is_flat else few // 10)
    plant(site.directory / "many", many, many if is_flat else 1000)
    some = listed(site, "-R", "few")
    all_ = listed(site, "-R", "many")
    print(f"{some} {all_}")
    assert all_.lines == many + (1 if is_flat else many // 1000)
    assert all_.client < some.client + _MORE / 8
    assert all_.server < some.server + _MORE


@pytest.mark.parametrize("is_flat", [True, False], ids=["one directory", "a tree"])
def test_many_names_take_no_more_memory_than_few(site: Site, is_flat: bool) -> None:
    compared(site, 2_000, 20_000, is_flat)


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("is_flat", [True, False], ids=["one directory", "a tree"])
def test_a_million_names_take_no_more_memory_than_ten_thousand(site: Site, is_flat: bool) -> None:
    compared(site, 10_000, 1_000_000, is_flat)
