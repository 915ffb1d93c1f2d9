"""What xfer says: receipts as JSON, the summary, the bar on a terminal, help, keys, addresses."""

import contextlib
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import xfer
from tests.support.processes import (
    MIB,
    SECRET,
    Finished,
    Site,
    assert_failed,
    end,
    environment,
    finish,
    receiving,
    run,
    start,
    unprivileged,
    wait_until,
)
from tests.support.proxy import Proxy, link
from tests.support.terminals import terminal

SUMMARY = re.compile(
    r"1 file: 1 stored; 13 B in \d+\.\d s \([\d.]+ [KMG]?i?B/s\), "
    r"verified and on disk at (\S+)\n"
)

# Receipts


def test_json_has_one_line_for_each_thing_and_the_summary_last(nas: Site, tmp_path: Path) -> None:
    (tmp_path / "file\udcff").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    sent = nas.send("--json", tmp_path)
    *things, summary = sent.records
    name = tmp_path.name
    md5 = "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5
    assert things == [
        {
            "type": "file", "file_name": f"{name}/file\udcff", "outcome": "stored",
            "file_size": 3, "md5": md5,
        },
        {"type": "symlink", "file_name": f"{name}/link", "outcome": "stored"},
        {"type": "directory", "file_name": name, "outcome": "stored"},
    ]  # fmt: skip
    assert summary.pop("seconds") > 0
    assert summary == {
        "type": "summary", "files": 1, "bytes": 3, "stored": 1, "versioned": 0,
        "unchanged": 0, "differed": 0, "failed": 0, "skipped": 0, "exit_code": 0,
        "retryable": False,
    }  # fmt: skip
    assert (sent.code, sent.err) == (0, "")


def test_a_send_says_one_line_and_no_bar_where_there_is_no_terminal(
    nas: Site, document: Path
) -> None:
    sent = nas.send(document)
    said = SUMMARY.fullmatch(sent.err)
    assert (sent.code, sent.out) == (0, "")
    assert said
    assert said[1] == nas.host


def test_quiet_says_nothing_but_errors(nas: Site, tmp_path: Path, document: Path) -> None:
    assert nas.send("--quiet", document) == Finished(0, "", "")
    failed = nas.send("-q", tmp_path / "missing", document)
    assert failed == Finished(7, "", f"xfer: missing: {tmp_path / 'missing'} is not there\n")


def test_a_summary_of_failures_alone_claims_nothing_on_disk(nas: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    failed = nas.send(tmp_path / "fifo")
    assert failed.code == 1
    assert "on disk" not in failed.err


def test_receipts_that_cannot_be_written_down_are_no_success(nas: Site, document: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        command = nas.command("--json", document)
        done = finish(start(command, environment(nas.home), stdout=full.fileno()))
    assert_failed(done, 1, "xfer: ")


def test_a_closed_standard_input_is_a_local_problem(nas: Site) -> None:
    closing = ["sh", "-c", 'exec "$@" <&-', "sh"]
    command = nas.command("-", "--name", "closed")
    done = finish(start(command, environment(nas.home), prefix=closing))
    assert_failed(done, 1, "xfer: ")
    assert not nas.stored("closed").exists()


@pytest.mark.parametrize("seconds", ["1e10", "inf"])
def test_a_timeout_without_end_changes_nothing_else(
    nas: Site, document: Path, seconds: str
) -> None:
    done = nas.send("--json", "--timeout", seconds, document)
    assert_failed(done, 0, "")
    assert [record.get("outcome") for record in done.records] == ["stored", None]


def test_a_reader_of_receipts_that_has_seen_enough_is_no_failure(nas: Site, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.txt").touch()
    process = start(nas.command("--json", tmp_path), environment(nas.home))
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert (done.code, done.err) == (0, "")


def test_a_demo_whose_reader_has_seen_enough_is_no_failure(tmp_path: Path, document: Path) -> None:
    process = start(["demo", document], environment(tmp_path, None))
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert (done.code, done.err) == (0, "")


EARLY = {
    "no secret": (["file", "127.0.0.1:1"], 1),
    "nothing there": (["missing", "127.0.0.1:1"], 1),
    "no host": (["file", "127.0.0.1:99999"], 2),
    "a size that is none": (["--bwlimit", "lots", "file", "127.0.0.1:1"], 2),
    "one name twice": (["file", "./file", "127.0.0.1:1"], 2),
    "a key id too long": (["--key-id", 256 * "k", "file", "127.0.0.1:1"], 2),
    "nobody listens": (["file", "127.0.0.1:1"], 4),
    "an unknown host": (["file", "host.invalid"], 4),
}


@pytest.mark.parametrize(("words", "code"), EARLY.values(), ids=EARLY.keys())
def test_json_has_its_summary_whatever_happens(
    tmp_path: Path, request: pytest.FixtureRequest, words: list[str], code: int
) -> None:
    (tmp_path / "file").touch()
    secret = None if "no secret" in request.node.name else SECRET
    process = start(["send", "--json", *words], environment(tmp_path, secret), cwd=tmp_path)
    done = finish(process)
    assert_failed(done, code, "xfer: ")
    (summary,) = done.records
    assert (summary["type"], summary["exit_code"]) == ("summary", code)
    assert summary["retryable"] is (code == 4)
    assert summary["message"] in done.err


def test_a_wrong_secret_has_its_summary_too(nas: Site, document: Path) -> None:
    done = nas.send("--json", document, secret="another secret, long enough")
    assert [(one["exit_code"], one["retryable"]) for one in done.records] == [(3, False)]


def test_a_link_that_is_named_is_said_to_be_sent_as_one(nas: Site, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/inside").symlink_to("nowhere")
    (tmp_path / "latest").symlink_to("tree")
    said = nas.send(f"{tmp_path}/latest/", tmp_path / "tree").err.splitlines()
    (line,) = [line for line in said if "symbolic link" in line]
    assert line == "xfer: latest is a symbolic link, and was sent as one: it was not followed"
    assert "symbolic" not in nas.send("--quiet", tmp_path / "latest").err


# A terminal


def screen(written: str) -> list[str]:
    """The lines that are left of `written` once every carriage return is obeyed."""
    lines = []
    for line in written.split("\n"):
        shown = ""
        for text in line.split("\r"):
            shown = text + shown[len(text) :]
        lines.append(shown.rstrip())
    return [line for line in lines if line]


def test_a_bar_shows_the_file_and_then_leaves_only_the_summary(
    nas: Site, tmp_path: Path, document: Path
) -> None:
    with terminal() as (tty, seen):
        command = nas.command("-", "--name", tmp_path.name)
        process = start(command, environment(nas.home), stderr=tty)
        assert process.stdin
        for _ in range(4):
            process.stdin.write(bytes(MIB))
            process.stdin.flush()
            time.sleep(0.15)
        assert finish(process).code == 0
        os.write(tty, b"$ \n")  # the shell's prompt, as whatever stands before it is seen then
    assert re.search(rf"\r[\d.]+ MiB  .*/s  0:00  {tmp_path.name} *\r", seen.text)
    assert [line[:15] for line in screen(seen.text)] == ["1 file: 1 store", "$"]


def test_a_bar_knows_how_much_there_is(nas: Site, document: Path) -> None:
    with terminal() as (tty, seen):
        assert finish(start(nas.command(document), environment(nas.home), stderr=tty)).code == 0
        os.write(tty, b"$ \n")
    assert re.search(r"\r  0% +0 of 13 B  0 of 1 file *\r", seen.text)
    assert [line[:13] for line in screen(seen.text)] == ["1 file: 1 sto", "$"]


def test_a_quiet_send_draws_no_bar(nas: Site, document: Path) -> None:
    with terminal() as (tty, seen):
        command = nas.command("--quiet", document)
        assert finish(start(command, environment(nas.home), stderr=tty)).code == 0
    assert seen.text == ""


def test_a_resumed_file_says_where_it_goes_on_and_shows_no_phantom_rate(
    nas: Site, tmp_path: Path, document: Path
) -> None:
    """14 MiB that were there already are no speed: what is sent now is slowed down to 1 MiB/s."""
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(16 * MIB))
    with Proxy(nas.port, [link("up", cut_at=14 * MIB)]) as proxy:
        proxy.leading_to(nas).send(large)
    with terminal() as (tty, seen):
        command = nas.command("--bwlimit", "1M", large)
        assert finish(start(command, environment(nas.home), stderr=tty)).code == 0
    assert re.search(r"xfer: large.bin: resumed at 1\d\.\d MiB\r\n", seen.text)
    rates = re.findall(r"([\d.]+) ([KM])iB/s  \d:\d\d left", seen.text)
    assert rates
    assert all(float(rate) < 4 for rate, unit in rates if unit == "M")
    assert re.search(r"; [\d.]+ MiB of 16.0 MiB in ", seen.text)


def test_ctrl_c_says_that_the_same_command_continues(nas: Site, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(16 * MIB))
    ended = _interrupted(nas, nas.command("--bwlimit", "1M", "--json", large))
    assert_failed(ended, 130, "is not stored; the same command continues")
    summary = ended.records[-1]
    assert (summary["type"], summary["exit_code"], summary["retryable"]) == ("summary", 130, True)


def test_what_is_terminated_says_so_like_ctrl_c(nas: Site, tmp_path: Path) -> None:
    command = nas.command("--json", "-", "--name", "stream")
    ended = _interrupted(nas, command, signal.SIGTERM)
    assert_failed(ended, 130, "what has no receipt is not stored\n")
    assert ended.records[-1]["exit_code"] == 130


def _handles_sigterm(process: int) -> bool:
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{process}/status").read_text(), re.M)
    assert found
    return bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


def _interrupted(nas: Site, command: list[str | Path], number: int = signal.SIGINT) -> Finished:
    process = start(command, environment(nas.home))
    if "--bwlimit" in command:
        wait_until(nas.partials)
    else:
        wait_until(lambda: _handles_sigterm(process.pid))  # right before it connects
    process.send_signal(number)
    return finish(process)


# Secrets


@pytest.mark.parametrize("where", [[], ["elsewhere/secret"]])
def test_keygen_makes_a_private_file_and_never_overwrites_it(
    tmp_path: Path, where: list[str]
) -> None:
    file = tmp_path / (where[0] if where else "config/xfer/secret")
    arguments = ["keygen", *(str(tmp_path / name) for name in where)]
    made = run(tmp_path, *arguments, secret=None)
    assert (made.code, made.out, str(file) in made.err) == (0, "", True)
    secret = file.read_text()
    assert re.fullmatch(r"xfer-key-[\w-]{43}\n", secret)
    assert secret.strip() not in made.err
    assert stat.filemode(file.stat().st_mode) == "-rw-------"
    again = run(tmp_path, *arguments, secret=None)
    assert (again.code, f"{file} exists and is not overwritten" in again.err) == (1, True)
    assert file.read_text() == secret


def test_a_secret_file_serves_both_sides(tmp_path: Path, document: Path) -> None:
    assert run(tmp_path, "keygen", secret=None).code == 0
    with receiving(tmp_path, secret=None) as site:
        assert site.send(document, secret=None).code == 0
        file = str(tmp_path / "config" / "xfer" / "secret")
        assert (
            site.send("--secret-file", file, document, secret="ignored: a file is named").code == 0
        )


def test_a_first_receive_makes_a_secret_and_keeps_it_out_of_logs(
    tmp_path: Path, document: Path
) -> None:
    with receiving(tmp_path, secret=None) as site:
        assert site.send(document, secret=None).code == 0
    file = tmp_path / "config" / "xfer" / "secret"
    assert f"there was no secret yet: a new one is in {file}" in site.log.text
    assert "copy that file to" in site.log.text
    assert file.read_text().strip() not in site.log.text


def test_what_a_first_receive_tells_a_person_to_type_works(tmp_path: Path, document: Path) -> None:
    other = tmp_path / "other machine"
    other.mkdir()
    with terminal() as (tty, seen):
        command = ["receive", "--dir", str(tmp_path), "--bind", "127.0.0.1", "--port", "0"]
        process = start(command, environment(tmp_path, None), stderr=tty)
        try:
            seen.wait_for("xfer send FILE")
            shown = seen.wait_for(r"once: xfer (.*), and paste there\r\n +(xfer-key-\S+)\r\n")
            home = {"HOME": str(other), "PATH": os.environ["PATH"]}
            pasted = start(shown[1].split(), home)
            assert finish(pasted, f"{shown[2]}\n".encode()).code == 0
            advice = seen.wait_for(r"other machine: xfer (send FILE) (\S+:\d+)")
            sent = finish(start(["send", document, advice[2]], home))
        finally:
            end(process)
            finish(process)
    assert sent.code == 0, sent
    file = other / ".config" / "xfer" / "secret"
    assert stat.filemode(file.stat().st_mode) == "-rw-------"


def test_an_imported_secret_is_asked_for_without_an_echo(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    theirs, tty = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "xfer", "keygen", "--import", file],
        env=environment(tmp_path, None), stdin=tty, stderr=tty, start_new_session=True,
    )  # fmt: skip
    os.close(tty)
    seen = b""
    while b"which is not shown: " not in seen:  # what is typed before that would be shown
        seen += os.read(theirs, 1024)
    time.sleep(0.2)
    os.write(theirs, f"{SECRET}\n".encode())
    assert process.wait(20) == 0
    with contextlib.suppress(OSError):  # the terminal ends with its last process
        seen += os.read(theirs, 1024)
    os.close(theirs)
    assert file.read_text() == f"{SECRET}\n"
    assert stat.filemode(file.stat().st_mode) == "-rw-------"
    assert SECRET.encode() not in seen


def test_an_imported_secret_is_never_written_over_another_and_is_no_weak_one(
    tmp_path: Path,
) -> None:
    short = run(tmp_path, "keygen", "--import", secret=None, stdin=b"short\n")
    nothing = run(tmp_path, "keygen", "--import", secret=None)
    file = tmp_path / "config" / "xfer" / "secret"
    assert (short.code, nothing.code, file.exists()) == (1, 1, False)
    imported = run(tmp_path, "keygen", "--import", secret=None, stdin=SECRET.encode())
    assert (imported.code, file.read_text()) == (0, f"{SECRET}\n")
    again = run(tmp_path, "keygen", "--import", secret=None, stdin=b"another, long enough\n")
    assert_failed(again, 1, "exists and is not overwritten")
    assert file.read_text() == f"{SECRET}\n"
    of_a_key = run(tmp_path, "keygen", "--import", "--id", "a", "--keys", "keys", secret=None)
    assert_failed(of_a_key, 2, "leave out --id and --keys")


def test_keygen_says_how_the_other_machine_and_one_more_client_get_theirs(tmp_path: Path) -> None:
    said = run(tmp_path, "keygen", secret=None).err
    assert "on the other machine, once: xfer keygen --import" in said
    assert "for one more client, with a secret of its own: xfer keygen --id NAME --keys" in said
    keys = tmp_path / "keys"
    added = run(tmp_path, "keygen", "--id", "alice", "--keys", keys, secret=None).err
    assert "and there: xfer send --key-id alice FILE HOST" in added
    assert f"here: xfer receive --dir DIR --keys {keys}, which reads it again" in added


# Help and demo


def test_the_version_is_the_packages_own(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").out == f"xfer {xfer.__version__}\n"


@pytest.mark.parametrize(
    ("columns", "commands"),
    [(40, ["", "keygen", "demo"]), (100, ["", "keygen", "demo", "send", "receive", "get"])],
)
def test_help_fits_the_terminal_and_no_sentence_is_cut_off(
    tmp_path: Path, columns: int, commands: list[str]
) -> None:
    env = environment(tmp_path) | {"COLUMNS": str(columns)}
    for command in commands:
        words = [command] if command else []
        shown = finish(start([*words, "--help"], env)).out
        usage, _, rest = shown.partition("\n\n")
        assert [line for line in rest.splitlines() if len(line) > columns] == [], usage
        assert not re.search(r"(?m)\.\.\.$", rest)


def test_short_options_show_help_and_version(tmp_path: Path) -> None:
    assert run(tmp_path, "-V").out == f"xfer {xfer.__version__}\n"
    for words in ([], ["send"], ["receive"], ["keygen"], ["demo"]):
        shown = run(tmp_path, *words, "-h")
        assert (shown.code, shown.out) == (0, run(tmp_path, *words, "--help").out)


@pytest.mark.parametrize("command", ["keygen", "receive", "send", "demo"])
def test_each_help_has_an_example(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command, "--help")
    assert done.code == 0
    assert re.search(rf"Example: xfer {command} \S", done.out)


def test_the_console_script_is_the_same_program(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "xfer"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run(tmp_path, "--version").out


@pytest.mark.parametrize("paths", [[], ["tree", "file"]])
def test_a_demo_compares_what_was_stored(tmp_path: Path, paths: list[str]) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "inside").write_bytes(b"abc")
    (tmp_path / "file").write_bytes(b"")
    done = run(tmp_path, "demo", *(tmp_path / path for path in paths), secret=None)
    assert done.code == 0, done
    assert re.search(r"(?m)^(1 file|2 files|\d{2,} files), ", done.out)
    assert "every stored byte is equal to its original." in done.out
    assert ("900150983cd24fb0d6963f7d28e17f72" if paths else "xfer/cli/app.py") in done.out
    assert not (tmp_path / "config").exists()


def test_a_demo_of_what_cannot_be_sent_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = run(tmp_path, "demo", tmp_path / "fifo")
    assert (done.code, "is a FIFO: not sent" in done.err, "equal" in done.out) == (1, True, False)


def test_a_demo_goes_on_without_what_cannot_be_sent_and_says_so(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "fine").write_bytes(b"abc")
    (tree / "bad\n").touch()
    (tree / "secret").touch(mode=0o000)
    os.mkfifo(tree / "fifo")
    prefix = unprivileged()
    done = finish(start(["demo", tree], environment(tmp_path, None), prefix=prefix))
    assert_failed(done, 7, "xfer: 2 of 4 were not sent\n")
    assert f"  skipped    {tree}/fifo is a FIFO\n" in done.out
    assert (
        f"  failed     tree/secret: {tree}/secret cannot be read: Permission denied\n" in done.out
    )
    assert "  failed     tree/bad\\n: unsafe name" in done.out
    assert re.search("  stored     [0-9a-f]{32} +3 B  tree/fine\n", done.out)


def test_a_demo_takes_no_standard_input(tmp_path: Path) -> None:
    refused = run(tmp_path, "demo", "-", secret=None)
    assert_failed(refused, 2, "a demo sends files and directories, not standard input\n")


def test_a_demo_compares_what_is_deeper_than_a_path_may_be(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    directory = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(200 * "d", dir_fd=directory)
        below = os.open(200 * "d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("f", os.O_CREAT, dir_fd=directory))
    os.close(directory)
    done = run(tmp_path, "demo", tree, secret=None)
    subprocess.run(["rm", "-rf", tree], check=True, timeout=20)
    assert done.code == 0, done
    assert done.out.splitlines()[4].startswith("1 file, 0 B: every receipt in hand")


# Addresses and usage


def test_nobody_listening_is_said_as_such(tmp_path: Path, document: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{bound.getsockname()[1]}"
        done = run(tmp_path, "send", "--json", document, host)
    sentence = f"no receiver answers at {host}: is `xfer receive` running there?"
    assert_failed(done, 4, sentence)
    assert done.records[-1]["retryable"] is True


@pytest.mark.parametrize("host", ["host.invalid", "nas..local", 64 * "n", "f:f:f"])
def test_a_host_that_does_not_exist_is_said_as_such(
    tmp_path: Path, document: Path, host: str
) -> None:
    done = run(tmp_path, "send", document, host)
    assert_failed(done, 4, f"xfer: unknown host {host}\n")


@pytest.mark.parametrize("last", ["there.txt", "./there.txt", "no/where"])
def test_a_forgotten_host_is_said_as_such(tmp_path: Path, last: str) -> None:
    for name in ("here.txt", "there.txt"):
        (tmp_path / name).touch()
    process = start(["send", "here.txt", last], environment(tmp_path), cwd=tmp_path)
    assert_failed(finish(process), 2, f"the last argument is the host, and {last} is none")


WRONG_USAGE = {
    "nothing": [],
    "no command": ["sned", "a", "b"],
    "no path": ["send", "host"],
    "port 0": ["send", "file", "host:0"],
    "receive at a port too high": ["receive", "--dir", ".", "--port", "65536"],
    "receive without a directory": ["receive"],
    "name without -": ["send", "--name", "x", "file", "host"],
    "- without a name": ["send", "-", "host"],
    "- with an empty name": ["send", "-", "--name", "", "host"],
    "one name twice": ["send", "a/x", "b/x", "host"],
    "- under a path's name": ["send", "x", "-", "--name", "x", "host"],
    "the root": ["send", "/", "host"],
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE.keys())
def test_wrong_usage_is_code_2_and_explained(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert_failed(done, 2, "")
    assert done.err
    assert done.out == ""


def test_a_rate_is_of_what_travelled_and_nothing_else(nas: Site, document: Path) -> None:
    first, second = nas.send(document), nas.send(document)
    assert re.search(r"13 B in [\d.]+ s \([\d.]+ \w+/s\), verified", first.err), first
    assert re.search(r"unchanged \(.*\); nothing new for \S+ in [\d.]+ s\n", second.err), second
