"""`--connections N`: the same tree, the same receipts and the same errors as with one."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import xfer
from tests.support.processes import (
    MIB,
    SECRET,
    Finished,
    Site,
    assert_failed,
    environment,
    finish,
    receiving,
    start,
    unprivileged,
    wait_until,
)
from tests.support.proxy import Proxy, link

FOUR = ["--connections", "4"]


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """All that is kept of everything below `root`, and of itself."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        times = None if path.is_symlink() else (status.st_mode, status.st_mtime_ns)
        found[str(path.relative_to(root))] = (times, content)
    return found


def age(root: Path) -> None:
    """Times that no directory would have if something was stored in it afterwards."""
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        if not path.is_symlink():
            os.utime(path, ns=(0, 1_000_000_000_000_000_000 + number))
    os.utime(root, (0, 1_000_000_000))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A thousand small files, a few large ones, links, depth, and what cannot be written to."""
    root = tmp_path / tmp_path.name
    deep = root.joinpath("deep", *map(str, range(12)))
    for directory in (deep, root / "many", root / "empty" / "too", root / "read-only" / "inside"):
        directory.mkdir(parents=True)
    for number in range(1000):
        (root / "many" / str(number)).write_bytes(b"%d" % number)
    for number, size in enumerate((7, 5, 3, 2, 2, 1)):
        (root / "deep" / f"large-{number}").write_bytes(os.urandom(size * MIB))
    for level in [deep, *deep.parents[:12]]:
        (level / "file").write_bytes(os.urandom(3000))
    for name in ("read-only/a", "read-only/inside/b"):
        (root / name).write_bytes(b"kept")
    (root / "link").symlink_to("many/1")
    age(root)
    for name in ("read-only/inside", "read-only"):
        (root / name).chmod(0o555)
    return root


def assert_complete(done: Finished, tree: Path, site: Site, outcome: str = "stored") -> None:
    """Everything is there, and was told once."""
    *records, summary = done.records
    names = [record["file_name"] for record in records]
    expected = [tree.name, *(f"{tree.name}/{path.relative_to(tree)}" for path in tree.rglob("*"))]
    assert (done.code, sorted(names)) == (0, sorted(expected)), done.err
    files = [record for record in records if record["type"] == "file"]
    if outcome:
        assert {record["outcome"] for record in files} == {outcome}
    assert (summary["files"], summary["failed"]) == (len(files), 0)
    assert described(site.stored(tree)) == described(tree)
    assert site.versions(tree) == []
    assert "Traceback" not in done.err + site.log.text


def test_a_tree_is_the_same_and_a_second_time_nothing_of_it_travels(nas: Site, tree: Path) -> None:
    with Proxy(nas.port) as proxy:
        site = proxy.leading_to(nas)
        assert_complete(site.send("--json", *FOUR, tree), tree, nas)
        assert proxy.connections == 4
    with Proxy(nas.port) as proxy:
        site = proxy.leading_to(nas)
        assert_complete(site.send("--json", *FOUR, tree), tree, nas, "unchanged")
        assert proxy.up < 300_000


def test_read_only_directories_are_filled_again_without_privileges(
    tmp_path: Path, tree: Path
) -> None:
    with receiving(tmp_path, prefix=unprivileged()) as site:
        assert_complete(site.send("--json", *FOUR, tree), tree, site)
        (tree / "read-only").chmod(0o755)
        for number in range(200):
            (tree / "read-only" / str(number)).write_bytes(os.urandom(20_000))
        os.utime(tree / "read-only", (0, 1_100_000_000))
        (tree / "read-only").chmod(0o555)
        assert_complete(site.send("--json", *FOUR, tree), tree, site, "")


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_connection_that_is_cut_costs_no_file(nas: Site, tree: Path, cut: int) -> None:
    links = [link("up", reset_at=MIB) if number == cut else link("up") for number in range(4)]
    with Proxy(nas.port, links) as proxy:
        site = proxy.leading_to(nas)
        done = site.send("--json", "--retry-for", "20", *FOUR, tree)
    assert_complete(done, tree, nas, "")


def test_connections_that_cannot_open_are_done_without(nas: Site, tree: Path) -> None:
    links = [link("up"), *(link("up", reset_at=100) for _ in range(3))]
    with Proxy(nas.port, links) as proxy:
        done = proxy.leading_to(nas).send("--json", *FOUR, tree)
    assert_complete(done, tree, nas)
    assert "trying again" not in done.err


def test_a_receiver_with_places_for_two_gets_everything_over_two(
    tmp_path: Path, tree: Path
) -> None:
    with receiving(tmp_path, "--max-connections", "2") as site:
        done = site.send("--json", *FOUR, tree)
        assert_complete(done, tree, site)
        assert site.log.text.count("too many senders") == 2
        assert "trying again" not in done.err


def test_a_wrong_secret_is_told_once(nas: Site, tree: Path) -> None:
    with Proxy(nas.port) as proxy:
        wrong = "xfer-key-" + 43 * "B"
        done = proxy.leading_to(nas).send("--retry-for", "20", *FOUR, tree, secret=wrong)
        assert proxy.connections == 1
    assert_failed(done, 3, "secret")
    assert (done.err.count("\n"), done.out) == (1, "")


def test_a_receiver_that_is_killed_gets_the_rest_after_its_return(
    tmp_path: Path, tree: Path
) -> None:
    slow = [link("up", rate=4 * MIB) for _ in range(4)]
    with receiving(tmp_path) as site, Proxy(site.port, slow) as proxy:
        process = proxy.leading_to(site).start_send("--json", "--retry-for", "20", *FOUR, tree)
        with ThreadPoolExecutor(1) as reading:
            finished = reading.submit(finish, process)
            site.log.wait_for("large-2: .* stored")
            site.process.kill()
            site.process.wait()
            with receiving(tmp_path, "--port", str(site.port)) as restarted:
                done = finished.result()
            assert_complete(done, tree, restarted, "")


def test_standard_input_goes_over_one_of_them(nas: Site, tree: Path) -> None:
    content = os.urandom(5 * MIB)
    name = f"{tree.name}.stream"
    done = nas.send("--json", *FOUR, tree, "-", "--name", name, stdin=content)
    assert nas.stored(name).read_bytes() == content
    assert done.code == 0
    assert described(nas.stored(tree)) == described(tree)


def test_a_silent_connection_is_not_given_up_while_another_is_at_work(
    tmp_path: Path, tree: Path
) -> None:
    """The first is done at once, and waits for longer than the deadline."""
    links = [link("up"), *(link("up", rate=2 * MIB) for _ in range(3))]
    with receiving(tmp_path, "--timeout", "1.5") as site, Proxy(site.port, links) as proxy:
        done = proxy.leading_to(site).send("--json", "--timeout", "1.5", *FOUR, tree)
        assert_complete(done, tree, site)


def test_ctrl_c_ends_all_of_them(nas: Site, tree: Path) -> None:
    with Proxy(nas.port, [link("up", rate=MIB) for _ in range(4)]) as proxy:
        process = proxy.leading_to(nas).start_send("--json", *FOUR, tree)
        wait_until(lambda: proxy.connections == 4 and proxy.up > MIB)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        done = finish(process)
    assert_failed(done, 130, "interrupted")
    assert time.monotonic() - began < 5


def test_a_file_that_cannot_be_sent_is_told_once_and_the_rest_goes(nas: Site, tree: Path) -> None:
    (tree / "new\nline").touch()
    done = nas.send("--json", "--retry-for", "20", *FOUR, tree)
    names = [record.get("file_name") for record in done.records]
    assert (done.code, names.count(f"{tree.name}/new\nline")) == (7, 1)
    assert len(set(names)) == len(names) == 1 + len(described(tree))


def test_a_large_tree_that_is_there_already_is_found_unchanged(nas: Site, tmp_path: Path) -> None:
    tree = tmp_path / tmp_path.name
    tree.mkdir()
    for number in range(3000):
        (tree / str(number)).touch()
    for outcome in ("stored", "unchanged"):
        receipts = xfer.send([str(tree)], nas.host, secret=SECRET, retry_for=0, connections=2)
        assert [receipt.outcome for receipt in receipts] == 3001 * [outcome]


def test_many_connections_and_a_wide_tree_get_by_with_few_descriptors(
    nas: Site, tmp_path: Path
) -> None:
    wide = tmp_path / tmp_path.name
    for number in range(1500):
        (wide / f"d{number}").mkdir(parents=True)
        (wide / f"d{number}" / "file").write_bytes(b"%d" % number)
    command = nas.command("--json", "--connections", "16", wide)
    prefix = ["prlimit", "--nofile=256:256"]
    done = finish(start(command, environment(nas.home), prefix=prefix))
    assert_complete(done, wide, nas)


def test_the_library_takes_connections_too(nas: Site, tree: Path) -> None:
    before = threading.active_count()
    receipts = xfer.send([str(tree)], nas.host, secret=SECRET, connections=4)
    names = [receipt.name for receipt in receipts]
    assert len(set(names)) == len(names) == len(described(tree))
    wait_until(lambda: threading.active_count() == before)
    with pytest.raises(xfer.UsageError):
        xfer.send([str(tree)], nas.host, secret=SECRET, connections=65)


def test_a_small_job_opens_one_connection(nas: Site, document: Path) -> None:
    with Proxy(nas.port) as proxy:
        assert proxy.leading_to(nas).send(*FOUR, document).code == 0
        assert proxy.connections == 1
