"""A video-sized file over a line that breaks ten times: one command, and every byte once."""

import filecmp
import random
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.processes import MIB, finish, receiving
from tests.support.proxy import Proxy, link

FILE_BYTES = 4 * 1024 * MIB
CUTS = 10
PATIENCE_SECONDS = 1500


@pytest.mark.exhaustive
@pytest.mark.timeout(PATIENCE_SECONDS + 60)
def test_four_gibibytes_arrive_over_ten_cuts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = random.Random(faults.SEED)
    file = tmp_path / "video.bin"
    with file.open("wb") as opened:
        for _ in range(FILE_BYTES // MIB):
            opened.write(some.randbytes(MIB))
    cuts = [link("up", reset_at=some.randrange(FILE_BYTES // (CUTS + 1))) for _ in range(CUTS)]
    with receiving(tmp_path / "far") as site, Proxy(site.port, cuts) as proxy:
        sending = proxy.leading_to(site).start_send("--json", "--retry-for", "60", file)
        done = finish(sending, patience=PATIENCE_SECONDS)
        assert done.code == 0, done
        assert filecmp.cmp(file, site.stored(file), shallow=False)
    surplus = proxy.up - FILE_BYTES
    faults.say(
        capsys,
        f"{proxy.connections - 1} cuts, {proxy.up} bytes up for {FILE_BYTES}: "
        f"{surplus / MIB:.1f} MiB more than the file",
    )
    assert proxy.connections == CUTS + 1
    assert surplus <= CUTS * MIB + FILE_BYTES // 100  # TLS adds 22 bytes to each 16 KiB
