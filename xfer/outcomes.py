"""What became of a name that was sent. A store says it, and a receipt carries it."""

from enum import StrEnum


class Outcome(StrEnum):
    """`VERSIONED`: other content had the name, and was kept as a version."""

    STORED = "stored"
    VERSIONED = "versioned"
    UNCHANGED = "unchanged"
