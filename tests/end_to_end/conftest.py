"""Disks for receivers: ones whose power is cut, and ones that fail to write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cut_disks
from tests.support.cut_disks import MAKERS, THIN, Disk, disk_of


@pytest.fixture(params=MAKERS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with disk_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=THIN)
def thin_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with cut_disks.thin_disk(request.param, tmp_path) as made:
        yield made
