"""Two snapshots of one job, name by name: what is new, changed, unchanged and gone."""

from collections.abc import Iterable, Iterator

from xfer.storage.snapshots.lines import (
    DirectoryLine,
    FailedLine,
    FileLine,
    Line,
    SymlinkLine,
    sort_key,
)


def paired(
    now: Iterable[Line], before: Iterable[Line]
) -> Iterator[tuple[Line | None, Line | None]]:
    """Each name once, in order, with its line in either or both; they are in order, too."""
    older = iter(before)
    waiting = next(older, None)
    for line in now:
        if waiting and waiting.name != line.name:  # else, nearly always, no key is needed
            key = sort_key(line.name)
            while waiting and sort_key(waiting.name) < key:
                yield None, waiting
                waiting = next(older, None)
        if waiting and waiting.name == line.name:
            yield line, waiting
            waiting = next(older, None)
        else:
            yield line, None
    while waiting:
        yield None, waiting
        waiting = next(older, None)


class Changes:
    """Counts them, and the names that there were before."""

    def __init__(self) -> None:
        self.new = self.changed = self.unchanged = self.gone = self.before = 0

    def add(self, now: Line | None, before: Line | None) -> None:
        if before:
            self.before += 1
        match now, before:
            case None, _:
                self.gone += 1
            case FailedLine(), _:
                pass
            case _, None:
                self.new += 1
            case _ if is_changed(now, before):
                self.changed += 1
            case _:
                self.unchanged += 1


def is_changed(now: Line | None, before: Line | None) -> bool:
    """Whether a name is of another kind, or has another content or target: modes don't count."""
    match now, before:
        case FileLine(), FileLine():
            return _has_other_content(now, before)
        case SymlinkLine(), SymlinkLine():
            return now.target != before.target
        case DirectoryLine(), DirectoryLine():
            return False
    return True


def _has_other_content(now: FileLine, before: FileLine) -> bool:
    if now.digest and before.digest and now.digest[0] == before.digest[0]:
        return now.digest != before.digest
    return (now.size, now.mtime_ns) != (before.size, before.mtime_ns)
