"""Disks for receivers: ones whose power is cut, and ones that fail to write."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cut_disks
from tests.support.cut_disks import MAKERS, THIN, Disk


@pytest.fixture(params=MAKERS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with MAKERS[request.param](tmp_path) as made:
        os.sync()  # what the test itself has made
        yield made


@pytest.fixture(params=THIN)
def thin_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with cut_disks.thin_disk(request.param, tmp_path) as made:
        yield made
