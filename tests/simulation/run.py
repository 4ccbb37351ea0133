"""Run simulated worlds.

    python -m tests.simulation.run --seeds 1000 [--first N] [--jobs J] [--fault NAME]
    python -m tests.simulation.run --seed 123 --trace [--fault NAME]

Exit code 1 if a guarantee was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from msgspec import Struct

from tests.simulation import faults
from tests.simulation.checker import Violation, check
from tests.simulation.cluster import Cluster
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

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        fault = f" --fault {self.fault}" if self.fault else ""
        return f"python -m tests.simulation.run --seed {self.seed} --trace{fault}"

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.violations)} broken promises", f"    {self.replay}"]
        lines += [f"    {violation}" for violation in self.violations[:8]]
        return "\n".join(lines)


def run_plan(plan: Plan, fault: str = "", trace: Trace | None = None) -> Verdict:
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
    return Verdict(plan.seed, violations, world.now, world.steps, len(history.sendings), fault)


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


def main(argv: list[str] | None = None) -> int:
    """Run as the command line says."""
    arguments = _parse(argv)
    if arguments.seed is not None:
        trace: Callable[[str], None] | None = print if arguments.trace else None
        verdict = run_seed(arguments.seed, arguments.fault, trace)
        print(verdict if verdict.violations else f"seed {verdict.seed}: nothing broken")
        return bool(verdict.violations)
    return _many(arguments)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description="Run simulated worlds.")
    parser.add_argument("--seed", type=int, help="one world")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument("--fault", default="", choices=["", *faults.FAULTS], help="plant a fault")
    return parser.parse_args(argv)


def _many(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    broken = steps = messages = 0
    virtual_s = 0.0
    for verdict in run_seeds(seeds, arguments.fault, arguments.jobs):
        steps, messages = steps + verdict.steps, messages + verdict.messages
        virtual_s += verdict.virtual_s
        if verdict.violations:
            broken += 1
            print(verdict, flush=True)
    seconds = time.perf_counter() - began
    print(
        f"{len(seeds)} seeds, {broken} with broken promises; {messages} messages, {virtual_s / 3600:.1f} virtual hours,"
        f" {steps} events; {seconds:.1f} s, {len(seeds) / seconds:.0f} seeds a second"
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
