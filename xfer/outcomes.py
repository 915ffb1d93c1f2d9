"""What became of a name that was sent. A store says it, and a receipt carries it."""

from enum import StrEnum


class Outcome(StrEnum):
    """`STORED`: nothing had the name, or what had it was replaced.

    `VERSIONED`: other content had the name, and was kept as a version.
    `UNCHANGED`: the same content had the name already.
    """

    STORED = "stored"
    VERSIONED = "versioned"
    UNCHANGED = "unchanged"
