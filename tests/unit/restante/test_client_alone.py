"""The benchmark of the client alone still speaks the client's language: it measures nothing else than it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_kind_comes_to_its_end_and_has_a_figure() -> None:
    command = [sys.executable, "-m", "benchmarks.client_alone", "--messages", "2000"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    found = re.findall(r"^(\w+) +[\d.]+ µs a message$", run.stdout, re.MULTILINE)
    assert found == ["send_many", "submit", "asyncio", "inbox"]
