"""What a progress bar shows: all that fits, in an order of importance, and nothing cut off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfer.cli.output.progress_line import Shown, columns, compose

MIB = 1024 * 1024
NAME = "docs/some/where/quite/deep/annual report 2026.pdf"


def shown(**changes: object) -> Shown:
    fields = {
        "done": int(13.5 * MIB), "total": 30 * MIB, "files_done": 3, "files": 12,
        "rate": 8.2 * MIB, "elapsed": 3.0,
    }  # fmt: skip
    return Shown(**(fields | changes))  # type: ignore[arg-type]  # fields of several types


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            120,
            " 45%  ██████████▊               13.5 of 30.0 MiB  3 of 12 files  8.2 MiB/s  0:02 left"
            "  a.txt",
        ),
        (79, " 45%  ███▌      13.5 of 30.0 MiB  3 of 12 files  8.2 MiB/s  0:02 left  a.txt"),
        (59, " 45%  ███▌      13.5 of 30.0 MiB  8.2 MiB/s  0:02 left"),
        (39, " 45%  13.5 of 30.0 MiB  8.2 MiB/s"),
        (19, " 45%  8.2 MiB/s"),
        (9, " 45%"),
        (2, ""),
    ],
)
def test_what_does_not_fit_is_left_out_the_least_important_first(width: int, line: str) -> None:
    assert compose(shown(name="a.txt"), width) == line


def test_of_a_name_the_end_is_shown() -> None:
    composed = compose(shown(name=NAME), 99)
    assert composed.endswith(" report 2026.pdf")
    assert "  …" in composed
    assert compose(shown(name="a.txt"), 99).endswith("  a.txt")


def test_what_is_being_done_comes_before_everything_but_the_share() -> None:
    checking = shown(doing="the receiver is checking (45%)", name=NAME)
    assert compose(checking, 39) == " 45%  the receiver is checking (45%)"
    assert compose(checking, 99).endswith("the receiver is checking (45%) …t 2026.pdf")


def test_without_a_rate_there_is_no_time_left_and_without_a_total_no_share() -> None:
    assert "left" not in compose(shown(rate=0.0), 99)
    assert compose(shown(total=None, files=None), 99) == "13.5 MiB  8.2 MiB/s  0:03"


def test_one_file_is_not_called_files() -> None:
    assert "0 of 1 file " in compose(shown(files=1, files_done=0, name="a"), 99)


def test_what_grew_while_it_was_sent_is_no_more_than_all() -> None:
    grown = compose(shown(done=40 * MIB, files_done=13), 99)
    assert grown.startswith("100%")
    assert "40.0 of 40.0 MiB  13 of 13 files" in grown


@pytest.mark.parametrize(("done", "share"), [(0, "  0%"), (2, "100%")])
def test_files_without_content_are_done_when_all_are(done: int, share: str) -> None:
    assert compose(shown(done=0, total=0, files=2, files_done=done), 99).startswith(share)


def test_a_long_time_has_hours() -> None:
    assert "1:01:01 left" in compose(shown(done=0, total=3661, rate=1.0), 99)


@given(
    st.integers(0, 2**63), st.none() | st.integers(0, 2**63), st.floats(0, 1e12),
    st.text(max_size=60), st.sampled_from(["", "the receiver is checking (45%)"]),
    st.integers(0, 200),
)  # fmt: skip
def test_no_line_is_wider_than_the_terminal_and_no_part_is_cut_off(
    done: int, total: int | None, rate: float, name: str, doing: str, width: int
) -> None:
    some = Shown(done, total, 3, None if total is None else 12, rate, 3.0, doing, name)
    line = compose(some, width)
    assert columns(line) <= width
    if doing and columns(doing) + 6 <= width:
        assert doing in line


def test_a_wide_character_takes_two_columns() -> None:
    assert [columns(text) for text in ("abc", "漢字", "e\u0301")] == [3, 4, 1]
    wide = compose(shown(name="漢字" * 30), 99)
    assert columns(wide) <= 99
    assert "…" in wide
