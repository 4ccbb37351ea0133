"""Restante and what would be used instead, side by side, on this machine.

    python -m benchmarks.bench [--quick] [--only send,latency] [--peers redis,rabbitmq] [--rounds N] [--out DIR]

In each round every peer in turn is started, asked, and ended; rounds go through the peers in turn, so that what else
the machine does falls on all of them. A peer that isn't installed is said and left out; one that fails is said, and the
others go on. Ctrl-C ends what runs and still writes what was found. `results.json`, `results.md` and a plot a question
go into the folder. Nothing outside it is written, and no process is left.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from benchmarks import goals, plots, questions, quiet, results, tables
from benchmarks import peers as all_peers
from benchmarks.peers.peer import STOP_S, NotOffered, Peer
from benchmarks.processes import end_descendants, raise_file_limit
from benchmarks.questions.question import FULL, QUICK, Question, Sample, Sizes
from benchmarks.results import Results
from benchmarks.stage import Stage

ROOT: Final = Path(__file__).parents[1]
OUT: Final = ROOT / "benchmarks" / "results"
OUT_QUICK: Final = ROOT / "dist" / "bench-quick"
ERROR_CHARS_MAX: Final = 600
"""Of what a failing peer had to say, in a note: how it begins, and how it ends."""


class Noted(Exception):
    """A question went wrong, and that is noted: its server may be in any state."""


class Conductor:
    """Goes through rounds, peers and questions, and keeps what was found."""

    def __init__(
        self, peers: Sequence[Peer], asked: Sequence[Question], sizes: Sizes, folder: Path, found: Results
    ) -> None:
        self._peers = peers
        self._asked = asked
        self._sizes = sizes
        self._folder = folder
        self._found = found
        self._began = time.monotonic()
        self._round = 0

    def run(self) -> None:
        """All of it. Raises KeyboardInterrupt."""
        visit = distinct([question for question in self._asked if not question.fresh])
        if visit:
            for number in range(self._sizes.rounds):
                self._round = number
                # Forth and back: who was first is last, if the machine gets slower or faster meanwhile.
                for peer in self._peers if number % 2 == 0 else self._peers[::-1]:
                    self._visit(peer, visit)
        self._round = 0
        for question in self._asked:
            if question.fresh:
                for peer in self._peers:
                    if question.is_for(peer, self._sizes):
                        self._visit(peer, [question])

    def _visit(self, peer: Peer, asked: list[Question]) -> None:
        """Put questions to one server; after one that went wrong, the others to a new one."""
        left = list(asked)
        while left:
            started = False
            try:
                with Stage(peer, self._folder, self._sizes.mailboxes) as stage:
                    started = True
                    while left:
                        self._ask(stage, left.pop(0))
            except Noted:
                pass
            except Exception as error:  # noqa: BLE001 - whatever a foreign server does: the next peer has its turn
                self._fail(peer, "", error)
                if not started:
                    return

    def _ask(self, stage: Stage, question: Question) -> None:
        """Put one question. Raises Noted if it went wrong."""
        self._say(f"{stage.peer.name}: {question.title} …")
        quiet.settle(self._sizes.memory)
        try:
            for sample in question.ask(stage, self._sizes):
                self._take(replace(sample, round=self._round), stage.peer)
        except NotOffered as why:
            self._found.note("not offered", stage.peer.key, question.key, str(why))
            self._say(f"    not offered: {why}")
        except Exception as error:
            self._fail(stage.peer, question.key, error)
            raise Noted from error

    def _take(self, sample: Sample, peer: Peer) -> None:
        if not any(question.key == sample.question for question in self._asked):
            return  # measured along with what was asked
        self._found.samples.append(sample)
        question = next(one for one in self._asked if one.key == sample.question)
        units = {column.key: column.unit for column in question.columns}
        default = question.columns[0].unit
        values = [f"{name} {tables.written(value, units.get(name, default))}" for name, value in sample.values.items()]
        at = f" at {tables.point_name(question, sample.point)}" if sample.point else ""
        who = "" if sample.peer == peer.key else f"{sample.peer}: "
        self._say(f"    {who}{', '.join(values)}{at}")

    def _fail(self, peer: Peer, question: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if len(text) > ERROR_CHARS_MAX:
            text = f"{text[: ERROR_CHARS_MAX // 3]} … {text[-ERROR_CHARS_MAX * 2 // 3 :]}"
        self._found.note("failed", peer.key, question, text)
        self._say(f"    FAILED: {text}")

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"{minutes:3d}:{seconds:02d}  {text}", file=sys.stderr, flush=True)


def distinct(asked: list[Question]) -> list[Question]:
    """One question a way of asking: what is measured along with another is not measured twice."""
    found: dict[object, Question] = {}
    for question in asked:
        found.setdefault(question.ask, question)
    return list(found.values())


def present(peers: Sequence[Peer], found: Results) -> list[Peer]:
    """Those that can run here. The others are said, and noted."""
    here = []
    for peer in peers:
        why = peer.missing()
        if why is None:
            found.peers.append(results.measured(peer))
            here.append(peer)
        else:
            found.note("missing", peer.key, "", why)
            print(f"left out: {peer.name}: {why}", file=sys.stderr)
    return here


def write(found: Results, asked: Sequence[Question], out: Path) -> None:
    """Write JSON, tables and plots."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_bytes(results.encode(found))
    drawn: dict[str, list[str]] = {}
    for question in asked:
        for name, svg in plots.of(found, question).items():
            (out / name).write_text(svg, encoding="utf-8")
            drawn.setdefault(question.key, []).append(name)
    page = tables.report(found, asked, drawn, goals.report(found))
    (out / "results.md").write_text(page, encoding="utf-8")
    print(f"written: {out / 'results.md'}, results.json, {sum(map(len, drawn.values()))} plots", file=sys.stderr)


def interrupted(*_: object) -> None:
    """Ctrl-C, or SIGTERM: stop, once. What ends the servers must not be interrupted in its turn."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Not by `print`: the signal may have come in the middle of one, which then raises another error than this.
    os.write(2, "stopping …\n".encode())
    raise KeyboardInterrupt


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter, one round, to a million stored: a first look")
    parser.add_argument("--only", default="", metavar="QUESTIONS", help="some of: " + _keys())
    parser.add_argument("--peers", default="", metavar="PEERS", help="some of: " + _peers())
    parser.add_argument("--rounds", type=int, metavar="N", help="how often every peer has its turn")
    parser.add_argument(
        "--patience", type=float, metavar="S", help="how long a peer may take from one size to the next"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where results go")
    parser.add_argument("--data", type=Path, metavar="DIR", help="on which disk the servers' data goes for the time")
    return parser.parse_args(argv)


def _peers() -> str:
    return ", ".join(f"{module}*" for module in all_peers.MODULES)


def _keys() -> str:
    return ", ".join(question.key for question in questions.QUESTIONS)


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def main(argv: Sequence[str] | None = None, sizes: Sizes | None = None) -> int:
    given = arguments(argv)
    sizes = sizes or (QUICK if given.quick else FULL)
    if given.rounds:
        sizes = replace(sizes, rounds=given.rounds)
    if given.patience:
        sizes = replace(sizes, growth_s=given.patience)
    try:
        asked, wanted = questions.chosen(words(given.only)), all_peers.chosen(words(given.peers))
    except ValueError as error:
        print(f"benchmarks.bench: {error}", file=sys.stderr)
        return 2
    raise_file_limit()
    folder = Path(tempfile.mkdtemp(prefix="restante-bench-", dir=given.data))
    machine = results.this_machine(folder)
    if machine.file_system in results.IN_MEMORY:
        print(f"{folder} is in memory: nothing is synced to a disk there. --data DIR gives another.", file=sys.stderr)
    found = Results(results.today(), machine, given.quick, sizes.rounds, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    began, status = time.monotonic(), 0
    try:
        Conductor(present(wanted, found), asked, sizes, folder, found).run()
    except KeyboardInterrupt:
        found.note("interrupted", "", "", "the run was stopped before its end")
        status = 130
    finally:
        end_descendants(STOP_S)  # a server that was interrupted as it started
        shutil.rmtree(folder, ignore_errors=True)
        found.seconds = time.monotonic() - began
        write(found, asked, given.out or (OUT_QUICK if given.quick else OUT))
    return status


if __name__ == "__main__":
    sys.exit(main())
