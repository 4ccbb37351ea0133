"""The whole server in virtual time, under loss, copies, delay and crashes: no seed breaks a promise, and every planted
fault is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation import faults
from tests.simulation.plan import draw
from tests.simulation.run import main, run_seed, run_seeds

SEEDS = 1_000
"""Worlds that must all be sound."""

SEEDS_PER_FAULT = 1_000
"""Worlds within which a planted fault must be seen."""


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_seed_breaks_a_promise() -> None:
    broken = [str(verdict) for verdict in run_seeds(range(SEEDS), jobs=min(cores(), 4)) if verdict.violations]
    assert not broken, "\n".join(broken)


@pytest.mark.timeout(300)
def test_accepted_before_persisted_is_seen_as_accepted_and_lost() -> None:
    lost = "it is not there"
    for seed in range(SEEDS_PER_FAULT):
        verdict = run_seed(seed, "accept_before_persisted")
        if any(violation.guarantee == "G1" and lost in violation.text for violation in verdict.violations):
            return
    pytest.fail(f"accepting before it is persisted got through {SEEDS_PER_FAULT} seeds")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(faults.FAULTS))
def test_a_planted_fault_is_seen(name: str) -> None:
    for seed in range(SEEDS_PER_FAULT):
        if run_seed(seed, name).violations:
            return
    pytest.fail(f"{name} got through {SEEDS_PER_FAULT} seeds")


def test_a_seed_is_one_world() -> None:
    transcripts: list[list[str]] = [[], []]
    for transcript in transcripts:
        run_seed(7, trace=transcript.append)
    assert transcripts[0] == transcripts[1]
    assert len(transcripts[0]) > 100


def test_a_seed_is_the_same_world_whatever_the_order_of_sets() -> None:
    command = [sys.executable, "-m", "tests.simulation.run", "--seed", "7", "--trace"]
    transcripts = {
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": hashes}, capture_output=True, check=True).stdout
        for hashes in ("1", "2")
    }
    assert len(transcripts) == 1


def test_faults_are_gone_once_they_were_planted() -> None:
    with faults.planted("skip_dedupe"):
        pass
    assert not run_seed(3).violations


def test_plans_differ_and_cover_every_mishap() -> None:
    plans = [draw(seed) for seed in range(200)]
    kinds = {mishap.kind for plan in plans for mishap in plan.mishaps}
    assert kinds == {"kill", "pause", "cut", "still", "tear", "disk_full", "slow_disk", "clock"}
    victims = {mishap.whom for plan in plans for mishap in plan.mishaps if mishap.kind == "kill"}
    assert victims == {"broker", "store", "auth-1", "auth-2", "alice", "bob"}
    assert {plan.real_frames for plan in plans} == {True, False}


class TestCommand:
    def test_one_seed_with_its_transcript(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--seed", "0", "--trace"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any("broker" in line and "StoreArrived" in line for line in lines)
        assert lines[-1] == "seed 0: nothing broken"

    def test_a_broken_promise_comes_with_the_command_that_replays_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--seeds", "3", "--first", "0", "--fault", "forget_marks"]) == 1
        out = capsys.readouterr().out
        assert "python -m tests.simulation.run --seed 0 --trace --fault forget_marks" in out
        assert "3 seeds" in out
        assert "seeds a second" in out

    def test_many_seeds_over_two_processes_are_the_same_worlds(self) -> None:
        assert list(run_seeds(range(20, 24), jobs=2)) == list(run_seeds(range(20, 24)))
