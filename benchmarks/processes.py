"""Processes from outside: their CPU time and memory, their folders, and an end for each that is certain."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
LOOK_S: Final = 0.05


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its threads have taken, to a hundredth; 0 if there is none."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S if fields else 0.0


def resident_bytes(pid: int) -> int:
    """What a process holds in memory; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    return [child for child in _all() if (fields := _stat(child)) and int(fields[1]) == pid]


def descendants(pid: int) -> list[int]:
    """The same, and theirs."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def words_of(pid: int) -> list[str]:
    """The command line of a process; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def folder_bytes(folder: Path) -> int:
    """What the files below a folder take on disk: blocks, not lengths, for some allocate ahead and some are sparse."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it was removed meanwhile
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - os.walk gives strings
    return total


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raise_file_limit() -> int:
    """Allow this process and what it starts as many descriptors as it may have; their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft


def took_s(command: Sequence[str], env: Mapping[str, str], folder: Path, timeout_s: float = 60.0) -> float:
    """Seconds that a command takes from nothing to its end. Raises CalledProcessError if it fails, or has no end.

    Not by `run(timeout=…)`: that looks at times up to 50 ms apart, and everything takes 63.5, 113.5 or 163.5 ms.
    """
    began = time.monotonic()
    with subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL) as process:
        killer = threading.Timer(timeout_s, process.kill)
        killer.start()
        try:
            status = process.wait()
            seconds = time.monotonic() - began
        finally:
            killer.cancel()
    if status:
        raise subprocess.CalledProcessError(status, command)
    return seconds


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Stop a process that leads a session of its own, and whatever it has started: asked first, then killed."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout_s)


def end_descendants(timeout_s: float) -> None:
    """Stop all that this process and what it started have started: asked first, then killed."""
    left = descendants(os.getpid())
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + timeout_s
        while (left := [pid for pid in left if _runs(pid)]) and time.monotonic() < deadline:
            threading.Event().wait(LOOK_S)


def _runs(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _all() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - a thousand names, often


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, … (proc(5)); none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
