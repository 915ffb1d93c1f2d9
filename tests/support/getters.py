"""A getter by hand: it takes all that a receiver gives, and keeps no name from it."""

from dataclasses import dataclass, field

from tests.support.processes import HandSender
from xfer.outcomes import Outcome
from xfer.wire.messages import (
    DirectoryHeader,
    Done,
    Error,
    FileHeader,
    Message,
    Offer,
    Plan,
    PlannedFile,
    Receipt,
    Refusal,
    SymlinkHeader,
)


@dataclass
class Given:
    """What a receiver has given, by name: contents, targets of links, directories, refusals."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    ended_with: str = ""
    """The code of the error that ended the session, if one did."""


def get_by_hand(getter: HandSender, *names: str, **keys: object) -> Given:
    """Ask for `names`, and take everything to the end."""
    getter.say({"type": "get", "names": list(names)} | keys)
    given = Given()
    while not isinstance(message := getter.channel.receive(), Done | Error):
        answer = _taken(message, given, getter)
        if answer:
            getter.channel.send(answer)
            getter.channel.flush()
    if isinstance(message, Error):
        given.ended_with = message.code
    else:
        getter.say({"type": "done"})
    return given


def _taken(message: Message, given: Given, getter: HandSender) -> Plan | Receipt | None:
    """Take one message; what is to be answered."""
    match message:
        case Offer() if message.files:
            return Plan(tuple(PlannedFile(file.file_name, "send") for file in message.files))
        case FileHeader(file_name=name):
            body = given.files.setdefault(name, b"") + getter.channel.read(message.body)
            given.files[name] = body
            if message.is_last:
                return Receipt(name, Outcome.STORED, len(body), message.md5)
        case DirectoryHeader(file_name=name):
            given.directories.append(name)
            return Receipt(name, Outcome.STORED)
        case SymlinkHeader(file_name=name):
            given.links[name] = message.target
            return Receipt(name, Outcome.STORED)
        case Refusal(file_name=name):
            given.refused[name] = message.code
    return None
