"""One peer's server with the players who speak to it: started, watched, and ended for certain."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from benchmarks.local_server import ROOT, isolated
from benchmarks.peers.peer import MAILBOXES, NotOffered, Peer, Server
from benchmarks.player import Report, Role
from benchmarks.processes import cpu_s, end, resident_bytes

READY_S: Final = 120.0
"""For connections, mailboxes and warm-up: a thousand queues take RabbitMQ some seconds."""

PLAY_S: Final = 240.0
"""For a part, beyond what it is to take: a peer that hangs is given up then, and the next one has its turn."""

END_S: Final = 5.0
LOG_LINES: Final = 12


class Failed(Exception):
    """A server or a player did not do its part; the text says which, and ends with what it had to say."""


class Player:
    """A `benchmarks.player` process."""

    def __init__(self, role: Role, folder: Path) -> None:
        self._what = f"{role.part} ({role.peer})"
        place = Path(tempfile.mkdtemp(prefix=f"player-{role.part}-", dir=folder))
        (place / "role.json").write_bytes(msgspec.json.encode(role))
        self._log = place / "stderr"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.player", str(place / "role.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=isolated(folder),
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is the conductor's
            )
        self._read = b""
        self._report: Report | None = None

    def wait_ready(self) -> None:
        """Until it could begin, or has said that it can't. Raises Failed."""
        line = self._line(READY_S)
        if b'"ready"' not in line:
            self._report = msgspec.json.decode(line, type=Report)

    def begin(self) -> None:
        """Have it begin."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then it has ended, and `report` will say why
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def report(self, seconds: float = 0.0) -> Report:
        """What came of it, which is to take about so many seconds. Raises Failed, NotOffered."""
        if self._report is None:
            self._report = msgspec.json.decode(self._line(seconds + PLAY_S), type=Report)
        if self._report.not_offered:
            raise NotOffered(self._report.not_offered)
        return self._report

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # it closes its connections, and ends
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        end(self._process, END_S)
        self._process.stdout.close()

    def _line(self, timeout_s: float) -> bytes:
        """The next line that it says. Raises Failed if it ends, or says nothing in that time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise Failed(f"{self._what}: nothing came in {timeout_s:.0f} s{_end_of(self._log)}")
                data = os.read(self._process.stdout.fileno(), 1 << 16)
                if not data:
                    raise Failed(f"{self._what} ended{_end_of(self._log)}")
                self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line


class Usage(msgspec.Struct, frozen=True):
    """What the server's processes have used, by name."""

    cpu_s: dict[str, float]
    resident_bytes: dict[str, int]

    def since(self, before: Usage) -> dict[str, float]:
        """CPU seconds of each process after `before`. One that is new has used all that it has since then."""
        return {name: used - before.cpu_s.get(name, 0.0) for name, used in self.cpu_s.items()}


class Stage:
    """A server, and players for it. A context manager: what was started ends with it."""

    def __init__(self, peer: Peer, folder: Path, mailboxes: int = MAILBOXES) -> None:
        self.peer = peer
        self.mailboxes = mailboxes
        self.stored = 0
        """Messages in the mailboxes, as far as is known."""
        self.rate = 0.0
        """Sends a second, once they were measured."""
        self._parent = folder
        self._folder = Path(tempfile.mkdtemp(prefix=f"{peer.key}-", dir=folder))
        self._server: Server | None = None
        self._players: list[Player] = []

    def __enter__(self) -> Self:
        data = self._folder / "server"
        data.mkdir()
        try:
            self._server = self.peer.start(data)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.dismiss()
        finally:
            try:
                if self._server is not None:
                    self._server.stop()
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)

    def another(self) -> Stage:
        """A stage with a server of its own for the same peer, to be entered beside this one."""
        return Stage(self.peer, self._parent, self.mailboxes)

    @property
    def server(self) -> Server:
        assert self._server is not None, "a stage is entered first"
        return self._server

    def role(self, part: str, **fields: object) -> Role:
        """A role at this server."""
        given = {"part": part, "peer": self.peer.key, "endpoint": self.server.endpoint, "mailboxes": self.mailboxes}
        return msgspec.convert(given | fields, Role)

    def call(self, *roles: Role) -> list[Player]:
        """Players for these roles, all of them ready. Raises Failed, NotOffered."""
        players = []
        for role in roles:
            player = Player(role, self._folder)
            self._players.append(player)
            players.append(player)
        for player in players:
            player.wait_ready()
        return players

    def play(self, *roles: Role, seconds: float = 0.0, before: Callable[[], None] | None = None) -> list[Report]:
        """Have these roles played at the same time; their reports. The players stay until `dismiss`.

        `before` is called when all are ready. Raises Failed, NotOffered.
        """
        players = self.call(*roles)
        if before is not None:
            before()
        for player in players:
            player.begin()
        return [player.report(seconds) for player in players]

    def alone(self, role: Role, seconds: float = 0.0) -> Report:
        """Have one role played, and end its player. Raises Failed, NotOffered."""
        try:
            return self.play(role, seconds=seconds)[0]
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """End all players."""
        players, self._players = self._players, []
        for player in players:
            player.close()

    def usage(self) -> Usage:
        """What the server's processes have used until now."""
        pids = self.server.pids()
        return Usage(
            {name: cpu_s(pid) for name, pid in pids.items()},
            {name: resident_bytes(pid) for name, pid in pids.items()},
        )


def _end_of(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def rates(reports: Sequence[Report]) -> float:
    """Messages a second of several who did the same at the same time: all, by the time from first to last."""
    first = min(report.began for report in reports)
    last = max(report.began + report.seconds for report in reports)
    return sum(report.count for report in reports) / (last - first)
