"""A script that sends by `chat send --batch -`, its lines with `once`: whatever ends it, it is run again with the same
lines, until it exits 0, or 3 with the refusals that were to be.

The lines are fed a few at a time, so that a batch lasts seconds and is killed in its midst. What the command printed is
kept, run by run.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from msgspec import Struct, field

from benchmarks.local_server import chat
from restante.profiles import show_token
from restante.wire.ids import once_id
from tests.torture.people import NOBODY

LINES: Final = 400
FED_AT_ONCE: Final = 12
"""Lines a turn of the torturer: about 250 a second."""

STILL_OPEN: Final = (5,)
"""Exits after which the same command is to be repeated: what has become of some lines is not known."""

Start = Callable[..., "subprocess.Popen[bytes]"]


class BatchLine(Struct, frozen=True):
    """One line of a batch."""

    id: bytes
    to: list[str]
    body: str
    once: str

    @property
    def json(self) -> bytes:
        return json.dumps({"to": self.to, "body": self.body, "once": self.once}).encode() + b"\n"


class Run(Struct):
    """One run of the command."""

    batch: int
    lines: list[BatchLine]
    out: Path
    at: float
    code: int | None = None


class Batcher(Struct):
    """One account's batches, one after the other."""

    name: str
    account: int
    token: bytes
    address: str
    folder: Path
    readers: list[str]
    seed: int
    env: dict[str, str]
    start: Start
    runs: list[Run] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    complaints: list[str] = field(default_factory=list)
    _fed: int = 0

    def turn(self, now: float, *, quiet: bool) -> bool:
        """Feed what runs, bury what has ended, begin what is next. False once there is nothing more to do."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                self._feed()
                return True
            self._ended(code)
        if self.runs and not self._settled(self.runs[-1]):
            self._begin(self.runs[-1].batch, self.runs[-1].lines, now)
            return True
        if quiet:
            return False
        batch = self.runs[-1].batch + 1 if self.runs else 0
        self._begin(batch, self._lines(batch), now)
        return True

    def _lines(self, batch: int) -> list[BatchLine]:
        dice = Random(self.seed * 1_000 + batch)
        lines = []
        for n in range(batch * LINES, (batch + 1) * LINES):
            to = dice.sample(self.readers, dice.randrange(1, len(self.readers) + 1))
            if dice.random() < 0.003:
                to.append(NOBODY)
            once = f"{self.name}-{n}"
            body = f"{self.name} {n} {'.' * dice.randrange(40)}"
            lines.append(BatchLine(once_id(self.account, once), to, body, once))
        return lines

    def _begin(self, batch: int, lines: list[BatchLine], now: float) -> None:
        out = self.folder / f"{self.name}.{len(self.runs)}.out"
        self.runs.append(Run(batch, lines, out, now))
        self.process = self.start(
            self.name,
            chat("--json", "--timeout", "60", "send", "--batch", "-"),
            stdin=subprocess.PIPE,
            stdout=out,
            env={**self.env, "CHAT_ADDRESS": self.address, "CHAT_TOKEN": show_token(self.token)},
        )
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self._fed = 0

    def _feed(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        if self.process.stdin.closed:
            return
        lines = self.runs[-1].lines
        part = lines[self._fed : self._fed + FED_AT_ONCE]
        data = b"".join(line.json for line in part)
        try:
            # A pipe takes what is at most PIPE_BUF whole or not at all.
            assert len(data) <= 4096, "a turn's lines must fit"
            if data:
                os.write(self.process.stdin.fileno(), data)
            self._fed += len(part)
        except BlockingIOError:
            return  # it is stopped, or waits for the server
        except BrokenPipeError:
            self._fed = len(lines)  # it has died, which the next turn sees
        if self._fed >= len(lines):
            self.process.stdin.close()

    def _ended(self, code: int) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process = None
        run = self.runs[-1]
        run.code = code
        if code not in (0, 3, *STILL_OPEN) and code >= 0:
            self.complaints.append(f"`chat send --batch` exited {code} in run {len(self.runs) - 1}; its log says more")

    def _settled(self, run: Run) -> bool:
        """Whether no line of a batch needs to be given again."""
        if run.code == 0 or (self.complaints and run.code is not None and run.code >= 0 and run.code not in (3, 5)):
            return True
        return run.code == 3 and all(told.get("error") in (None, "unknown_recipient") for told in told_in(run))


def told_in(run: Run) -> list[dict[str, object]]:
    """What a run printed, whole lines only."""
    if not run.out.exists():
        return []
    return [json.loads(line) for line in run.out.read_bytes().split(b"\n")[:-1]]
