"""Two snapshots are compared in one pass, whatever is in them."""

from hypothesis import given
from hypothesis import strategies as st

from tests.storage.snapshots.making import a_directory, a_file, a_link, in_order
from xfer.storage.snapshots.comparing import Changes, is_changed, paired
from xfer.storage.snapshots.gone import inside_out
from xfer.storage.snapshots.lines import FailedLine, Line, NameLine

NAMES = st.lists(st.text("ab-", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)
SNAPSHOTS = st.lists(st.builds(a_file, NAMES, size=st.integers(0, 1)), max_size=12).map(in_order)


@given(SNAPSHOTS, SNAPSHOTS)
def test_each_name_of_either_comes_once_and_in_order(now: list[Line], before: list[Line]) -> None:
    pairs = list(paired(now, before))
    assert [line for line, _ in pairs if line] == now
    assert [line for _, line in pairs if line] == before
    both = {line.name for line in now} & {line.name for line in before}
    assert {one.name for one, other in pairs if one and other} == both
    assert all(one.name == other.name for one, other in pairs if one and other)
    assert in_order(one or other for one, other in pairs if one or other) == [  # type: ignore[misc]
        one or other for one, other in pairs
    ]


@given(SNAPSHOTS, SNAPSHOTS)
def test_all_names_are_counted_as_one_thing(now: list[Line], before: list[Line]) -> None:
    changes = Changes()
    for pair in paired(now, before):
        changes.add(*pair)
    assert changes.new + changes.changed + changes.unchanged == len(now)
    assert changes.gone + changes.changed + changes.unchanged == changes.before == len(before)


def test_content_kind_and_target_are_changes_and_modes_and_times_are_not() -> None:
    file, other = a_file("a"), "f" * 32
    blake3 = a_file("a", md5=None, blake3="0" * 64)
    assert is_changed(file, a_file("a", md5=other))
    assert is_changed(file, a_directory("a"))
    assert is_changed(a_link("a", "x"), a_link("a", "y"))
    assert not is_changed(file, a_file("a", mtime_ns=1, mode=0, inode=9))
    assert not is_changed(a_link("a", "x"), a_link("a", "x"))
    assert not is_changed(file, blake3)  # as far as size and time tell
    assert is_changed(a_file("a", mtime_ns=1), blake3)


def test_what_failed_is_neither_gone_nor_changed() -> None:
    changes = Changes()
    changes.add(FailedLine(name="a"), a_file("a"))
    assert (changes.gone, changes.changed, changes.new, changes.before) == (0, 0, 0, 1)


@given(st.lists(NAMES))
def test_what_is_in_a_directory_comes_before_it_when_it_is_moved(names: list[str]) -> None:
    lines: list[NameLine] = [a_directory(line.name) for line in in_order(map(a_file, names))]
    moved = list(inside_out(lines))
    assert {line.name for line in moved} == set(names)
    for number, line in enumerate(moved):
        assert not any(later.name.startswith(f"{line.name}/") for later in moved[number:])
