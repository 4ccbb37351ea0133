"""A real server for a test: `chat serve` in the test's own folder, whose services can be killed one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.local_server import ROOT, LocalServer, chat

SERVICES: Final = {"broker": "broker", "auth": "auth_service", "store": "store_worker"}
"""A service's name here, and the module that its process runs."""

WAIT_S: Final = 15.0


def wait_for(condition: Callable[[], bool], what: str, *, wait_s: float = WAIT_S) -> None:
    """Return when the condition holds. Fails with what was waited for."""
    deadline = time.monotonic() + wait_s
    between_looks = threading.Event()  # never set: what is waited for is another process's doing
    while not condition():
        assert time.monotonic() < deadline, f"not within {wait_s:g} s: {what}"
        between_looks.wait(0.01)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about (a zombie) does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_in(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Python so that all it leaves lies in a folder."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "HOME": str(folder)},
        cwd=ROOT,
    )


def processes_of(folder: Path) -> list[str]:
    """The command lines of living processes that name a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and lives(int(process.name)):
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended, or is another user's
            if str(folder).encode() in words:
                found.append(words.decode("utf-8", "replace"))
    return found


class Server(LocalServer):
    """`start`, `stop`, `address` as a LocalServer; and its processes."""

    def pids(self) -> dict[str, int]:
        """The living services by name (Linux: read from /proc)."""
        found = {}
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and _parent(process) == self.pid:
                words = _words(process)
                module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
                found.update({name: int(process.name) for name, one in SERVICES.items() if one == module})
        return found

    def kill(self, service: str) -> int:
        """Kill a service, or "serve" itself, with SIGKILL; returns the id of the process that it was."""
        pid = self.pid if service == "serve" else self.pids()[service]
        os.kill(pid, signal.SIGKILL)
        if service == "serve":
            self.stop()
        else:
            wait_for(lambda: self.pids().get(service) != pid, f"the {service} of process {pid} is gone")
        return pid

    def restarted(self, service: str, old: int) -> None:
        """Return when the supervisor has started the service again, in another process."""
        wait_for(lambda: self.pids().get(service, old) != old, f"another {service} than process {old}")

    def chat(
        self,
        *arguments: str,
        profile: str = "default",
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 40.0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command as a person of this machine would; a profile is a person."""
        return subprocess.run(
            chat("--profile", profile, *arguments),
            input=stdin,
            capture_output=True,
            env={**self.env, **(env or {})},
            cwd=self.folder,
            timeout=timeout_s,
            check=False,
        )

    def person(self, name: str, password: str = "correct horse") -> str:
        """Register somebody and log them in, with a profile of their name."""
        done = self.chat("register", name, "--password-file", "-", profile=name, stdin=password.encode())
        assert done.returncode == 0, done.stderr.decode()
        return name


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0  # it ended while we looked


def _words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []
