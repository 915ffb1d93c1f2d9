"""Runs and the snapshots that they become, as sessions see them (`recording`), below DIR/.xfer."""

from collections.abc import Sequence

from xfer.errors import Code, Refused
from xfer.storage.contract import IfExists
from xfer.storage.reading import Beat
from xfer.storage.recording import Confirmed, EndedRun, Run, Snapshot
from xfer.storage.snapshots import stamps
from xfer.storage.snapshots.commit import Request, commit
from xfer.storage.snapshots.draft import Rules
from xfer.storage.snapshots.lines import DirectoryLine, FileLine, NameLine, SymlinkLine
from xfer.storage.snapshots.making import Backing
from xfer.storage.snapshots.runs import Recorder, RunHeader, open_run


class LocalRecorder:
    """Records for one session of the sender `owner`, in the open directory `state`.

    Names are the sender's own on the way in; in a run, `below` comes in front of them.
    Used by the session's thread.
    """

    def __init__(self, state: int, owner: str, below: str) -> None:
        self._state = state
        self._owner = owner
        self._below = below
        self._recorder: Recorder | None = None

    def begin(self, run: Run, if_exists: IfExists | None) -> None:
        if if_exists is None:
            raise Refused("a key that only adds has no snapshots", code=Code.ACCESS)
        if if_exists is IfExists.REPLACE:
            raise Refused(
                "a receiver that replaces older content for good has no snapshots: they need "
                "--if-exists version",
                code=Code.USAGE,
            )
        self.close()
        described = RunHeader(
            job=run.job,
            directory=self._below.rstrip("/"),
            host=run.host,
            roots=run.roots,
            excludes=run.excludes,
            began=stamps.now(),
        )
        self._recorder = open_run(self._state, self._owner, run.run, described)

    def record(self, confirmed: Sequence[Confirmed]) -> None:
        if self._recorder and confirmed:
            stamp = stamps.now()
            self._recorder.record([self._line(one, stamp) for one in confirmed])

    def close(self) -> None:
        if self._recorder:
            self._recorder.close()
            self._recorder = None

    def _line(self, one: Confirmed, stamp: str) -> NameLine:
        name = self._below + one.name
        if one.kind == "directory":
            return DirectoryLine(name=name, mtime_ns=one.mtime_ns, mode=one.mode, confirmed=stamp)
        if one.kind == "symlink":
            return SymlinkLine(name=name, target=one.target, confirmed=stamp)
        return FileLine(
            name=name,
            size=one.size,
            mtime_ns=one.mtime_ns,
            mode=one.mode,
            md5=one.digest if one.algorithm == "md5" else None,
            blake3=one.digest if one.algorithm == "blake3" else None,
            confirmed=stamp,
            inode=one.inode,
        )


def commit_run(
    backing: Backing, owner: str, ended: EndedRun, beat: Beat, *, gone_to_versions: bool
) -> Snapshot:
    """Make a run of `owner` a snapshot (`contract.Store.commit_run`)."""
    request = Request(
        key_id=owner,
        job=ended.job,
        run=ended.run,
        names=ended.names,
        rules=Rules(complete=ended.is_complete, gone_to_versions=gone_to_versions),
        algorithm=ended.algorithm,
    )
    made = commit(backing, request, beat)
    footer = made.footer
    return Snapshot(
        made.stamp,
        footer.complete,
        footer.held,
        footer.names,
        footer.files,
        footer.bytes,
        footer.new,
        footer.changed,
        footer.gone,
        [failed.name for failed in made.failures],
    )
