"""One world, or many, and what became of them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from msgspec import Struct

from tests.simulation import faults
from tests.simulation.checker import check
from tests.simulation.cluster import Cluster
from tests.simulation.facts import Violation
from tests.simulation.faults.seen import SEEN
from tests.simulation.history import History
from tests.simulation.plan import Plan, draw
from tests.simulation.world import Trace

CHUNK = 25
"""Seeds handed to a process at once."""


class Verdict(Struct):
    """What became of one world."""

    seed: int
    violations: list[Violation]
    virtual_s: float
    steps: int
    messages: int
    fault: str = ""
    plan: str = ""
    """The file it is in, if it is not the seed's own."""
    crashes: int = 0
    cuts: int = 0
    aborts: int = 0

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        fault = f" --fault {self.fault}" if self.fault else ""
        which = f"--plan {self.plan}" if self.plan else f"--seed {self.seed}"
        return f"python -m tests.simulation.run {which} --trace{fault}"

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.violations)} broken promises", f"    {self.replay}"]
        lines += [f"    {violation}" for violation in self.violations[:8]]
        return "\n".join(lines)


class Totals(Struct):
    """Of many worlds."""

    seeds: int = 0
    broken: int = 0
    steps: int = 0
    messages: int = 0
    virtual_s: float = 0.0
    crashes: int = 0
    cuts: int = 0
    aborts: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count one more."""
        self.seeds += 1
        self.broken += bool(verdict.violations)
        for name in ("steps", "messages", "virtual_s", "crashes", "cuts", "aborts"):
            setattr(self, name, getattr(self, name) + getattr(verdict, name))

    def line(self, seconds: float) -> str:
        """How far it is."""
        return f"{self.seeds} seeds, {self.broken} broken, {self.seeds / max(seconds, 1e-9):.0f} a second"

    def summary(self, seconds: float) -> str:
        """What it was."""
        return (
            f"{self.seeds} seeds, {self.broken} with broken promises: {self.messages} messages, {self.crashes} crashes,"
            f" {self.cuts} cuts, {self.aborts} aborts; {self.virtual_s / 3600:.1f} virtual hours, {self.steps} events;"
            f" {seconds:.1f} s, {self.seeds / max(seconds, 1e-9):.0f} seeds a second"
        )


def try_plan(plan: Plan, fault: str = "", trace: Trace | None = None) -> tuple[Verdict, History]:
    """One world. Whatever a core raises is a violation too: who dies of an envelope can be killed by one."""
    cluster = Cluster(plan, trace)
    with faults.planted(fault):
        try:
            violations = check(cluster.run())
        except Exception as error:  # noqa: BLE001
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
            violations = [Violation("crash", f"{type(error).__name__} at {where}: {error}")]
            if trace is not None:
                trace(traceback.format_exc())
    history, world = cluster.history, cluster.world
    verdict = Verdict(
        plan.seed, violations, world.now, world.steps, len(history.sendings), fault, crashes=cluster.crashes,
        cuts=cluster.cuts, aborts=cluster.store.aborts,
    )  # fmt: skip
    return verdict, history


def run_plan(plan: Plan, fault: str = "", trace: Trace | None = None) -> Verdict:
    """One world."""
    return try_plan(plan, fault, trace)[0]


def run_seed(seed: int, fault: str = "", trace: Trace | None = None) -> Verdict:
    """The world of a seed."""
    return run_plan(draw(seed), fault, trace)


def run_seeds(seeds: range, fault: str = "", jobs: int = 1) -> Iterator[Verdict]:
    """The worlds of many seeds, in their order, over so many processes."""
    one = partial(run_seed, fault=fault)
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, seeds, chunksize=CHUNK)


def first_seen(name: str, seeds: int) -> Verdict | None:
    """A world that is broken by a planted fault, if any of so many is: the one that was last time, else the first."""
    known = SEEN.get(name, 0)
    order = [known, *range(seeds)] if known < seeds else range(seeds)
    verdicts = (run_seed(seed, name) for seed in order)
    return next((verdict for verdict in verdicts if verdict.violations), None)


def hunt(names: Sequence[str], seeds: int, jobs: int = 1) -> Iterator[tuple[str, Verdict | None]]:
    """For each planted fault the first world that it breaks."""
    one = partial(first_seen, seeds=seeds)
    if jobs == 1:
        yield from zip(names, map(one, names), strict=True)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from zip(names, pool.map(one, names), strict=True)
