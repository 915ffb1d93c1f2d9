"""Names are sorted in bounded memory, by reading a directory again."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from xfer.source.in_order import in_order, most_at


@given(names=st.sets(st.text(max_size=5), max_size=60), most=st.integers(1, 10))
def test_all_names_come_once_and_in_order(names: set[str], most: int) -> None:
    assert list(in_order(lambda: names, most)) == sorted(names)


@given(names=st.lists(st.integers(0, 999).map(str), unique=True), most=st.integers(1, 30))
def test_a_scan_is_repeated_only_for_what_did_not_fit(names: list[str], most: int) -> None:
    scans = 0

    def scan() -> list[str]:
        nonlocal scans
        scans += 1
        return names

    assert list(in_order(scan, most)) == sorted(names)
    assert scans == max(1, -(-len(names) // most))


def test_what_comes_and_goes_meanwhile_does_no_harm() -> None:
    stays = [f"{number:03}" for number in range(100)]
    passing = [f"{name}-gone" for name in stays]
    found = []
    for name in in_order(lambda: [*passing, *stays], 10):
        found.append(name)
        passing[:] = [f"{name}-new"]
    assert [name for name in found if name in stays] == stays
    assert found == sorted(set(found))


def test_many_names_are_never_held_at_once() -> None:
    """Of a million, as many bytes are held as for a few."""

    class Counted(str):
        alive = most = 0
        __slots__ = ()

        def __new__(cls, text: str) -> "Counted":
            cls.alive += 1
            cls.most = max(cls.most, cls.alive)
            return super().__new__(cls, text)

        def __del__(self) -> None:
            Counted.alive -= 1

    def scan() -> Iterator[str]:
        return (Counted(f"{number * 7919 % 20_011:05}") for number in range(20_011))

    assert sum(1 for _ in in_order(scan, 500)) == 20_011
    assert Counted.most < 1100


def test_the_levels_of_a_walk_hold_less_the_deeper_they_are() -> None:
    assert most_at(0) == 65_536
    assert sum(most_at(depth) for depth in range(2048)) < 12 * most_at(0)
