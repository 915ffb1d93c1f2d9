"""The end of a run: what all its sessions have recorded becomes a snapshot."""

import logging
from functools import partial

from xfer import logs
from xfer.errors import Code, Refused
from xfer.logs import Peer
from xfer.sending.giving import tell_at_work
from xfer.storage.contract import Access, Store
from xfer.storage.recording import EndedRun, Snapshot
from xfer.wire.channel import Channel
from xfer.wire.messages import Commit, Done, SnapshotMade
from xfer.wire.messages.snapshots import MAX_LISTED

log = logging.getLogger("xfer.receiver")


def commit(request: Commit, channel: Channel, store: Store, peer: Peer, access: Access) -> None:
    """Make a snapshot of the run, answer, and end the session. Raises Refused, ConnectionLost."""
    if access.adds:
        raise Refused("a key that only adds has no snapshots", code=Code.ACCESS)
    ended = EndedRun(request.run, request.job, request.names, request.complete, request.digest)
    made = store.commit_run(peer.key_id, access, ended, partial(tell_at_work, channel))
    _log(made, request.job, peer)
    channel.send(_answer(made, access))
    channel.send(Done())
    channel.flush()
    channel.drain()


def _answer(made: Snapshot, access: Access) -> SnapshotMade:
    below = f"{access.directory}/" if access.directory else ""
    return SnapshotMade(
        made.stamp,
        made.is_complete,
        made.names,
        made.files,
        made.size,
        made.new,
        made.changed,
        made.gone,
        made.is_held,
        tuple(name.removeprefix(below) for name in made.lost[:MAX_LISTED]),
    )


def _log(made: Snapshot, job: str, peer: Peer) -> None:
    state = "complete" if made.is_complete else "held" if made.is_held else "incomplete"
    log.log(
        logging.INFO if made.is_complete else logging.WARNING,
        "%s: snapshot %s %s, %s: %d names, %d new, %d changed, %d gone",
        peer, job, made.stamp, state, made.names, made.new, made.changed, made.gone,
        extra=logs.about(
            "snapshot", peer, job=job, snapshot=made.stamp, outcome=state, names=made.names,
            files=made.files, bytes=made.size, new=made.new, changed=made.changed, gone=made.gone,
        ),
    )  # fmt: skip
