"""Real processes, real crashes: nothing lost, nothing doubled, nothing out of order.

    python -m tests.torture.torture [--seconds 60] [--rounds N] [--seed N] [--fault NAME]

In each round a server, real senders and readers work through a proxy, while a plan drawn from the seed kills, stops and
starts again every one of them, and delays, cuts and half-opens their connections. Then all that stops; what was under
way has to come to its end; every mailbox is read, and what the people wrote down is judged by the simulator's checker.
Odd rounds run the services apart, over TCP, as compose does; even ones `chat serve`.

The seed fixes the plan, not how the processes race: a failure keeps its folder, with every journal and log. Exit code
1 if a promise was broken, 130 after Ctrl-C; no process and no other folder is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from restante.wire.errors import ChatError
from tests.torture.crowd import PEOPLE, SENDERS, Crowd
from tests.torture.judge import verdict
from tests.torture.places import READY_S, Apart, Place, Serve, is_ready
from tests.torture.plan import CLIENTS, Mishap, draw
from tests.torture.proxy import Proxy
from tests.torture.report import Round, Violation, table
from tests.torture.seen import Seen

SECONDS: Final = 60.0
ROUND_S: Final = 150.0
"""A round's length in a long run: each is judged as a whole, which takes memory."""

TURN_S: Final = 0.05
DRAIN_S: Final = 150.0
"""From a sound server to the end of all that was under way: twice a sender's own time for an answer, and a bit."""


class Patience:
    """Waits, a turn at a time. A first signal is heeded between two turns, when every process is known that has to be
    ended; a second one at once.
    """

    def __init__(self) -> None:
        self._signals = 0
        self._turn = threading.Event()  # never set: it is only waited on

    def wait(self, seconds: float) -> None:
        """Raises KeyboardInterrupt after a signal."""
        if self._signals:
            raise KeyboardInterrupt
        self._turn.wait(seconds)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition. Raises TimeoutError after READY_S, and as `wait`."""
        deadline = time.monotonic() + READY_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {READY_S:g} s: {what}")
            self.wait(TURN_S)

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP mean: stop, and leave nothing."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._told) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            raise KeyboardInterrupt


class Trial:
    """One round: the server, the people, and what befalls them."""

    def __init__(self, place: Place, crowd: Crowd, proxy: Proxy, result: Round, patience: Patience) -> None:
        self._patience = patience
        self._place, self._crowd, self._proxy, self._result = place, crowd, proxy, result
        self._stopped: dict[str, tuple[int, float]] = {}
        self._resting: dict[str, float] = {}

    # --- while it goes wrong ------------------------------------------------------------------------------

    def torment(self, mishaps: Sequence[Mishap], seconds: float) -> None:
        """Let everything happen when it is to."""
        began, due = time.monotonic(), list(mishaps)
        while (now := time.monotonic()) < began + seconds:
            while due and began + due[0].at <= now:
                self._befall(due.pop(0), now)
            self._resume([name for name, (_, until) in self._stopped.items() if until <= now])
            self._resting = {name: until for name, until in self._resting.items() if until > now}
            self._place.tend(self._resting)
            self._crowd.turn(now)
            self._patience.wait(TURN_S)

    def _befall(self, mishap: Mishap, now: float) -> None:
        if mishap.kind == "kill":
            self._kill(mishap.whom, now + mishap.seconds)
        elif mishap.kind == "restart":
            self._resume([mishap.whom] if mishap.whom in self._stopped else [])
            self._result.restarts[mishap.whom] += self._place.restart(mishap.whom)
        elif mishap.kind == "stop":
            self._stop(mishap.whom, now + mishap.seconds)
        else:
            ail: dict[str, Callable[[], int]] = {
                "delay": lambda: self._proxy.delay(mishap.whom, mishap.seconds / 10, mishap.seconds),
                "stall": lambda: self._proxy.stall(mishap.whom, mishap.seconds),
                "cut": lambda: self._proxy.cut(mishap.whom),
                "half_open": lambda: self._proxy.half_open(mishap.whom, mishap.seconds),
                "refuse": lambda: self._proxy.refuse(mishap.whom, mishap.seconds),
            }
            ail[mishap.kind]()

    def _kill(self, name: str, rests_until: float) -> None:
        if name == "serve":  # a stopped child would outlive it, and hold the lock on the data
            self._resume(list(self._stopped))
        killed = self._crowd.kill(name, rests_until) if name in PEOPLE else self._place.kill(name)
        if killed:
            self._result.kills[name] += 1
            self._resting[name] = rests_until
            self._stopped.pop(name, None)

    def _stop(self, name: str, until: float) -> None:
        pid = {**self._place.pids(), **self._crowd.pids()}.get(name)
        if pid is not None and name not in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self._stopped[name] = (pid, until)
                self._result.stops[name] += 1

    def _resume(self, names: list[str]) -> None:
        for name in names:
            pid, _ = self._stopped.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # --- and afterwards -----------------------------------------------------------------------------------

    def recover(self) -> None:
        """From now on nothing goes wrong."""
        self._resume(list(self._stopped))
        self._proxy.heal()
        self._resting = {}

    def drain(self) -> None:
        """Let all that is under way come to its end."""
        readers = set(PEOPLE) - {*SENDERS, "batch sender"}
        self._until(lambda busy: is_ready(self._place.direct), READY_S, "the server serves again")
        self._crowd.say("quiet")
        self._until(lambda busy: not set(busy) - readers, DRAIN_S, "all is sent and answered", quiet=True)
        self._crowd.say("drained")
        self._until(lambda busy: not busy, DRAIN_S, "all is read", quiet=True)

    def _until(self, done: Callable[[list[str]], bool], wait_s: float, what: str, *, quiet: bool = False) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            now = time.monotonic()
            self._place.tend()
            busy = self._crowd.turn(now, quiet=quiet)
            if done(busy):
                return
            if now > deadline:
                self._result.violations.append(Violation("G4", f"not within {wait_s:g} s: {what}; busy are {busy}"))
                return
            self._patience.wait(TURN_S)


def run_round(number: int, seed: int, seconds: float, folder: Path, patience: Patience) -> Round:
    """One round in a folder of its own, judged. Leaves no process, also if it is interrupted."""
    kind = Apart if number % 2 else Serve
    result = Round("apart" if number % 2 else "serve", seed * 1_000 + number)
    for each in ("server", "people"):
        (folder / each).mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(result.seed))
        place: Place = kind(folder / "server", proxy)
        stack.callback(place.stop)
        place.start()
        patience.until(lambda: is_ready(place.direct), "the server serves")
        crowd = Crowd(place, folder / "people", result.seed)
        stack.callback(crowd.stop)
        trial = Trial(place, crowd, proxy, result, patience)
        stack.callback(trial.recover)  # first of all: what is stopped can't end
        trial.torment(draw(result.seed, seconds, place.services, PEOPLE, place.links), seconds)
        trial.recover()
        trial.drain()
        seen = crowd.seen()
        _count(result, seen, proxy, crowd)
        result.complaints += [*place.complaints, *crowd.complaints]
    result.violations += verdict(seen)
    return result


def _count(result: Round, seen: Seen, proxy: Proxy, crowd: Crowd) -> None:
    final = {(each.sender, each.id): each.result.code for each in seen.sendings if each.result is not None}
    result.accepted = sum(not code for code in final.values())
    result.refused = len(final) - result.accepted
    result.delivered = sum(len(mailbox.entries) for mailbox in seen.mailboxes.values())
    result.unread = sum(len(mailbox.unread) for mailbox in seen.mailboxes.values())
    result.read = result.delivered - result.unread
    result.retries = seen.retries
    result.again = seen.again
    for name, count in proxy.counts.items():
        result.net[name.rpartition(" ")[2]] += count
    result.reconnects = max(0, proxy.counts[f"{CLIENTS} connections"] - crowd.lives)


def run(seconds: float, rounds: int, seed: int, folder: Path, patience: Patience | None = None) -> list[Round]:
    """All rounds, told of one by one. A sound round's folder is removed."""
    patience = patience or Patience()
    results: list[Round] = []
    for number in range(1, rounds + 1):
        place = folder / f"round-{number}"
        results.append(run_round(number, seed, seconds / rounds, place, patience))
        last = results[-1]
        verdict_text = "sound" if last.sound else "BROKEN"
        print(
            f"round {number} of {rounds} ({last.name}): {last.accepted:,} accepted, {last.kills.total()} kills: "
            f"{verdict_text}",
            flush=True,
        )
        for text in last.broken_texts():
            print(f"    {text}", flush=True)
        if last.sound:
            shutil.rmtree(place)
    return results


def tell(results: list[Round], seed: int, folder: Path) -> int:
    """Print what became of it; the exit code."""
    print(f"\nseed {seed}\n{table(results)}\n")
    for number, result in enumerate(results, 1):
        for text in result.broken_texts():
            print(f"round {number} ({result.name}): {text}")
    if all(result.sound for result in results):
        shutil.rmtree(folder)
        return 0
    print(f"\nseed {seed}: journals, logs and data are kept in {folder}")
    return 1


def plant(fault: str) -> None:
    """Have every process that is started from now on run with one of the simulator's planted faults."""
    place = Path(__file__).parent / "planted"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH", "")]))
    os.environ["TORTURE_FAULT"] = fault


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    rounds = arguments.rounds or max(2, round(arguments.seconds / ROUND_S))
    seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(3), "big")
    folder = Path(tempfile.mkdtemp(prefix="restante-torture-"))
    print(f"seed {seed}: {rounds} rounds, {arguments.seconds:g} s in all, in {folder}", flush=True)
    if arguments.fault:
        plant(arguments.fault)
    patience = Patience()
    with patience.heeding_signals():
        try:
            return tell(run(arguments.seconds, rounds, seed, folder, patience), seed, folder)
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            print("interrupted: everything is stopped, nothing is left", flush=True)
            return 130
        except (ChatError, OSError, RuntimeError) as error:
            print(f"\nseed {seed}: {type(error).__name__}: {error}\nWhat there is is kept in {folder}", flush=True)
            return 1


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.torture", description="Real crashes.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long things go wrong, in all")
    parser.add_argument("--rounds", type=int, help="servers to do it to; by default one for 150 s, at least two")
    parser.add_argument("--seed", type=int, help="of the plan; by default a new one")
    parser.add_argument("--fault", default="", help="one of the simulator's planted faults: a proof that it is seen")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
