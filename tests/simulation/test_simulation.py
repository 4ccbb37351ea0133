"""The whole server in virtual time, under loss, copies, delay and crashes: no seed breaks a promise, and every planted
fault is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation import faults
from tests.simulation.people import CHORES
from tests.simulation.plan import BOUNDS, KINDS, draw, from_json, to_json
from tests.simulation.run import cores, main
from tests.simulation.trial import first_seen, run_seed, run_seeds

SEEDS = 1_000
"""Worlds that must all be sound."""

SEEDS_PER_FAULT = 1_000
"""Worlds within which a planted fault must be seen."""


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
    verdict = first_seen(name, SEEDS_PER_FAULT)
    assert verdict is not None, f"{name} got through {SEEDS_PER_FAULT} seeds"
    assert not run_seed(verdict.seed).violations, "it is the fault that is seen"


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
    assert {mishap.kind for plan in plans for mishap in plan.mishaps} == set(KINDS)
    victims = {mishap.whom for plan in plans for mishap in plan.mishaps if mishap.kind == "kill"}
    assert victims > {"broker", "store", "auth-1", "auth-2", "auth-3", "alice", "bob/2"}
    assert {plan.real_frames for plan in plans} == {True, False}
    assert {name for plan in plans for name in plan.bounds} == set(BOUNDS)
    chores = {chore.what for plan in plans for person in plan.people for d in person.devices for chore in d.chores}
    assert chores == {*CHORES, "passwd"}
    assert {len(plan.people) for plan in plans} == {2, 3, 4, 5, 8}
    assert max(len(person.devices) for plan in plans for person in plan.people) == 4


def test_narrow_limits_are_the_brokers_and_change_no_envelope() -> None:
    """In a process of its own, in which nothing was read before."""
    program = (
        "from tests.simulation import narrow\n"
        "from restante.wire import codec, envelopes\n"
        "with narrow.limits({'PAGE_MESSAGES_MAX': 2}):\n"
        "    header = codec.pack_header(envelopes.Fetch(id=1, limit=5))\n"
        "    assert codec.from_client.read_header(header).limit == 5\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_plan_is_a_file() -> None:
    for seed in range(30):
        plan = draw(seed)
        assert from_json(to_json(plan)) == plan


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
