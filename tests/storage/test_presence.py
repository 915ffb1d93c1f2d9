"""Presence: a session knows whether it is the only one of its sender, across processes."""

import os
from pathlib import Path

from xfer.storage.local.presence import Presence


def test_only_the_one_session_of_a_sender_is_alone(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    one, two, other = (Presence(directory, owner) for owner in ("ann", "ann", "bob"))
    for presence, expected in ((one, False), (two, False), (other, True)):
        with presence.alone() as is_alone:
            assert is_alone is expected
    two.close()
    with one.alone() as is_alone:
        assert is_alone
    one.close()
    other.close()
    os.close(directory)


def test_who_asked_in_vain_is_still_there(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    one, two = Presence(directory, "ann"), Presence(directory, "ann")
    with one.alone():
        pass
    with two.alone() as is_alone:
        assert not is_alone
    one.close()
    two.close()
    os.close(directory)
