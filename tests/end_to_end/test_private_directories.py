"""Nobody but the receiver enters a new directory before its mode is known, however a send ends."""

from pathlib import Path

from tests.support.local_stores import mode
from tests.support.processes import HandSender, receiving
from xfer.wire.messages import Receipt


def test_a_private_directory_is_open_to_nobody_while_it_fills_and_after_an_interruption(
    tmp_path: Path,
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "f").write_bytes(b"data")
    with receiving(tmp_path / "site") as site:
        with HandSender(site) as sender:
            sender.file("private/f", b"data")
            sender.channel.expect(Receipt)
            while_it_fills = mode(site.stored("private")) & 0o077
        site.log.wait_for("connection|ended|gone")
        after_an_interruption = mode(site.stored("private")) & 0o077
        assert site.send(private).code == 0
        assert (while_it_fills, after_an_interruption) == (0, 0)
        assert mode(site.stored("private")) == 0o700


def test_a_sender_that_knows_no_directories_leaves_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    default = 0o777 & ~_umask()
    with receiving(tmp_path / "site") as site:
        with HandSender(site) as sender:
            sender.file("a/b/f", b"data")
            sender.answers()
        assert site.send("-", "--name", "c/d/f", stdin=b"data").code == 0
        for name in ("a", "a/b", "c", "c/d"):
            assert mode(site.directory / name) == default


def _umask() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask"))
