"""What the machine still has to do for others, done before somebody is measured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

TOUCH: Final = """
import mmap, pathlib, sys
pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()
"""
"""A program that takes memory and gives it back. By itself, and the first to go: where less is allowed than is free (in
a container), it is what the kernel ends."""

TOUCH_S: Final = 60.0


def settle(memory: int) -> None:
    """Wait until what was written before is on disk, and have so many bytes of free memory at hand.

    A virtual machine gives memory that is free back to its host, and asks for it page by page when it is needed again.
    That costs whoever writes to a file first some 2 µs for 4 KiB, a third of what SQLite takes for them altogether, and
    spares whoever comes after somebody who has just ended. Memory that was touched a moment ago is there for all.
    """
    os.sync()
    size = min(memory, free_bytes() // 2)  # only what is free: who takes more takes it from the page cache
    if not size:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = [sys.executable, "-I", "-S", "-c", TOUCH, str(size)]
        subprocess.run(command, check=False, timeout=TOUCH_S, start_new_session=True)  # Ctrl-C is the conductor's


def free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that nothing is in (proc(5)); 0 if that can't be told."""
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
