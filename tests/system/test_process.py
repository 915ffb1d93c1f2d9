"""Settings of a process, each made in one that is started for it."""

import resource
import subprocess
import sys

import pytest


def said(program: str) -> str:
    """What `program` prints, with the settings imported."""
    command = [
        sys.executable,
        "-c",
        f"import gc, resource\nfrom xfer.system.process import *\n{program}",
    ]
    return subprocess.check_output(command, text=True, timeout=20).strip()


def test_no_core_file_is_written_and_none_can_be_asked_for_later() -> None:
    program = "keep_out_of_core_files(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    assert said(program) == "(0, 0)"


def test_as_many_descriptors_as_are_allowed_may_be_open() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = f"""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
allow_many_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert said(program) == f"({hard}, {hard})"


def test_the_collector_runs_seldom_and_skips_what_was_there_before() -> None:
    program = "collect_seldom(); print(gc.get_threshold()[0] > 5000, gc.get_freeze_count() > 1000)"
    assert said(program) == "True True"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_threads_allocate_in_few_arenas() -> None:
    """An arena beside the first begins at a multiple of 64 MiB, for which it has addresses."""
    program = """
import re, threading
allocate_in_few_arenas()
all_there = threading.Barrier(32)
def allocate():
    blocks = [bytes(1000) for _ in range(1000)]
    all_there.wait()
threads = [threading.Thread(target=allocate) for _ in range(31)]
for thread in threads:
    thread.start()
allocate()
maps = open("/proc/self/maps").read()
starts = re.findall(r"^([0-9a-f]+)-[0-9a-f]+ rw-p 0+ 00:00 0 *$", maps, re.M)
print(sum(int(start, 16) % 2**26 == 0 for start in starts))
"""
    assert said(program) in "01"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_that_was_freed_is_given_back() -> None:
    program = """
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
kept = []
blocks = []
for number in range(200_000):
    (kept if number % 4000 == 0 else blocks).append(bytes(1000))
del blocks
before = resident()
give_back_memory()
print(before - resident() > 50_000_000)
"""
    assert said(program) == "True"
