"""The README's table of attacks names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
README = TESTS.parent / "README.md"
NAMED = re.findall(r"^\| .* \| `([\w/]+\.py)::(\w+)` \|$", README.read_text(), re.MULTILINE)


def test_every_row_of_the_table_names_a_test() -> None:
    section = README.read_text().partition("## What it withstands")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(NAMED) == len(rows) - 1 >= 20


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_readme_names_exists(file: str, test: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
