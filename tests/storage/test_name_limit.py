"""How many names one session may create: each counts once, with the directories above it."""

import pytest

from xfer.errors import Code, Refused
from xfer.storage.name_limit import NameCount


def refuses(names: NameCount, name: str) -> bool:
    try:
        names.add(name)
    except Refused as refused:
        return refused.code == Code.QUOTA
    return False


def test_a_name_counts_once_with_the_directories_on_the_way_to_it() -> None:
    names = NameCount(4)
    for name in ("a/b/c", "a/b/d", "a/b/c", "a", "a/b"):
        names.add(name)
    assert refuses(names, "e")
    with pytest.raises(Refused, match="up to 4"):
        names.add("e")


def test_a_name_that_is_one_too_many_is_not_counted() -> None:
    names = NameCount(3)
    names.add("a")
    assert refuses(names, "b/c/d")
    names.add("b/c")
    assert refuses(names, "d")


def test_names_that_are_not_utf8_are_told_apart() -> None:
    names = NameCount(2)
    names.add("\udce9")
    names.add("\udcea")
    assert not refuses(names, "\udce9")
    assert refuses(names, "\udceb")


def test_without_a_limit_any_number_of_names_is_taken() -> None:
    names = NameCount(None)
    for number in range(1000):
        names.add(f"{number}")


def test_a_limit_of_nothing_takes_no_name() -> None:
    assert refuses(NameCount(0), "a")
