"""What every message is."""

from typing import ClassVar


class Message:
    """What travels in a frame. `type` is the value of that key."""

    type: ClassVar[str]
