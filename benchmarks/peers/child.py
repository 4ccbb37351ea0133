"""A foreign server as child processes: on a free port of loopback, its log in its folder, and a bounded end.

A server may be several processes (PostgreSQL's backends, Erlang's helpers), in sessions and groups of their own choice.
So its family is found by parentage, and held by pidfds: whatever outlives the regular end is killed, and nobody else.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.peer import START_S, STOP_S
from benchmarks.processes import descendants, folder_bytes, raise_file_limit

HOST: Final = "127.0.0.1"

LOOK_S: Final = 0.02
"""Between two looks at a server that is starting."""

KILLED_S: Final = 5.0
"""For the kernel to take back what was killed, a few GB of memory included."""

LOG_LINES: Final = 15
"""Of a server that didn't start, in the error: enough to see why."""


class ServerFailed(Exception):
    """The server didn't start; the text holds its log's end."""


class ChildServer:
    """One or more commands over a folder; what they write goes to `folder/NAME.log`, their data to `folder/data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        self.endpoint = ""
        self._children: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = []

    def run(
        self,
        name: str,
        command: Sequence[str | int | Path],
        *,
        env: Mapping[str, str] | None = None,
        end_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start a command; `end_by` is the signal that its makers name for an orderly end.

        The thread that calls this must outlive the server.
        """
        raise_file_limit()  # for a thousand clients and queues; children inherit it
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                [*_ended_with_us(end_by), *(str(word) for word in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is the benchmark's: it stops the server in order
            )
        self._children.append((name, process, end_by))

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` says so.

        Raises ServerFailed, with everything stopped, if a command ends or time is up.
        """
        deadline = time.monotonic() + START_S
        pause = threading.Event()
        while not ready():
            ended = [name for name, process, _ in self._children if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                self.stop()
                why = f"{ended[0]} ended" if ended else f"not ready in {START_S:.0f} s"
                raise ServerFailed(f"{why}\n{self._log_ends()}")
            pause.wait(LOOK_S)

    def log_has(self, name: str, text: str) -> bool:
        """Whether a command has written this."""
        return text in self._log(name).read_text("utf-8", "replace")

    def pids(self) -> dict[str, int]:
        """By name, all that run now; of a name that several have, the later ones are numbered."""
        found: dict[str, int] = {}
        for _, process, _ in self._children:
            for pid in (process.pid, *descendants(process.pid)):
                with contextlib.suppress(OSError):  # it ended meanwhile
                    found[_numbered(_title(pid), found)] = pid
        return found

    def data_bytes(self) -> int:
        """What its data folder takes."""
        return folder_bytes(self.data)

    def stop(self) -> None:
        """End all, the last started first; what is left after STOP_S is killed."""
        while self._children:
            _, process, end_by = self._children.pop()
            with contextlib.ExitStack() as stack:
                handles = [_hold(pid, stack) for pid in (process.pid, *descendants(process.pid))]
                process.send_signal(end_by)
                _await_ends(handles, STOP_S)
                for handle in filter(None, handles):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                _await_ends(handles, KILLED_S)
                process.wait(KILLED_S)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _log_ends(self) -> str:
        texts = [log.read_text("utf-8", "replace") for log in sorted(self.folder.glob("*.log"))]
        return "\n".join("\n".join(text.splitlines()[-LOG_LINES:]) for text in texts)


# --- commands and ports -----------------------------------------------------------------------------------


def find(program: str, *folders: str | Path) -> str | None:
    """Where a program is: in one of the folders, on the PATH, or in Debian's places for servers."""
    places = [str(folder) for folder in folders] + [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which(program, path=os.pathsep.join(places))


def _ended_with_us(end_by: signal.Signals) -> list[str]:
    """What before a command makes the kernel end it with the thread that starts it, were that one killed (prctl(2))."""
    setpriv = find("setpriv")
    return [setpriv, "--pdeathsig", end_by.name.removeprefix("SIG"), "--"] if setpriv else []


def output(*command: str | Path) -> str:
    """What a command that asks for a version prints."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=START_S).stdout.strip()


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


# --- processes --------------------------------------------------------------------------------------------


def _title(pid: int) -> str:
    """What a process calls itself: PostgreSQL's say what they are for ("postgres: checkpointer")."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").strip("\0 ")
    if words.startswith("postgres: "):
        return "postgres: backend" if HOST in words else words
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _numbered(name: str, taken: Mapping[str, int]) -> str:
    """A name that isn't taken: "backend", "backend 2"."""
    names = (name if number == 1 else f"{name} {number}" for number in range(1, len(taken) + 2))
    return next(one for one in names if one not in taken)


def _hold(pid: int, stack: contextlib.ExitStack) -> int | None:
    """A pidfd: it can't come to mean another process. None if this one has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, handle)
    return handle


def _await_ends(handles: Sequence[int | None], seconds: float) -> None:
    """Return when all have ended (a pidfd is readable then), or when time is up."""
    deadline = time.monotonic() + seconds
    running = select.poll()
    left = 0
    for handle in filter(None, handles):
        running.register(handle, select.POLLIN)
        left += 1
    while left and (rest := deadline - time.monotonic()) > 0:
        for handle, _ in running.poll(rest * 1000):
            running.unregister(handle)
            left -= 1
