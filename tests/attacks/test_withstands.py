"""tests/README.md, its table of attacks before all, names tests that are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "README.md").read_text()
SECTION = PAGE.partition("## What it withstands\n")[2]
ROWS = [
    line for line in SECTION.partition("\n#")[0].splitlines() if re.match(r"\| (?!attack )", line)
]
ROW = re.compile(r"\| (.+) \| .+ \| `([\w/]+\.py)::(\w+)` \|")
NAMED = [found.groups() for found in map(ROW.fullmatch, ROWS) if found]


@cache
def files_with(test: str) -> list[str]:
    """Where below tests/ a function of this name is."""
    return [
        str(file.relative_to(TESTS))
        for file in TESTS.rglob("test_*.py")
        if test in file.read_text() and test in functions(file)
    ]


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if type(node) is ast.FunctionDef}


def test_every_row_of_the_table_names_a_test() -> None:
    assert [row for row in ROWS if not ROW.fullmatch(row)] == []
    assert len(ROWS) >= 20


@pytest.mark.parametrize(("attack", "file", "test"), NAMED)
def test_a_test_that_the_table_names_exists(attack: str, file: str, test: str) -> None:
    there = files_with(test)
    where = f"it is in {' and '.join(there)}" if there else "there is none of that name"
    assert file in there, f"the row of {attack!r} names {file}::{test}, but {where}"


def test_every_file_and_folder_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:\w+/)*(?:test_\w+\.py|\w+/))`", PAGE)) - {
        "xfer/",
        "xfer/storage/",
    }
    assert len(named) > 15
    gone = [name for name in sorted(named) if not (TESTS / name).exists()]
    assert not gone, f"tests/README.md names what is not there: {', '.join(gone)}"
