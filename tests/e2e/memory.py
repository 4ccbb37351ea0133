"""What processes hold in memory, and what a service's log says that it counted (Linux: read from /proc)."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def rss_mib(pid: int) -> float:
    """The resident memory of a process."""
    return int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * PAGE / 2**20


def counted(log: str) -> Counter[str]:
    """The sum of all that a broker reported in its log as refused or thrown away."""
    found: Counter[str] = Counter()
    for line in log.splitlines():
        if "refused or thrown away" in line:
            found.update({name: count for name, count in json.loads(line).items() if isinstance(count, int)})
    return found
