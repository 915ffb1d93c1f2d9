"""The report of a send: what is printed for each result, the summary, and the exit code."""

import json
import math
import re

import pytest

from xfer.cli.output.report import Report
from xfer.errors import AuthenticationError, ConnectionLost, LocalError, Refused, XferError
from xfer.sending.observer import Result
from xfer.source.tree import Kind

FILE = Result("a", Kind.FILE, 3, "md5", "0", "stored")
DIRECTORY = Result("d", Kind.DIRECTORY, outcome="stored")
UNREADABLE = Result("u", Kind.FILE, error=LocalError("u is a FIFO"))
REFUSED = Result("r", Kind.FILE, error=Refused("no", code="exists"))
LOST = Result("l", Kind.FILE, error=ConnectionLost("gone"), with_session=True)

Printed = pytest.CaptureFixture[str]


def report(*, as_json: bool = False, quiet: bool = False, about: str = "") -> Report:
    extra = {"key_id": about} if about else {}
    return Report(bar=None, as_json=as_json, quiet=quiet, about=extra)


@pytest.mark.parametrize(
    ("results", "ended_by", "code"),
    [
        ([FILE, DIRECTORY], None, 0),
        ([], None, 0),
        ([UNREADABLE], None, 1),
        ([REFUSED, REFUSED], None, 6),
        ([REFUSED, UNREADABLE], None, 7),
        ([FILE, REFUSED], None, 7),
        ([FILE, LOST], ConnectionLost("gone"), 4),
        ([FILE], AuthenticationError("wrong"), 3),
    ],
)
def test_the_exit_code_says_whether_all_some_or_nothing_went(
    results: list[Result], ended_by: XferError | None, code: int
) -> None:
    told = report(quiet=True)
    for result in results:
        told.finished(result)
    assert told.finish(ended_by, "nas:9337") == code


def test_why_a_session_ended_is_said_once(capsys: Printed) -> None:
    told = report()
    for _ in range(3):
        told.finished(LOST)
    told.finished(UNREADABLE)
    told.finish(ConnectionLost("gone"), "nas:9337")
    assert capsys.readouterr().err == (
        "xfer: u: u is a FIFO\nxfer: gone\n4 files: 4 failed; nothing stored at nas:9337 in 0.0 s\n"
    )


def test_json_has_a_line_for_each_result_and_the_summary_last(capsys: Printed) -> None:
    told = report(as_json=True, about="laptop")
    for result in (FILE, LOST):
        told.finished(result)
    told.finish(None, "nas:9337")
    file, lost, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert file == {
        "type": "file", "file_name": "a", "outcome": "stored", "file_size": 3, "md5": "0",
        "key_id": "laptop",
    }  # fmt: skip
    assert (lost["outcome"], lost["code"], lost["retryable"]) == ("failed", "lost", True)
    assert (summary["files"], summary["failed"], summary["exit_code"]) == (1, 1, 7)


def test_one_failure_that_may_go_well_is_worth_another_try_whatever_else_failed(
    capsys: Printed,
) -> None:
    told = report(as_json=True, quiet=True)
    busy = Refused("no room", code="no_space", retryable=True)
    for error in (Refused("taken", code="exists"), busy):
        told.finished(Result("r", Kind.FILE, error=error))
    assert told.finish(None, "nas:9337") == 6
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["retryable"] is True


def test_a_pause_is_said_unless_quiet(capsys: Printed) -> None:
    for quiet, said in ((False, "xfer: gone; trying again in 1.5 s, until "), (True, "")):
        report(quiet=quiet).pausing(ConnectionLost("gone"), 1.5, 60.0)
        assert re.sub(r"[\d:]{8}\n", "", capsys.readouterr().err) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, r"until \d\d:\d\d:\d\d"), (2e5, r"until \d{4}-\d\d-\d\d [\d:]{8}"),
     (math.inf, "until it is stopped"), (1e300, "until it is stopped")],
)  # fmt: skip
def test_a_pause_says_until_when_it_is_tried(capsys: Printed, seconds: float, said: str) -> None:
    report().pausing(ConnectionLost("gone"), 1.5, seconds)
    assert re.fullmatch(rf"xfer: gone; trying again in 1.5 s, {said}\n", capsys.readouterr().err)


def test_names_that_another_machine_wrote_last_are_counted(capsys: Printed) -> None:
    others = [Result(n, Kind.FILE, outcome="versioned", previous_host="lap\x1btop") for n in "ab"]
    for as_json in (False, True):
        told = report(as_json=as_json)
        for result in (FILE, *others):
            told.finished(result)
        assert told.finish(None, "nas:9337") == 0
    printed = capsys.readouterr()
    assert "; 2 last written by another machine, lap\\x1btop; " in printed.err
    *_, one, summary = map(json.loads, printed.out.splitlines())
    assert one["previous_host"] == "lap\x1btop"
    assert summary["previous_hosts"] == {"lap\x1btop": 2}
