"""Walking what is to be sent: everything that is there is found, and nothing is followed."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sources import file_entry, open_descriptors, read
from tests.support.tools import without, working
from xfer import names
from xfer.errors import Code, LocalError, UsageError
from xfer.source.readers import FileSource
from xfer.source.roots import check
from xfer.source.tree import Entry, Extent, Kind, Special, Unsendable, measure, walk


def found(*paths: Path | str) -> list[tuple[str, str]]:
    """Kind and name of everything found; "unsendable" or "special" for what can't go."""
    return [
        (entry.kind.value if isinstance(entry, Entry) else type(entry).__name__.lower(), entry.name)
        for entry in walk([str(path) for path in paths])
    ]


def error_of(path: Path) -> Unsendable:
    (unsendable,) = walk([str(path)])
    assert isinstance(unsendable, Unsendable)
    return unsendable


# --- what is found


def test_names_are_sorted_and_directories_come_after_what_they_hold(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for directory in ("b/empty", "a", "c.d"):
        (top / directory).mkdir(parents=True)
    for file in ("b/2", "b/10", "c", "B", "c.d/f"):
        (top / file).write_text(file)
    assert found(top) == [
        ("file", "top/B"),
        ("directory", "top/a"),
        ("file", "top/b/10"),
        ("file", "top/b/2"),
        ("directory", "top/b/empty"),
        ("directory", "top/b"),
        ("file", "top/c"),
        ("file", "top/c.d/f"),
        ("directory", "top/c.d"),
        ("directory", "top"),
    ]


def test_measure_counts_files_and_their_bytes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "d/empty").mkdir(parents=True)
    (tmp_path / "d/f").write_bytes(b"12345")
    (tmp_path / "d/g").write_bytes(b"1")
    (tmp_path / "d/link").symlink_to("f")
    os.mkfifo(tmp_path / "d/fifo")
    assert measure([str(tmp_path / "d"), str(tmp_path / "missing")]) == Extent(2, 6)


def test_an_entry_has_the_size_mode_and_time_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    path.chmod(0o4750)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    entry = file_entry(path)
    with FileSource(entry) as source:
        for has in (entry, source):
            assert (has.size, has.mode, has.mtime_ns) == (5, 0o4750, 1_234_567_890_123_456_789)


@pytest.mark.parametrize("target", ["file", "directory", "nowhere", "..", "caf\udce9", "t" * 4000])
def test_symlinks_are_found_as_links_and_never_followed(tmp_path: Path, target: str) -> None:
    top = tmp_path / "top"
    (top / "directory/below").mkdir(parents=True)
    (top / "file").touch()
    (top / "link").symlink_to(target)
    links = [e for e in walk([str(top)]) if isinstance(e, Entry) and e.kind is Kind.SYMLINK]
    assert [(link.name, link.target) for link in links] == [("top/link", target)]
    assert found(top / "link") == [("symlink", "link")]
    assert [name for _, name in found(top)].count("top/link/below") == 0


@pytest.mark.parametrize("name", ["top", "top/", "top/.", "./top//", "d/../top"])
def test_a_path_is_sent_under_its_own_last_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "top/f").touch()
    monkeypatch.chdir(tmp_path)
    assert found(name) == [("file", "top/f"), ("directory", "top")]


@pytest.mark.parametrize(("path", "below"), [(".", "d"), ("..", "d/e"), ("../../d/.", "d/e")])
def test_the_current_directory_goes_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, below: str
) -> None:
    (tmp_path / below).mkdir(parents=True)
    (tmp_path / "d/f").touch()
    monkeypatch.chdir(tmp_path / below)
    assert {("directory", "d"), ("file", "d/f")} <= set(found(path))


def test_names_that_are_not_utf8_are_found_and_read(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(directory)
    with open(directory + b"/caf\xe9", "wb") as opened:
        opened.write(b"data")
    entries = walk([os.fsdecode(directory)])
    file = next(entries)
    assert isinstance(file, Entry)
    assert file.name == "\udcff/caf\udce9"
    assert read(FileSource(file)) == b"data"
    assert [entry.name for entry in entries] == ["\udcff"]


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31m", "del\x7f", "\x85"])
def test_a_name_that_is_not_safe_is_unsendable_and_the_rest_goes(tmp_path: Path, name: str) -> None:
    top = tmp_path / "top"
    (top / name).mkdir(parents=True)
    (top / name / "below").touch()
    (top / "z").touch()
    entries = {entry.name: entry for entry in walk([str(top)])}
    assert set(entries) == {f"top/{name}", "top/z", "top"}
    unsafe = entries[f"top/{name}"]
    assert isinstance(unsafe, Unsendable)
    assert unsafe.error.code == Code.BAD_NAME


def test_the_name_of_the_receivers_own_directory_is_unsendable(tmp_path: Path) -> None:
    (tmp_path / ".xfer/versions").mkdir(parents=True)
    assert error_of(tmp_path / ".xfer").error.code == Code.BAD_NAME


_NAMES = st.text("ab-. é\udce9\udcff", min_size=1, max_size=4).filter(lambda n: n not in ".. ")
_LEAVES = st.binary(max_size=200) | st.sampled_from(["a", "..", "nowhere/x"])
_Tree = dict[str, "_Tree"] | bytes | str
"""A directory, the content of a file, the target of a symbolic link."""
_TREES: st.SearchStrategy[_Tree] = st.recursive(
    _LEAVES, lambda below: st.dictionaries(_NAMES, below, max_size=4), max_leaves=12
)


def _build(tree: _Tree, path: str) -> None:
    if isinstance(tree, dict):
        os.mkdir(path)
        for name, below in tree.items():
            _build(below, f"{path}/{name}")
    elif isinstance(tree, str):
        os.symlink(tree, path)
    else:
        Path(path).write_bytes(tree)


def _as_os_walk_finds_it(top: str) -> dict[str, _Tree]:
    paths = [top]
    for directory, directories, files in os.walk(top):
        paths += [os.path.join(directory, name) for name in directories + files]
    if os.path.islink(top):
        paths = [top]
    return {os.path.relpath(path, os.path.dirname(top)): _leaf(path) for path in paths}


def _leaf(path: str) -> _Tree:
    if os.path.islink(path):
        return os.readlink(path)
    return {} if os.path.isdir(path) else Path(path).read_bytes()


def _as_walk_finds_it(top: str) -> Iterator[tuple[str, _Tree]]:
    for entry in walk([top]):
        assert isinstance(entry, Entry)
        match entry.kind:
            case Kind.FILE:
                yield entry.name, read(FileSource(entry))
            case Kind.SYMLINK:
                yield entry.name, entry.target
            case _:
                yield entry.name, {}


@settings(max_examples=20, deadline=None)
@given(_TREES)
def test_walk_finds_exactly_what_is_there(tree: _Tree) -> None:
    with TemporaryDirectory() as directory:
        top = os.path.join(directory, "top")
        _build(tree, top)
        before = open_descriptors()
        walked = list(_as_walk_finds_it(top))
        assert open_descriptors() == before
        assert dict(walked) == _as_os_walk_finds_it(top)
        order = [name for name, _ in walked]
        assert len(order) == len(set(order))
        _require_order(order)


def _require_order(order: list[str]) -> None:
    """Siblings by name, a directory after all that is below it."""
    for number, name in enumerate(order):
        parent = os.path.dirname(name)
        assert parent not in order[:number]
        siblings = [other for other in order[:number] if os.path.dirname(other) == parent]
        assert all(other < name for other in siblings)


# --- what cannot be sent


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))  # a whole path may be too long for it


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a FIFO"), (_make_socket, "a socket")])
def test_what_is_no_plain_file_is_left_out_of_a_tree_and_an_error_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    top = tmp_path / "top"
    top.mkdir()
    make(top / "special")
    (top / "z").touch()
    assert found(top) == [("special", "top/special"), ("file", "top/z"), ("directory", "top")]
    left_out = next(walk([str(top)]))
    assert isinstance(left_out, Special)
    assert left_out.reason == f"{top}/special is {kind}: skipped"
    assert kind in str(error_of(top / "special").error)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_unsendable(device: str) -> None:
    assert "a device" in str(error_of(Path(device)).error)


def test_what_cannot_be_sent_is_not_even_opened(tmp_path: Path) -> None:
    """To open a FIFO, a tape or a socket can change something, or wait for ever."""
    top = tmp_path / "top"
    top.mkdir()
    os.mkfifo(top / "special")
    trace = tmp_path / "trace"
    calls = "trace=?open,openat"
    assert (
        "special top/special"
        in _in_a_process(top, working("strace", "-f", "-o", str(trace), "-e", calls))[0]
    )
    assert str(top) in trace.read_text()
    assert "special" not in trace.read_text()


LIST = """
import sys
from xfer.errors import LocalError
from xfer.source.readers import FileSource
from xfer.source.tree import Entry, Kind, Special, walk
for entry in walk(sys.argv[1:]):
    if isinstance(entry, Special):
        print("special", entry.name)
    elif not isinstance(entry, Entry):
        print("unsendable", entry.name, type(entry.error).__name__)
    elif entry.kind is Kind.FILE:
        try:
            FileSource(entry)
        except LocalError:
            print("unreadable", entry.name)
        else:
            print("file", entry.name)
    else:
        print(entry.kind.value, entry.name)
"""


def _in_a_process(path: Path, prefix: list[str]) -> list[str]:
    command = [*prefix, sys.executable, "-c", LIST, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_may_not_be_read_is_told_and_the_rest_goes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for directory, mode in (("closed", 0o000), ("listed", 0o444), ("open", 0o755)):
        (top / directory).mkdir(parents=True)
        (top / directory / "f").touch()
        (top / directory).chmod(mode)
    (top / "secret").touch(mode=0o000)
    told = _in_a_process(top, without("dac_override", "dac_read_search"))
    for directory in ("closed", "listed"):
        (top / directory).chmod(0o755)
    assert told == [
        "unsendable top/closed LocalError",
        "unsendable top/listed/f LocalError",
        "directory top/listed",
        "file top/open/f",
        "directory top/open",
        "unreadable top/secret",
        "directory top",
    ]


@pytest.mark.parametrize("path", ["missing", "missing/", "file/below", "missing/x"])
def test_a_path_that_is_not_there_is_unsendable_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "other").touch()
    assert found(path, "other") == [
        ("unsendable", os.path.basename(path.rstrip("/"))),
        ("file", "other"),
    ]


def test_check_fails_only_when_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    missing = [str(tmp_path / "1"), str(tmp_path / "2")]
    with pytest.raises(LocalError, match="no such file"):
        check(missing)
    check([*missing, str(tmp_path / "dangling")])
    check([*missing, "-"], "stream")


@pytest.mark.parametrize(
    ("paths", "stream_name"),
    [
        (["a", "b/a"], None),
        (["a", "a"], None),
        (["a", "./a/"], None),
        (["a", "-"], "a"),
        (["-", "-"], "a"),
        (["-"], None),
        (["-"], ""),
        (["a"], "name"),
        (["/"], None),
        (["//"], None),
    ],
)
def test_paths_that_have_no_name_of_their_own_are_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], stream_name: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(UsageError):
        check(paths, stream_name)
    with pytest.raises(UsageError):
        list(walk(paths, stream_name))


def test_nothing_at_all_to_send_is_told_and_no_crash() -> None:
    with pytest.raises((UsageError, LocalError)):
        check([])


# --- depth and descriptors


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Callable[[str, int], Path]]:
    """Makes directories in one another, deeper than a path can say; a file in the last."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this process may not have 4,096 files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    top = tmp_path / "deep"

    def build(component: str, levels: int) -> Path:
        top.mkdir()
        directory = os.open(top, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir(component, dir_fd=directory)
            below = os.open(component, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        os.close(os.open("f", os.O_CREAT, dir_fd=directory))
        os.close(directory)
        return top

    yield build
    subprocess.run(["rm", "-rf", str(top)], check=True, timeout=20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tree_of_1500_levels_is_walked_and_read(deep: Callable[[str, int], Path]) -> None:
    top, before = deep("d", 1500), open_descriptors()
    entries = walk([str(top)])
    file = next(entries)
    assert isinstance(file, Entry)
    assert file.name == "deep" + "/d" * 1500 + "/f"
    assert read(FileSource(file)) == b""
    del file  # an entry keeps its directory open
    assert [entry.name.count("/") for entry in entries] == list(range(1500, -1, -1))
    assert open_descriptors() == before


def test_a_tree_deeper_than_a_name_may_be_is_told_and_the_rest_goes(
    deep: Callable[[str, int], Path],
) -> None:
    top = deep("d" * 255, 17)
    too_deep, *rest = walk([str(top)])
    assert isinstance(too_deep, Unsendable)
    assert too_deep.error.code == Code.BAD_NAME
    assert len(names.to_bytes(too_deep.name)) > names.MAX_NAME
    assert [entry.name.count("/") for entry in rest] == list(range(15, -1, -1))


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_a_walk_that_is_given_up_leaks_no_descriptor(tmp_path: Path, steps: int) -> None:
    for directory in ("top/a/b/c", "top/x/y"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "f").touch()
    before = open_descriptors()
    entries = walk([str(tmp_path / "top")])
    for _ in range(steps):
        next(entries)
    del entries
    assert open_descriptors() == before


# --- standard input


def test_standard_input_is_an_entry_under_the_name_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    entries = list(walk(["-", str(tmp_path / "f")], "d/stream"))
    assert [(e.kind, e.name) for e in entries if isinstance(e, Entry)] == [
        (Kind.STREAM, "d/stream"),
        (Kind.FILE, "f"),
    ]
