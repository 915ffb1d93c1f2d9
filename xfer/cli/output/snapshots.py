"""Snapshots in words and in JSON."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xfer.names import printable
from xfer.wire.messages import ListedSnapshot

if TYPE_CHECKING:
    from xfer.storage.reading import SnapshotInfo  # a send needs no store


def as_of(snapshots: Sequence[ListedSnapshot]) -> Iterator[str]:
    """What is to be said of the snapshots that something is taken from."""
    good = [printable(f"{one.job} {one.stamp}") for one in snapshots if not one.damaged]
    if good:
        yield f"as of {', '.join(good)}"
    for one in snapshots:
        if one.damaged:
            yield f"the snapshot {one.job} {one.stamp} is damaged, and was passed over"


def snapshot_line(snapshot: "SnapshotInfo") -> str:
    """Stamp, state, what it has and what has changed, job and key."""
    whose = printable(f"{snapshot.job} {snapshot.key_id}")
    counts = ""
    if one := snapshot.counts:
        counts = (
            f" files={one.files} bytes={one.size} new={one.new} changed={one.changed}"
            f" gone={one.gone}"
        )
    return f"{snapshot.stamp} {state_of(snapshot):10}{counts} {whose}"


def of_snapshot(snapshot: "SnapshotInfo") -> dict[str, object]:
    """As an object of JSON has it; counts are left out where they are not to be known."""
    about: dict[str, object] = {
        "type": "snapshot",
        "key_id": snapshot.key_id,
        "job": snapshot.job,
        "snapshot": snapshot.stamp,
        "state": state_of(snapshot),
    }
    if one := snapshot.counts:
        about |= {"names": one.names, "files": one.files, "bytes": one.size}
        about |= {"new": one.new, "changed": one.changed, "gone": one.gone}
    return about


def state_of(snapshot: "SnapshotInfo") -> str:
    if snapshot.is_damaged:
        return "damaged"
    if snapshot.is_held:
        return "held"
    return "complete" if snapshot.is_complete else "incomplete"
