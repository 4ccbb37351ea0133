"""What fails is made smaller as long as it fails, and then it is a file, a story and a command."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.simulation.plan import Plan, draw, from_json
from tests.simulation.run import main
from tests.simulation.shrink import shrink
from tests.simulation.story import tell
from tests.simulation.trial import try_plan


def a_plan() -> Plan:
    """One with some of everything."""
    plans = (draw(seed) for seed in range(1_000))
    return next(plan for plan in plans if len(plan.people) > 3 and len(plan.mishaps) > 7 and plan.bounds)


def letters(plan: Plan) -> list[str]:
    """The texts of all letters."""
    return [
        letter.text
        for person in plan.people
        for device in person.devices
        for batch in device.outbox
        for letter in batch
    ]


class TestShrinking:
    def test_what_always_fails_becomes_next_to_nothing(self) -> None:
        small = shrink(a_plan(), lambda plan: True)
        assert (len(small.people), len(small.mishaps), letters(small), small.bounds) == (1, 0, [], {})

    def test_what_never_fails_smaller_stays(self) -> None:
        plan = a_plan()
        assert shrink(plan, lambda smaller: False) == plan

    def test_what_is_needed_is_left_and_nothing_else(self) -> None:
        plan = a_plan()
        wanted, mishap = letters(plan)[-1], plan.mishaps[3]

        def fails(smaller: Plan) -> bool:
            kinds = [each.kind for each in smaller.mishaps]
            return wanted in letters(smaller) and mishap.kind in kinds

        small = shrink(plan, fails, runs_max=5_000)
        assert letters(small) == [wanted]
        assert [each.kind for each in small.mishaps] == [mishap.kind]
        assert small.size <= 4

    def test_letters_for_who_is_gone_go_to_the_others(self) -> None:
        plan = a_plan()
        gone = plan.people[0].name
        small = shrink(plan, lambda smaller: len(smaller.people) >= len(plan.people) - 1)
        assert len(small.people) == len(plan.people) - 1
        addressed = {name for p in small.people for d in p.devices for b in d.outbox for one in b for name in one.to}
        assert gone not in addressed or gone in {person.name for person in small.people}

    def test_it_ends_after_so_many_runs(self) -> None:
        runs = []
        shrink(a_plan(), lambda plan: bool(runs.append(plan)), runs_max=7)  # type: ignore[func-returns-value]
        assert len(runs) == 7

    def test_a_plan_is_not_changed_by_what_is_tried(self) -> None:
        plan = a_plan()
        before = replace(plan)
        shrink(plan, lambda smaller: len(smaller.mishaps) > 2, runs_max=50)
        assert plan == before


class TestCommand:
    def test_a_failing_seed_becomes_a_file_that_replays(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "plan.json"
        assert main(["--seed", "2", "--fault", "forget_marks", "--shrink", "--out", str(out)]) == 1
        printed = capsys.readouterr().out
        assert f"--plan {out} --trace --fault forget_marks" in printed
        assert "sends" in printed
        small = from_json(out.read_bytes())
        assert small.size < draw(2).size / 3
        assert main(["--plan", str(out), "--fault", "forget_marks", "--story"]) == 1
        assert "G5" in capsys.readouterr().out
        assert main(["--plan", str(out)]) == 0

    def test_a_sound_seed_is_not_shrunk(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--seed", "3", "--shrink", "--out", str(tmp_path / "none")]) == 0
        assert not [*tmp_path.iterdir()]
        assert "nothing to shrink" in capsys.readouterr().out


def test_a_story_tells_what_befell_whom_and_what_they_were_told() -> None:
    plan = a_plan()
    lines = tell(plan, try_plan(plan)[1])
    assert lines[0].startswith(f"seed {plan.seed}: ")
    assert sum("── " in line for line in lines) >= len(plan.mishaps)
    for part in ("has an account", "wants: Login", " sends ", ": accepted as ", "mailbox holds"):
        assert any(part in line for line in lines), part
    times = [float(line[:9]) for line in lines[1:] if line[:9].strip().replace(".", "").isdigit()]
    assert times == sorted(times)
