"""What is told of a snapshot that cannot be read, or not be made."""

from xfer.errors import Code, Refused


class DamagedManifest(Refused):
    """A manifest that was cut, changed or forged. `file` is its path below DIR."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} is damaged: {reason}", code=Code.STORAGE)
        self.file = file
        self.reason = reason


class LinesLost(Refused):
    """Less is known of a run than its client has receipts for: a power cut has taken the rest.

    All is stored, and only what is known of it is lost: the same run, sent once more, skips
    what is there, and can be committed then.
    """

    def __init__(self, known: int, expected: int) -> None:
        super().__init__(
            f"only {known} of the run's {expected} names are known here any more",
            code=Code.LINES_LOST,
        )
        self.known = known
        self.expected = expected
