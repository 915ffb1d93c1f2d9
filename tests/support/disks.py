"""A disk that forgets: what a power cut may leave of the system calls that a process made.

A file system promises little about what was not flushed: any part of it may be
there, in any order. Here a change is safe only if it was over before a flush
of what it changed began, and that flush has succeeded: fsync of a file covers
its bytes and not its name, fsync of a directory its names and not the bytes,
syncfs covers everything. An exchange of two names is one change, which either of
their directories covers: every file system that can do it has a journal or is a
tree that is written anew. Modes and times are left out.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.faults import Content
from tests.support.traces import Call, text_of

Lucky = Callable[[], bool]
"""Whether a change that nobody flushed survives all the same."""

BEFORE: Final = -1
"""When something was done that the trace does not show."""
NEVER: Final = -2
FLUSHES: Final = ("fsync", "fdatasync", "syncfs")
STORING: Final = (
    *FLUSHES,
    *("close", "fcntl", "ftruncate", "linkat", "mkdirat", "openat", "pwrite64"),
    *("renameat", "renameat2", "sendfile", "symlinkat", "unlinkat", "write"),
)
"""What `Disk` knows."""
UNKNOWN: Final = (
    *("copy_file_range", "creat", "dup", "dup2", "dup3", "fallocate", "link", "mkdir", "open"),
    *("pwritev", "pwritev2", "rename", "rmdir", "symlink", "truncate", "unlink", "writev"),
)
"""What it does not: a test that sees one of these on its disk fails, and it has to learn."""
_REMEMBERED: Final = 8


@dataclass(slots=True)
class File:
    """`changes` are (when, offset, bytes); cut to `offset` where there are no bytes."""

    changes: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    safe_until: int = NEVER
    _made: dict[tuple[int, ...], bytes] = field(default_factory=dict)

    def read(self, lucky: Lucky) -> bytes:
        kept = tuple(
            number
            for number, (when, _, _) in enumerate(self.changes)
            if when <= self.safe_until or lucky()
        )
        if kept not in self._made:
            if len(self._made) > _REMEMBERED:
                self._made.clear()
            self._made[kept] = self._replayed(kept)
        return self._made[kept]

    def _replayed(self, kept: Iterable[int]) -> bytes:
        data = bytearray()
        for number in kept:
            _, offset, written = self.changes[number]
            if written is None:
                del data[offset:]
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(written or b"")] = written or b""
        return bytes(data)


@dataclass(slots=True)
class Link:
    """Its target is as safe as its name."""

    target: str


@dataclass(slots=True)
class Directory:
    """`changes` are (when, name, what has the name from then on)."""

    changes: list[tuple[int, str, "Node | None"]] = field(default_factory=list)
    safe_until: int = NEVER
    exchanges: dict[int, "Directory"] = field(default_factory=dict)
    """When a name was exchanged with one of that directory: both changes survive, or none."""

    def entries(self, lucky: Lucky) -> dict[str, "Node"]:
        kept: dict[str, Node | None] = {}
        for when, name, node in self.changes:
            other = self.exchanges.get(when, self)
            if when <= max(self.safe_until, other.safe_until) or (
                lucky.of(when) if isinstance(lucky, Luck) and other is not self else lucky()
            ):
                kept[name] = node
        return {name: node for name, node in kept.items() if node is not None}


Node = File | Link | Directory


class Luck:
    """The same for both names that were exchanged."""

    def __init__(self, lucky: Lucky) -> None:
        self._lucky = lucky
        self._of: dict[int, bool] = {}

    def __call__(self) -> bool:
        return self._lucky()

    def of(self, when: int) -> bool:
        return self._of.setdefault(when, self._lucky())


def kept() -> bool:
    return True


def lost() -> bool:
    return False


class Disk:
    """What a process sees and what a power cut would leave, below one directory.

    It begins with what is there, as something that was flushed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nodes: dict[int, Node] = {}
        self._opened: dict[str, Node] = {}
        self._positions: dict[str, int] = {}
        self._root = self._loaded(path)

    def after_power_cut(self, lucky: Lucky) -> dict[str, Content]:
        """Everything below the directory, except what is still arriving."""
        lucky = Luck(lucky)
        found: dict[str, Content] = {}
        waiting: list[tuple[str, Node]] = [("", self._root)]
        while waiting:
            name, node = waiting.pop()
            if name == ".xfer/partials":
                continue
            if isinstance(node, Directory):
                prefix = name and f"{name}/"
                waiting += [(prefix + entry, node) for entry, node in node.entries(lucky).items()]
            found[name] = _content(node, lucky)
        del found[""]
        return found

    def apply(self, call: Call) -> bool:
        """Do what a system call did; whether it was on this disk at all."""
        if call.name in UNKNOWN:
            assert not self._is_here(call), f"{call.name}: the model of a disk has to learn it"
            return False
        if call.name in FLUSHES:
            return self._flush(call)
        known: Callable[[Call], bool] = getattr(self, f"_{call.name}")
        return known(call)

    def process_ended(self) -> None:
        """What it had open is closed; what it did not flush may still be lost."""
        self._opened.clear()

    def _loaded(self, path: Path) -> Node:
        number = path.lstat().st_ino
        if number not in self._nodes:
            self._nodes[number] = self._new_node(path)
        return self._nodes[number]

    def _new_node(self, path: Path) -> Node:
        if path.is_symlink():
            return Link(os.readlink(path))
        if path.is_dir():
            directory = Directory([], BEFORE)
            for child in path.iterdir():
                directory.changes.append((BEFORE, child.name, self._loaded(child)))
            return directory
        return File([(BEFORE, 0, path.read_bytes())], BEFORE)

    def _is_here(self, call: Call) -> bool:
        here = os.fsencode(self._path).hex()
        return call.arguments[0] in self._opened or any(
            text_of(argument).hex().startswith(here)
            for argument in call.arguments
            if argument.startswith('"')
        )

    def _place(self, directory: str, path: str) -> tuple[Directory, str] | None:
        """Where a path leads to: a directory, and a name in it; None if not to this disk."""
        text = os.fsdecode(text_of(path))
        node = self._opened.get(directory)
        if text.startswith("/"):
            root = str(self._path)
            node = self._root if text == root or text.startswith(f"{root}/") else None
            text = text.removeprefix(root).strip("/")
        *parents, name = text.split("/")
        for parent in parents:
            node = node.entries(kept)[parent] if isinstance(node, Directory) else None
        return (node, name) if isinstance(node, Directory) else None

    def _set(self, call: Call, directory: str, path: str, node: Node | None) -> bool:
        place = self._place(directory, path)
        if place:
            place[0].changes.append((call.ended, place[1], node))
        return place is not None

    # Descriptors

    def _openat(self, call: Call) -> bool:
        directory, path, flags, *_ = call.arguments
        descriptor = str(call.result)
        self._opened.pop(descriptor, None)
        place = self._place(directory, path)
        if place is None:
            return False
        parent, name = place
        node = parent if name in ("", ".") else parent.entries(kept).get(name)
        if node is None:
            assert "O_CREAT" in flags
            node = File()
            parent.changes.append((call.ended, name, node))
        if isinstance(node, File) and "O_TRUNC" in flags:
            node.changes.append((call.ended, 0, None))
        self._opened[descriptor] = node
        self._positions[descriptor] = 0
        return "O_CREAT" in flags

    def _close(self, call: Call) -> bool:
        self._opened.pop(call.arguments[0], None)
        return False

    def _fcntl(self, call: Call) -> bool:
        if "F_DUPFD" in call.arguments[1] and call.arguments[0] in self._opened:
            self._opened[str(call.result)] = self._opened[call.arguments[0]]
        return False

    # Bytes

    def _pwrite64(self, call: Call) -> bool:
        descriptor, data, _, offset = call.arguments
        return self._put(call, descriptor, text_of(data), int(offset))

    def _write(self, call: Call) -> bool:
        descriptor, data, _ = call.arguments
        return self._append(call, descriptor, text_of(data))

    def _sendfile(self, call: Call) -> bool:
        target, source = call.arguments[:2]
        node, begin = self._opened.get(source), self._positions.get(source, 0)
        if not isinstance(node, File):
            return False
        self._positions[source] = begin + call.result
        return self._append(call, target, node.read(kept)[begin:])

    def _append(self, call: Call, descriptor: str, data: bytes) -> bool:
        begin = self._positions.get(descriptor, 0)
        self._positions[descriptor] = begin + call.result
        return self._put(call, descriptor, data, begin)

    def _put(self, call: Call, descriptor: str, data: bytes, offset: int) -> bool:
        node = self._opened.get(descriptor)
        if isinstance(node, File):
            node.changes.append((call.ended, offset, data[: call.result]))
        return isinstance(node, File)

    def _ftruncate(self, call: Call) -> bool:
        descriptor, size = call.arguments
        node = self._opened.get(descriptor)
        if isinstance(node, File):
            node.changes.append((call.ended, int(size), None))
        return isinstance(node, File)

    # Names

    def _linkat(self, call: Call) -> bool:
        old_directory, old, directory, name, _ = call.arguments
        return self._set(call, directory, name, self._found(old_directory, old))

    def _renameat(self, call: Call) -> bool:
        old_directory, old, directory, name, *flags = call.arguments
        node = self._found(old_directory, old)
        if flags == ["RENAME_EXCHANGE"]:
            ends = self._place(old_directory, old), self._place(directory, name)
            return self._exchange(call, *ends)
        assert flags in ([], ["0"])
        return self._set(call, directory, name, node) and self._set(call, old_directory, old, None)

    _renameat2 = _renameat

    def _exchange(
        self, call: Call, one: tuple[Directory, str] | None, other: tuple[Directory, str] | None
    ) -> bool:
        if one is None or other is None:
            return False
        nodes = [directory.entries(kept)[name] for directory, name in (other, one)]
        for (directory, name), node in zip((one, other), nodes, strict=True):
            directory.changes.append((call.ended, name, node))
        one[0].exchanges[call.ended], other[0].exchanges[call.ended] = other[0], one[0]
        return True

    def _unlinkat(self, call: Call) -> bool:
        return self._set(call, call.arguments[0], call.arguments[1], None)

    def _mkdirat(self, call: Call) -> bool:
        return self._set(call, call.arguments[0], call.arguments[1], Directory())

    def _symlinkat(self, call: Call) -> bool:
        target, directory, name = call.arguments
        return self._set(call, directory, name, Link(os.fsdecode(text_of(target))))

    def _found(self, directory: str, path: str) -> Node | None:
        place = self._place(directory, path)
        return place[0].entries(kept)[place[1]] if place else None

    # Flushes

    def _flush(self, call: Call) -> bool:
        node = self._opened.get(call.arguments[0])
        if node is None:
            return False
        for flushed in self._everything() if call.name == "syncfs" else [node]:
            if not isinstance(flushed, Link):
                flushed.safe_until = max(flushed.safe_until, call.began - 1)
        return True

    def _everything(self) -> Iterable[Node]:
        """Every node that has, or had, a name or a descriptor."""
        waiting: list[Node] = [self._root, *self._opened.values()]
        seen: dict[int, Node] = {}
        while waiting:
            node = waiting.pop()
            if id(node) not in seen:
                seen[id(node)] = node
                if isinstance(node, Directory):
                    waiting += [child for _, _, child in node.changes if child is not None]
        return seen.values()


def _content(node: Node, lucky: Lucky) -> Content:
    if isinstance(node, File):
        return node.read(lucky)
    return node.target if isinstance(node, Link) else None
