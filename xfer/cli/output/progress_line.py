"""What a progress bar shows, as one line that fits the terminal: nothing in it is cut off.

     45%  ██████▌         13.5 of 30.0 MiB  3 of 12 files  8.2 MiB/s  0:02 left  docs/a.txt

Where there is no room, whole parts are left out, the least important first. Only a
name is shortened, with an ellipsis in the place of its beginning.
"""

import unicodedata
from typing import Final

from msgspec import Struct

from xfer.config.sizes import counted, in_units

_ORDER: Final = ("share", "bar", "size", "files", "rate", "left")
_GAP: Final = "  "
_LONGEST_BAR: Final = 24
_SHORTEST_BAR: Final = 8
_SHORTEST_NAME: Final = 8
_LONGEST_NAME: Final = 32
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


class Shown(Struct):
    """What is to be shown. Sizes in bytes, `rate` in bytes a second, `elapsed` in seconds.

    `total` and `files` are None where they are not known. `doing` is what is being
    done, beside sending; `name` is what it is done to.
    """

    done: int = 0
    total: int | None = None
    files_done: int = 0
    files: int | None = None
    rate: float = 0.0
    elapsed: float = 0.0
    doing: str = ""
    name: str = ""


def compose(shown: Shown, width: int) -> str:
    """The line, no wider than `width` columns."""
    chosen: dict[str, str] = {}
    for part, text in _by_importance(shown):
        if text and _width_of({**chosen, part: text}) <= width:
            chosen[part] = text
    room = width - _width_of(chosen) - len(_GAP)
    name = _shortened(shown.name, min(room, _LONGEST_NAME))
    if "bar" in chosen:
        more = min(room - _LONGEST_NAME, _LONGEST_BAR - _SHORTEST_BAR)  # the same for all names
        chosen["bar"] = _bar(_share(shown), _SHORTEST_BAR + max(more, 0))
    doing = f"{chosen.pop('doing', '')} {name}".strip()
    return _GAP.join([*(chosen[part] for part in _ORDER if part in chosen), doing]).rstrip()


def columns(text: str) -> int:
    """How many columns a terminal shows `text` in."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _by_importance(shown: Shown) -> list[tuple[str, str]]:
    """Each part and its text; empty for what is not known."""
    is_known = shown.total is not None
    return [
        ("share", f"{int(100 * _share(shown)):3}%" if is_known else ""),
        ("doing", shown.doing),
        ("size", _size(shown)),
        ("rate", f"{in_units(shown.rate)}/s" if shown.rate >= 1 else ""),
        ("left", _left(shown)),
        ("bar", " " * _SHORTEST_BAR if is_known else ""),
        ("files", _files(shown)),
    ]


def _size(shown: Shown) -> str:
    done, unit = in_units(shown.done).split()
    if shown.total is None:
        return f"{done} {unit}"
    total, its_unit = in_units(max(shown.total, shown.done)).split()
    return f"{done} {'' if unit == its_unit else f'{unit} '}of {total} {its_unit}"


def _files(shown: Shown) -> str:
    if shown.files is None:
        return ""
    return f"{shown.files_done} of {counted(max(shown.files, shown.files_done), 'file')}"


def _share(shown: Shown) -> float:
    """How much is done, from 0 to 1."""
    if not shown.total:
        return 1.0 if shown.files_done and shown.files_done == shown.files else 0.0
    return min(shown.done / shown.total, 1.0)


def _left(shown: Shown) -> str:
    if shown.total is None:
        return _duration(shown.elapsed)
    if shown.rate < 1:
        return ""
    return f"{_duration(max(shown.total - shown.done, 0) / shown.rate)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _width_of(chosen: dict[str, str]) -> int:
    return sum(map(columns, chosen.values())) + len(_GAP) * max(len(chosen) - 1, 0)


def _shortened(name: str, width: int) -> str:
    """`name` in so many columns, its end if it is longer; empty where that would say too little."""
    if columns(name) <= width:
        return name
    if width < _SHORTEST_NAME:
        return ""
    taken, start = 1, len(name)
    while taken + _columns_of(name[start - 1]) <= width:
        start -= 1
        taken += _columns_of(name[start])
    return "…" + name[start:]


def _bar(share: float, width: int) -> str:
    whole, eighths = divmod(int(share * width * 8), 8)
    partial = _EIGHTHS[eighths].strip()
    return ("█" * whole + partial).ljust(width)
