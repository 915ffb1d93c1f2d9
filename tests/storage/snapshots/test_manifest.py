"""A manifest: what was written is read; what was cut, changed or forged is told."""

import gzip
import json
import shutil
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.snapshots.making import (
    HEADER,
    MD5,
    STAMP,
    a_directory,
    a_file,
    a_link,
    footer_of,
    in_order,
    manifest_of,
    opened,
    text_of,
)
from xfer import names
from xfer.storage.snapshots.errors import DamagedManifest
from xfer.storage.snapshots.lines import FailedLine, Line, encode, sort_key

TEXT = st.text("ab.- ä漢🙂\udcff\udc80", min_size=1, max_size=8)
NAMES = st.lists(TEXT, min_size=1, max_size=4).map("/".join)
LINES = st.one_of(
    st.builds(a_file, NAMES, size=st.integers(0, 2**63 - 1), inode=st.integers(0, 2**64 - 1)),
    st.builds(a_directory, NAMES),
    st.builds(a_link, NAMES, TEXT),
    st.builds(lambda name: FailedLine(name=name, why="gone"), NAMES),
).filter(lambda line: names.is_safe(line.name))

SOME: list[Line] = [
    a_directory("docs"),
    a_file("docs/a.txt", inode=7),
    a_file("docs/a.txt.old", blake3="0" * 64, md5=None),
    a_link("docs/link"),
    a_file("docs-of-old"),
]


def all_of(content: bytes) -> list[Line]:
    """Header, lines and footer, read whole."""
    with opened(content) as manifest:
        manifest.header()
        lines = list(manifest)
        manifest.footer()
        return lines


def damage(content: bytes) -> str:
    with pytest.raises(DamagedManifest) as caught:
        all_of(content)
    assert caught.value.message.startswith("file is damaged: ")
    return caught.value.reason


@given(st.lists(LINES, max_size=30).map(in_order))
def test_what_was_written_is_read_whatever_the_names(lines: list[Line]) -> None:
    content = manifest_of(lines)
    assert all_of(content) == lines
    with opened(content) as manifest:
        assert manifest.header() == HEADER
        assert manifest.footer() == footer_of(lines)


def test_any_tool_for_gzip_and_json_reads_it(tmp_path: Path) -> None:
    lines = in_order([*SOME, a_file("docs/\udcff")])
    file = tmp_path / "manifest.jsonl.gz"
    file.write_bytes(manifest_of(lines))
    zcat = shutil.which("zcat")
    text = (
        subprocess.run([zcat, file], check=True, capture_output=True).stdout
        if zcat
        else gzip.decompress(file.read_bytes())
    )
    header, *read, footer = map(json.loads, text.splitlines())
    assert [header["type"], footer["type"]] == ["header", "footer"]
    assert [line["name"] for line in read] == [line.name for line in lines]
    assert read[1] == {
        "type": "file",
        "name": "docs/a.txt",
        "size": 12,
        "mtime_ns": 10**18,
        "mode": 0o644,
        "md5": MD5,
        "confirmed": STAMP,
        "inode": 7,
    }
    assert (footer["names"], footer["gone"], footer["held"]) == (len(lines), 0, False)


def test_what_is_in_a_directory_comes_right_after_it() -> None:
    some = ["a-b", "ab", "a/b.c", "a", "a/b/c", "a.b", "a/b"]
    assert sorted(some, key=sort_key) == ["a", "a/b", "a/b/c", "a/b.c", "a-b", "a.b", "ab"]


def test_a_manifest_that_was_unpacked_and_packed_by_hand_is_read_as_well() -> None:
    packed = gzip.compress(gzip.decompress(manifest_of(SOME)))
    with opened(packed) as manifest:
        assert list(manifest) == SOME
        assert manifest.footer() == footer_of(SOME)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_manifest_cut_at_any_byte_is_told(stride: int) -> None:
    content = manifest_of(SOME)
    for end in [*range(0, len(content), stride), len(content) - 1]:
        assert damage(content[:end])


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_byte_that_changed_is_told_or_changes_nothing(stride: int) -> None:
    """gzip has bytes that mean nothing: a time, a system. The checksums cover the rest."""
    content = manifest_of(SOME)
    told = 0
    for at in range(0, len(content), stride):
        changed = bytearray(content)
        changed[at] ^= 0x20
        try:
            assert all_of(bytes(changed)) == SOME
        except DamagedManifest:
            told += 1
    assert told > len(content) / stride * 0.7


HEAD, *BODY, FOOT = text_of(manifest_of(SOME))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        pytest.param([], "it is empty", id="nothing"),
        pytest.param([*BODY, FOOT], "no JSON, or not what", id="no header"),
        pytest.param([HEAD, *BODY], "there is no footer", id="no footer"),
        pytest.param([HEAD, *BODY[1:], FOOT], "not those that the footer counts", id="one less"),
        pytest.param(
            [HEAD, *BODY, encode([a_file("z")]), FOOT], "the footer counts", id="one more"
        ),
        pytest.param([HEAD, BODY[1], BODY[0], *BODY[2:], FOOT], "out of order", id="order"),
        pytest.param([HEAD, BODY[0], *BODY, FOOT], "one is there twice", id="twice"),
        pytest.param([HEAD, HEAD, *BODY, FOOT], "second header", id="second header"),
        pytest.param([HEAD, *BODY, FOOT, FOOT], "after the footer", id="second footer"),
        pytest.param([HEAD, *BODY, FOOT, BODY[0]], "after the footer", id="after the footer"),
        pytest.param([HEAD, b"{}\n", FOOT], "no JSON, or not what", id="empty object"),
        pytest.param([HEAD, b"[" * 90_000 + b"\n", FOOT], "no JSON, or not what", id="deep"),
        pytest.param([HEAD, b"\xff\n", FOOT], "no JSON, or not what", id="no text"),
        pytest.param(
            [HEAD, encode([a_file("a", md5=None)]), FOOT], "not one digest", id="no digest"
        ),
        pytest.param(
            [HEAD, encode([a_file("a", blake3="0" * 64)]), FOOT], "not one digest", id="two"
        ),
        pytest.param(
            [HEAD, BODY[1].replace(b'"size":12', b'"size":-1'), FOOT], "not what", id="size"
        ),
        pytest.param([HEAD.replace(b'"format":1', b'"format":2'), FOOT], "not what", id="format"),
        *[
            pytest.param([HEAD, encode([a_file(name)]), FOOT], "name is not safe", id=repr(name))
            for name in ("", "/etc/passwd", "a/../b", ".xfer/lock", "a\nb", "a//b", "\udcc3\udca4")
        ],
        pytest.param([HEAD, encode([a_link("a", "x\0")]), FOOT], "unsafe target", id="target"),
    ],
)
def test_lines_that_could_not_be_there_are_told(lines: list[bytes], reason: str) -> None:
    assert reason in damage(gzip.compress(b"".join(lines)))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"plain text\n", b"\0" * 100])
def test_what_is_no_gzip_is_told(content: bytes) -> None:
    assert damage(content)


def test_a_line_without_an_end_is_told_before_it_takes_memory() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = b"".join(bomb.compress(b" " * 2**20) for _ in range(64)) + bomb.flush()
    assert len(content) < 2**17
    tracemalloc.start()
    try:
        assert damage(content) == "a line is longer than any can be"
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_header_and_footer_are_read_without_what_is_between_them() -> None:
    content = bytearray(manifest_of([a_file(f"{n:05}", size=n) for n in range(20_000)]))
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(100)
    with opened(bytes(content)) as manifest:
        assert manifest.header() == HEADER
        assert manifest.footer().files == 20_000
        with pytest.raises(DamagedManifest):
            list(manifest)
