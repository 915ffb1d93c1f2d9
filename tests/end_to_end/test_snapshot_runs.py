"""A snapshot shows a whole run or nothing of it: whoever fails, is killed, or loses something."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import faults
from tests.support.processes import (
    HandSender,
    Site,
    assert_failed,
    environment,
    finish,
    free_port,
    receiving,
    start,
    unprivileged,
    wait_until,
)
from tests.support.proxy import Link, Proxy, Trouble
from tests.support.snapshots import (
    Client,
    age,
    lines_in,
    made_by,
    manifests,
    runs,
    state_of,
    tree_of,
)
from xfer.storage.local.store import LocalStore
from xfer.wire.messages import Message, Plan, SnapshotMade, Working

PLAINTEXT: Final = ("--access", "read-write", "--insecure-plaintext")
PATIENT: Final = ("--retry-for", "60")
GIB: Final = 1 << 30


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Site]:
    with receiving(tmp_path, *PLAINTEXT) as site:
        yield site
    assert "Traceback" not in site.log.text


@pytest.fixture
def client(nas: Site) -> Client:
    return Client(nas)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tree_of(tmp_path / "source" / "docs", 40, 4, 20_000)


def names_below(root: Path) -> set[str]:
    return {root.name, *(f"{root.name}/{name}" for name in state_of(root))}


def assert_one_whole(site: Site, docs: Path, *, incomplete: int = 0) -> Path:
    """There is one complete snapshot, of all names with their digests; it is given back."""
    every = manifests(site)
    (whole,) = [path for path in every if ".incomplete" not in path.name]
    assert len(every) == 1 + incomplete
    assert {line["name"] for line in lines_in(whole)} == names_below(docs)
    assert runs(site) == []
    return whole


def assert_given_back(client: Client, docs: Path, to: Path, at: str = "now") -> None:
    to.mkdir()
    done = client.get("docs", "--at", at, "--to", to)
    assert done.code == 0, done
    assert state_of(to / "docs") == state_of(docs)


# What fails


def test_a_file_that_cannot_be_read_makes_a_snapshot_that_is_never_chosen(
    client: Client, docs: Path, tmp_path: Path
) -> None:
    """It is kept, and the owner sees it; a get says that there is no good one."""
    (docs / "0/00").chmod(0)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    command = client.site.command("--json", "--snapshot", "nightly", docs)
    done = finish(start(command, environment(tmp_path), prefix=unprivileged()))
    assert (done.code, made_by(done)["complete"]) == (7, False), done
    (manifest,) = manifests(client.site)
    assert manifest.name == f"{made_by(done)['snapshot']}.incomplete.jsonl.gz"
    assert {line["name"] for line in lines_in(manifest)} == names_below(docs) - {"docs/0/00"}
    client.site.log.wait_for("snapshot nightly .*, incomplete: 46 names")
    assert_failed(client.get("docs", "--at", "now", "--to", tmp_path), 6, "no complete snapshot")
    (docs / "0/00").chmod(0o644)
    client.snapshot(docs)
    assert_one_whole(client.site, docs, incomplete=1)


def test_a_path_that_is_missing_beside_others_makes_an_incomplete_one(
    client: Client, docs: Path
) -> None:
    good = client.snapshot(docs)
    done = client.send("--json", "--snapshot", "nightly", docs, docs / "missing")
    assert (done.code, made_by(done)["complete"], made_by(done)["gone"]) == (7, False, 0), done
    assert [path.name.partition(".jsonl")[0].endswith("incomplete") for path in
            manifests(client.site)] == [False, True]  # fmt: skip
    assert f"nightly {good}" in client.get("docs", "--at", "now", "--to", docs.parent).err


def held_up(client: Client, docs: Path) -> Any:
    """A sender of a snapshot that has stored some of it, and is slow with the rest."""
    command = client.site.command("--snapshot", "nightly", "--bwlimit", "100000", *PATIENT, docs)
    sender = start(command, environment(client.site.home))
    wait_until(lambda: any(path.stat().st_size for run in runs(client.site)
                           for path in run.glob("0*.lines")))  # fmt: skip
    return sender


def test_a_sender_that_is_killed_leaves_no_snapshot_and_the_next_run_gives_its_own_up(
    client: Client, docs: Path, tmp_path: Path
) -> None:
    sender = held_up(client, docs)
    sender.kill()
    finish(sender)
    assert (manifests(client.site), len(runs(client.site))) == ([], 1)
    assert_failed(client.get("docs", "--at", "now", "--to", tmp_path), 6, "no complete snapshot")
    wait_until(lambda: "connection" in client.site.log.text)
    client.snapshot(docs)
    (run,) = runs(client.site)  # its sender might come back
    age(run, 4000)
    client.snapshot(docs)
    wait_until(lambda: not runs(client.site))
    made = manifests(client.site)
    assert [".incomplete" in path.name for path in made] == [False, False, True]
    assert_given_back(client, docs, tmp_path / "out")


def test_a_run_whose_sender_never_comes_back_is_tidied_into_an_incomplete_one(
    tmp_path: Path, docs: Path
) -> None:
    with receiving(tmp_path, *PLAINTEXT) as site:
        sender = held_up(Client(site), docs)
        sender.kill()
        finish(sender)
    (run,) = runs(site)
    with LocalStore(str(site.directory)) as store:
        store.tidy()
        assert runs(site) == [run], "a day has to pass"
        two_days_ago = run.stat().st_mtime - 172_800
        for path in (*run.iterdir(), run):
            os.utime(path, (two_days_ago, two_days_ago))
        store.tidy()
    assert runs(site) == []
    (manifest,) = manifests(site)
    assert ".incomplete" in manifest.name


def restarted(tmp_path: Path, port: int) -> Any:
    return receiving(tmp_path, *PLAINTEXT, "--port", str(port))


def test_a_receiver_that_is_killed_in_the_middle_makes_one_whole_snapshot_when_it_is_back(
    tmp_path: Path, docs: Path
) -> None:
    port = free_port()
    with restarted(tmp_path, port) as site:
        client = Client(site)
        sender = held_up(client, docs)
        site.process.kill()
        site.process.wait()
    with restarted(tmp_path, port) as site:
        done = finish(sender, patience=60)
        assert done.code == 0, done
        assert_one_whole(site, docs)
        assert_given_back(Client(site), docs, tmp_path / "out")


CALLS: Final = ("openat", "fsync/fdatasync", "linkat", "unlinkat", "renameat")


@pytest.mark.parametrize("call", CALLS)
def test_a_receiver_that_is_killed_while_it_commits_has_one_snapshot_in_the_end(
    tmp_path: Path, docs: Path, call: str
) -> None:
    """The sender asks again; at which call, and where in the directory of the job or of the run."""
    faults.require_strace()
    port = free_port()
    with restarted(tmp_path, port) as site:
        Client(site).snapshot(docs)
    (docs / "new").write_bytes(b"new")
    for number in itertools.count(1):
        hit, stamps = killed_at(tmp_path, port, docs, call, number)
        assert len(set(stamps)) == 1, stamps
        if not hit or number == 4:
            break
    assert hit or number > 1


def killed_at(
    tmp_path: Path, port: int, docs: Path, call: str, number: int
) -> tuple[bool, list[str]]:
    """Whether that killed it; the stamp that the sender was told, and those of new snapshots."""
    calls = ",".join(f"?{one}" for one in call.split("/"))
    state = tmp_path / "received/.xfer"
    trace = tmp_path / "trace"
    paths = [state / "snapshots/default/nightly", state / "runs"]
    below = [word for path in paths for word in ("-P", str(path))]
    options = ["-o", str(trace), *below, "-e", f"trace={calls}"]
    command: list[str | Path] = [*PATIENT, "--json", "--snapshot", "nightly", docs]
    with ExitStack() as stack:
        site = stack.enter_context(receiving(tmp_path, *PLAINTEXT, "--port", str(port),
                                             prefix=faults.traceable()))  # fmt: skip
        known = manifests(site)
        effect = f"inject={calls}:signal=KILL:when={number}"
        with faults.attached(site.process, *options, "-e", effect):
            sender = start(site.command(*command), environment(tmp_path))
            wait_until(lambda: site.process.poll() is not None or sender.poll() is not None)
        hit = site.process.poll() is not None
        if hit:
            stack.close()
            site = stack.enter_context(restarted(tmp_path, port))
        done = finish(sender, patience=60)
        assert done.code == 0, done
        new = [path.name.removesuffix(".jsonl.gz") for path in manifests(site) if path not in known]
    assert runs(site) == []
    return hit, [str(made_by(done)["snapshot"]), *new]


# Connections that break


def downs_of_commit(client: Client, docs: Path) -> int:
    """How many bytes the receiver says in the session of a commit where nothing is new."""
    client.snapshot(docs)
    with Proxy(client.site.port) as proxy:
        Client(proxy.leading_to(client.site)).snapshot(docs)
    assert proxy.connections == 2
    return proxy.down_of(1)


@pytest.mark.parametrize("kind", ["cut_at", "reset_at"])
@pytest.mark.parametrize("before_the_end", [300, 200, 150, 20, 19, 18, 1])
def test_a_connection_that_breaks_around_the_answer_leaves_one_snapshot(
    client: Client, docs: Path, kind: str, before_the_end: int
) -> None:
    """Each commit says equally much; its `done` is 19 bytes of it, the `snapshot` some 180."""
    position = downs_of_commit(client, docs) - before_the_end
    known = manifests(client.site)
    trouble = Link(down=Trouble(**{kind: position}))
    with Proxy(client.site.port, [Link(), trouble]) as proxy:
        through = Client(proxy.leading_to(client.site))
        done = through.send(*PATIENT, "--json", "--snapshot", "nightly", docs)
        assert (done.code, proxy.connections) == (0, 3), done
    (made,) = [path for path in manifests(client.site) if path not in known]
    assert made.name == f"{made_by(done)['snapshot']}.jsonl.gz"
    assert runs(client.site) == []


@pytest.mark.parametrize("options", [(), ("--workers", "4")])
def test_several_connections_some_of_which_break_are_one_run(
    tmp_path: Path, docs: Path, options: tuple[str, ...]
) -> None:
    with receiving(tmp_path, *PLAINTEXT, *options) as site:
        links = [Link(down=Trouble(cut_at=1200)), Link(up=Trouble(cut_at=150_000)), Link()]
        with Proxy(site.port, links) as proxy:
            through = Client(proxy.leading_to(site))
            done = through.send(*PATIENT, "--snapshot", "nightly", "--connections", "4", docs)
        assert done.code == 0, done
        assert_one_whole(site, docs)
        assert_given_back(Client(site), docs, tmp_path / "out")


# Lines that are lost, as by a power cut: while the second connection, of the commit, is opened


def session_files(run: Path) -> list[Path]:
    return sorted(run.glob("0*.lines"))


def lose_all(run: Path) -> None:
    shutil.rmtree(run)


def lose_description(run: Path) -> None:
    (run / "run.json").unlink()


def lose_sessions(run: Path) -> None:
    for file in session_files(run):
        file.unlink()


def lose_the_end(run: Path) -> None:
    for file in session_files(run):
        os.truncate(file, file.stat().st_size - 30)


def lose_the_middle(run: Path) -> None:
    """Blocks that were never written read as zeros."""
    for file in session_files(run):
        with file.open("r+b") as opened:
            opened.seek(file.stat().st_size // 2)
            opened.write(bytes(500))


def lose_the_content(run: Path) -> None:
    for file in run.iterdir():
        os.truncate(file, 0)


LOSSES: Final = [
    lose_all, lose_description, lose_sessions, lose_the_end, lose_the_middle, lose_the_content,
]  # fmt: skip


def losing(site: Site, lose: Callable[[Path], None], times: int) -> Iterator[Link]:
    for _ in range(times):
        yield Link()
        (run,) = runs(site)
        lose(run)
        yield Link()


@pytest.mark.parametrize("lose", LOSSES)
def test_what_a_power_cut_takes_of_a_run_is_sent_again(
    client: Client, docs: Path, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    """Most of it is skipped then, and each name is told once."""
    with Proxy(client.site.port, losing(client.site, lose, 1)) as proxy:
        through = Client(proxy.leading_to(client.site))
        done = through.send("--json", "--snapshot", "nightly", docs)
        assert (done.code, proxy.connections) == (0, 4), done
    told = [record["file_name"] for record in done.records[:-1]]
    assert (len(told), set(told)) == (len(names_below(docs)), names_below(docs))
    assert_one_whole(client.site, docs)
    assert_given_back(client, docs, tmp_path / "out")


def test_what_is_lost_twice_is_told_and_makes_no_snapshot(client: Client, docs: Path) -> None:
    with Proxy(client.site.port, losing(client.site, lose_sessions, 2)) as proxy:
        through = Client(proxy.leading_to(client.site))
        done = through.send(*PATIENT, "--json", "--snapshot", "nightly", docs)
    assert_failed(done, 6, "known here any more")
    assert (proxy.connections, manifests(client.site)) == (4, [])
    summary = done.records[-1]
    assert (summary["code"], summary["retryable"], "snapshot" in summary) == (
        "lines_lost", True, False,
    )  # fmt: skip
    client.snapshot(docs)


def test_what_was_read_from_standard_input_cannot_be_sent_again(client: Client, docs: Path) -> None:
    with Proxy(client.site.port, losing(client.site, lose_sessions, 1)) as proxy:
        through = proxy.leading_to(client.site)
        words = ("--snapshot", "nightly", "-", "--name", "stream", docs)
        done = through.send(*words, stdin=b"once")
        assert_failed(done, 6, "standard input cannot be read twice")
    assert manifests(client.site) == []
    again = client.site.send(*words, stdin=b"once")
    assert again.code == 0, again
    (manifest, *_) = manifests(client.site)
    assert {line["name"] for line in lines_in(manifest)} == names_below(docs) | {"stream"}


# Two runs of one job


def test_two_runs_of_a_job_at_once_are_two_whole_snapshots(
    client: Client, docs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "docs"
    shutil.copytree(docs, other, symlinks=True)
    senders = [
        start(client.site.command("--snapshot", "nightly", "--bwlimit", "300000", tree),
              environment(client.site.home))
        for tree in (docs, other)
    ]  # fmt: skip
    for sender in senders:
        done = finish(sender)
        assert done.code == 0, done
    made = manifests(client.site)
    assert [".incomplete" in path.name for path in made] == [False, False]
    for manifest in made:
        assert {line["name"] for line in lines_in(manifest)} == names_below(docs)


def test_a_run_that_was_given_up_while_its_sender_was_away_is_whole_when_it_is_back(
    client: Client, docs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "docs"
    shutil.copytree(docs / "1", other / "1")

    def meanwhile() -> Iterator[Link]:
        yield Link(up=Trouble(cut_at=400_000))
        wait_until(lambda: any(session_files(run) for run in runs(client.site)))
        wait_until(lambda: "connection" in client.site.log.text)
        (run,) = runs(client.site)
        age(run, 4000)
        client.snapshot(other)
        assert runs(client.site) == []
        yield Link()

    with Proxy(client.site.port, meanwhile()) as proxy:
        through = Client(proxy.leading_to(client.site))
        done = through.send(*PATIENT, "--json", "--snapshot", "nightly", docs)
    assert done.code == 0, done
    *_, last = manifests(client.site)
    assert {line["name"] for line in lines_in(last)} == names_below(docs)
    assert last.name == f"{made_by(done)['snapshot']}.jsonl.gz"


# What is skipped is not read again


def bytes_read(site: Site) -> int:
    """By the receiver, from files and sockets, since it was started."""
    found = Path(f"/proc/{site.process.pid}/io").read_text()
    return int(found.split("rchar:")[1].split()[0])


def test_what_is_skipped_takes_its_digest_from_the_snapshot_before(
    client: Client, docs: Path
) -> None:
    """It is read where the one before has none, or is of another inode; then once."""
    size = 64_000_000
    (docs / "large").write_bytes(os.urandom(size))
    assert client.send(docs).code == 0
    costs = [cost(client, docs) for _ in range(3)]
    stored = client.site.directory / "docs/large"
    copy = stored.with_name("copy")
    shutil.copy2(stored, copy)
    os.replace(copy, stored)
    costs += [cost(client, docs) for _ in range(2)]
    assert [round(one / size) for one in costs] == [1, 0, 0, 1, 0], costs
    digests = {
        line["md5"]
        for path in manifests(client.site)
        for line in lines_in(path)
        if line["name"] == "docs/large"
    }
    assert len(digests) == 1


def cost(client: Client, docs: Path) -> int:
    before = bytes_read(client.site)
    client.snapshot(docs)
    return bytes_read(client.site) - before


def test_who_waits_for_a_digest_hears_that_the_receiver_is_at_work(nas: Site) -> None:
    """By hand: a file of 1 GiB that was put there, and that nobody has read yet."""
    big = nas.directory / "big"
    with big.open("wb") as file:
        file.truncate(GIB)
    status = big.stat()
    run: dict[str, object] = {"run": 32 * "a", "job": "nightly"}
    with HandSender(nas) as sender:
        sender.say({"type": "run"} | run)
        offered = {"file_name": "big", "file_size": GIB, "mtime_ns": status.st_mtime_ns}
        sender.say({"type": "offer", "files": [offered]})
        (plan,) = sender.answers()
        assert isinstance(plan, Plan)
        assert plan.files[0].action == "skip"
    with HandSender(nas) as sender:
        sender.say({"type": "commit", "names": 1, "complete": True} | run)
        answers: list[Message] = []
        while not answers or not isinstance(answers[-1], SnapshotMade):
            answers.append(sender.channel.receive())
    assert [type(answer) for answer in answers[:-1]] == [Working] * (len(answers) - 1)
    assert len(answers) > 1
    assert isinstance(answers[-1], SnapshotMade)
    assert (answers[-1].complete, answers[-1].bytes) == (True, GIB)
