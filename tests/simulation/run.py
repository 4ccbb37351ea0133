"""Run simulated worlds.

    python -m tests.simulation.run --seeds 1000 [--first N] [--jobs J] [--fault NAME]
    python -m tests.simulation.run --seed 123 [--trace | --story] [--fault NAME]
    python -m tests.simulation.run --seed 123 --shrink [--out FILE] [--fault NAME]
    python -m tests.simulation.run --plan FILE [--trace | --story] [--fault NAME]
    python -m tests.simulation.run --faults [--seeds 1000] [--jobs J]

Exit code 1 if a guarantee was broken; with --faults, if a planted fault got through.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.simulation import faults
from tests.simulation.plan import Plan, draw, from_json, to_json
from tests.simulation.shrink import shrink
from tests.simulation.story import tell
from tests.simulation.trial import Totals, Verdict, hunt, run_plan, run_seeds, try_plan
from tests.simulation.world import Trace


def main(argv: list[str] | None = None) -> int:
    """Run as the command line says."""
    arguments = _parse(argv)
    if arguments.faults:
        return _faults(arguments)
    if arguments.seed is not None or arguments.plan:
        plan = from_json(Path(arguments.plan).read_bytes()) if arguments.plan else draw(arguments.seed)
        return _shrink(plan, arguments) if arguments.shrink else _one(plan, arguments)
    return _many(arguments)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description="Run simulated worlds.")
    parser.add_argument("--seed", type=int, help="one world")
    parser.add_argument("--plan", default="", help="one world, as a file has it")
    parser.add_argument("--trace", action="store_true", help="of one world: print all that happens")
    parser.add_argument("--story", action="store_true", help="of one world: print what its people see")
    parser.add_argument("--shrink", action="store_true", help="of one world: make it smaller as long as it fails")
    parser.add_argument("--out", default="", help="with --shrink: the file for the plan; else simulation-SEED.json")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in; 0: one a core")
    parser.add_argument("--fault", default="", choices=["", *faults.FAULTS], help="plant a fault")
    parser.add_argument("--faults", action="store_true", help="plant every fault, and see which seed finds it")
    arguments = parser.parse_args(argv)
    arguments.jobs = arguments.jobs or cores()
    return arguments


# --- one world --------------------------------------------------------------------------------------------


def _one(plan: Plan, arguments: argparse.Namespace) -> int:
    trace: Trace | None = print if arguments.trace else None
    verdict, history = try_plan(plan, arguments.fault, trace)
    if arguments.story:
        print("\n".join(tell(plan, history)))
    if arguments.plan:
        verdict.plan = arguments.plan
    print(verdict if verdict.violations else f"seed {verdict.seed}: nothing broken")
    return bool(verdict.violations)


def _shrink(plan: Plan, arguments: argparse.Namespace) -> int:
    """Keep breaking the same guarantee, with less and less."""
    broken = {violation.guarantee for violation in run_plan(plan, arguments.fault).violations}
    if not broken:
        print(f"seed {plan.seed}: nothing broken, nothing to shrink")
        return 0

    def fails(smaller: Plan) -> bool:
        return any(violation.guarantee in broken for violation in run_plan(smaller, arguments.fault).violations)

    def note(smaller: Plan) -> None:
        if sys.stderr.isatty():
            print(f"\rsize {smaller.size:4}", end="", file=sys.stderr, flush=True)

    small = shrink(plan, fails, note=note)
    out = Path(arguments.out or f"simulation-{plan.seed}.json")
    out.write_text(to_json(small))
    verdict, history = try_plan(small, arguments.fault)
    verdict.plan = str(out)
    print("\n".join(tell(small, history)))
    print(f"size {plan.size} → {small.size}: {out}")
    print(verdict)
    return 1


# --- many worlds ------------------------------------------------------------------------------------------


def _many(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    totals = Totals()
    for verdict in run_seeds(
        range(arguments.first, arguments.first + arguments.seeds), arguments.fault, arguments.jobs
    ):
        totals.add(verdict)
        if verdict.violations:
            _progress("")
            print(verdict, flush=True)
        _progress(totals.line(time.perf_counter() - began))
    _progress("")
    print(totals.summary(time.perf_counter() - began))
    return bool(totals.broken)


def _progress(line: str) -> None:
    """On a terminal, one line that changes."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _faults(arguments: argparse.Namespace) -> int:
    """The proof that the simulation sees."""
    through = 0
    print(f"{'planted fault':<34} {'seed':>5}  what was broken")
    for name, verdict in hunt(sorted(faults.FAULTS), arguments.seeds, arguments.jobs):
        if verdict is None:
            through += 1
            print(f"{name:<34} {'—':>5}  GOT THROUGH {arguments.seeds} seeds", flush=True)
        else:
            print(f"{name:<34} {verdict.seed:>5}  {str(verdict.violations[0])[:140]}", flush=True)
    print(f"{len(faults.FAULTS)} faults, {through} got through")
    return bool(through)


__all__ = ["Verdict", "cores", "main"]

if __name__ == "__main__":
    sys.exit(main())
