"""Memory that is at hand before something is measured."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import quiet


def test_what_is_free_is_read_and_nothing_where_it_cannot_be(tmp_path: Path) -> None:
    said = tmp_path / "meminfo"
    assert quiet.free_bytes(said) == 0
    said.write_text("MemTotal:  100 kB\nMemFree:          12 kB\n")
    assert quiet.free_bytes(said) == 12 << 10
    said.write_text("MemTotal:  100 kB\n")
    assert quiet.free_bytes(said) == 0
    assert quiet.free_bytes() > 0


def test_the_memory_is_really_taken() -> None:
    command = [sys.executable, "-I", "-S", "-c", quiet.TOUCH, str(64 << 20)]
    subprocess.run(command, check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >= 64 << 10


def test_who_is_killed_for_taking_it_is_not_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = f"import os, pathlib; pathlib.Path({str(ran)!r}).touch(); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(quiet, "TOUCH", program)
    quiet.settle(1 << 20)
    assert ran.exists()
