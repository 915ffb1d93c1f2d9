"""System calls as strace has written them down, and the receipts among them."""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that succeeded: the lines of the trace where it began and ended."""

    name: str
    arguments: tuple[str, ...]
    result: int
    began: int
    ended: int


def read_trace(trace: Path, first_line: int = 0) -> list[Call]:
    """The calls of a trace made with `strace -f -xx`, in the order in which they ended."""
    calls: list[Call] = []
    unfinished: dict[str, tuple[str, int]] = {}
    for time, line in enumerate(trace.read_text().splitlines(), first_line):
        process, text = line.split(maxsplit=1)
        began = time
        if text.endswith(" <unfinished ...>"):
            unfinished[process] = text.removesuffix(" <unfinished ...>"), time
            continue
        if text.startswith("<... "):
            beginning, began = unfinished.pop(process)
            text = beginning + text.partition(" resumed>")[2]
        if found := re.fullmatch(r"(\w+)\((.*)\) += (\d+)( .*)?", text):
            arguments = tuple(re.split(r", ?", found[2]))
            calls.append(Call(found[1], arguments, int(found[3]), began, time))
    return calls


def text_of(argument: str) -> bytes:
    """The bytes of a string argument."""
    return bytes.fromhex(argument.strip('"').replace("\\x", ""))


class Receipts:
    """What a receiver has vouched for, from the frames that it sends."""

    def __init__(self) -> None:
        self._unparsed: dict[str, bytes] = {}

    def take(self, call: Call) -> set[str]:
        """The names in the frames that this call completes."""
        connection, data, *_ = call.arguments
        if not data.startswith('"'):
            return set()  # not bytes: it asks the system for its addresses
        frames = self._unparsed.pop(connection, b"") + text_of(data)[: call.result]
        names: set[str] = set()
        while len(frames) >= 4 and len(frames) >= 4 + (size := struct.unpack_from("!I", frames)[0]):
            names |= _vouched_for(json.loads(frames[4 : 4 + size]))
            frames = frames[4 + size :]
        self._unparsed[connection] = frames
        return names


def _vouched_for(message: dict[str, Any]) -> set[str]:
    if message["type"] == "plan":
        return {file["file_name"] for file in message["files"] if file["action"] == "skip"}
    return {message["file_name"]} if message["type"] == "receipt" else set()
