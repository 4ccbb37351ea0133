"""Processes seen from outside, and ended for certain."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.local_server import ROOT

STUBBORN = """
import subprocess, sys
from benchmarks import processes
inner = "trap '' TERM; echo ready; while :; do read x; done"
outer = f"sh -c \\"{inner}\\" & echo ready; wait"
child = subprocess.Popen(["sh", "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
for _ in range(2):
    child.stdout.readline()
found = processes.descendants(__import__("os").getpid())
processes.end_descendants(0.3)
print(len(found), *(pid for pid in found if processes._runs(pid)))
"""


def test_descendants_end_also_those_that_do_not_want_to() -> None:
    script = [sys.executable, "-c", STUBBORN]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.split() == ["2"], done.stdout + done.stderr


def test_a_command_that_fails_or_has_no_end_has_no_time(tmp_path: Path) -> None:
    env = dict(os.environ)
    assert processes.took_s(["true"], env, tmp_path) > 0
    for command, status in ((["sh", "-c", "exit 3"], 3), (["sleep", "60"], -signal.SIGKILL)):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            processes.took_s(command, env, tmp_path, timeout_s=0.2)
        assert caught.value.returncode == status


def test_what_a_process_has_used_is_seen() -> None:
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert processes.cpu_s(os.getpid()) >= 0.04
    assert processes.resident_bytes(os.getpid()) > 1 << 20
    assert "pytest" in " ".join(processes.words_of(os.getpid()))


def test_a_process_that_has_ended_has_nothing() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert processes.cpu_s(child.pid) == 0.0
    assert processes.resident_bytes(child.pid) == 0
    assert processes.words_of(child.pid) == []
    assert child.pid not in processes.children(os.getpid())


def test_a_folder_takes_what_its_files_take_on_disk(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "full").write_bytes(b"x" * 100_000)
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert 100_000 <= processes.folder_bytes(tmp_path) < 1 << 20
