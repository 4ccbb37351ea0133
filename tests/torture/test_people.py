"""A killed client goes on where it was; a plan and a table are what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restante.wire.errors import CODES, Busy, OutcomeUnknown, UnknownRecipient, UnreachableError, WrongServerKey
from tests.torture import journal, people, plan, report
from tests.torture.batch import LINES, Batcher, told_in
from tests.torture.crowd import PEOPLE
from tests.torture.journal import Began, Given, Journal, Told, lines_of
from tests.torture.places import Apart, Serve


def given(n: int) -> Given:
    return Given(at=float(n), id=n.to_bytes(16, "big"), to=["bob"], body=f"ann {n}")


class TestJournal:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        lines: list[journal.Any] = [Began(at=1.0), given(1), Told(at=2.0, id=given(1).id, seq=7)]
        with Journal(tmp_path / "j") as book:
            for line in lines:
                book.write(line)
        assert list(lines_of(tmp_path / "j")) == lines

    def test_a_torn_last_line_is_nothing_and_the_next_life_cuts_it_off(self, tmp_path: Path) -> None:
        path = tmp_path / "j"
        with Journal(path) as book:
            book.write(given(1))
            book.write(given(2))
        path.write_bytes(path.read_bytes()[:-5])
        assert list(lines_of(path)) == [given(1)]
        with Journal(path) as book:
            book.write(given(3))
        assert list(lines_of(path)) == [given(1), given(3)]

    def test_nobody_wrote_anything(self, tmp_path: Path) -> None:
        assert list(lines_of(tmp_path / "j")) == []


class TestSender:
    def test_a_killed_sender_remembers_what_has_no_final_answer_in_its_order(self, tmp_path: Path) -> None:
        with Journal(tmp_path / "j") as book:
            book.write(Began())
            for n in (1, 2, 3, 4):
                book.write(given(n))
            book.write(Told(id=given(1).id, seq=7))
            book.write(Told(id=given(2).id, failure="OutcomeUnknown"))
            book.write(Told(id=given(4).id, code="unknown_recipient"))
            book.write(Began())
            book.write(given(2))
        past = people.recall(tmp_path / "j")
        assert (past.count, past.lives) == (4, 2)
        assert [each.body for each in past.open.values()] == ["ann 2", "ann 3"]

    @pytest.mark.parametrize(
        ("error", "failure", "final"),
        [
            (Busy("wait"), "busy", False),
            (UnknownRecipient("nobody"), "unknown_recipient", True),
            (OutcomeUnknown("?"), "OutcomeUnknown", False),
            (UnreachableError("?"), "UnreachableError", False),
            (WrongServerKey("?"), "UnreachableError", False),
        ],
    )
    def test_what_is_given_again(self, error: Any, failure: str, final: bool) -> None:
        assert people.failure_of(error) == failure
        assert people.is_final(failure) is final

    def test_no_code_that_passes_is_final(self) -> None:
        assert not [code for code, row in CODES.items() if row.passes and people.is_final(code)]


class TestBatcher:
    @pytest.fixture(autouse=True)
    def ended(self) -> Iterator[None]:
        """Whatever a test started is gone after it."""
        self.started: list[subprocess.Popen[bytes]] = []
        yield
        for process in self.started:
            process.kill()
            process.wait(10)
            assert process.stdin is not None
            process.stdin.close()

    def batcher(self, folder: Path, program: str) -> Batcher:
        """Its command is a few lines of Python instead."""

        def start(name: str, argv: list[str], *, env: dict[str, str], stdin: int, stdout: Path) -> Any:
            with stdout.open("ab") as out:
                self.started.append(subprocess.Popen([sys.executable, "-c", program], stdin=stdin, stdout=out))
                return self.started[-1]

        return Batcher("bea", 7, bytes(32), "chat://…", folder, ["bob", "eve"], 1, {}, start)

    def turns(self, batcher: Batcher, runs: int) -> None:
        """Until so many runs have ended."""
        while sum(run.code is not None for run in batcher.runs) < runs:
            if batcher.process is not None and batcher.process.stdin is not None and batcher.process.stdin.closed:
                batcher.process.wait(20)
            batcher.turn(0.0, quiet=len(batcher.runs) >= runs)

    def test_all_lines_are_fed_and_the_next_batch_has_other_lines(self, tmp_path: Path) -> None:
        batcher = self.batcher(tmp_path, "import sys; [print(line, end='') for line in sys.stdin]")
        self.turns(batcher, 2)
        assert not batcher.turn(0.0, quiet=True)
        assert [run.batch for run in batcher.runs] == [0, 1]
        fed = [json.loads(line) for run in batcher.runs for line in run.out.read_text().splitlines()]
        assert [line["once"] for line in fed] == [f"bea-{n}" for n in range(2 * LINES)]
        assert len({line.id for run in batcher.runs for line in run.lines}) == 2 * LINES

    @pytest.mark.parametrize(("code", "again"), [(5, True), (-9, True), (0, False), (1, False)])
    def test_the_same_lines_again_unless_it_is_settled(self, tmp_path: Path, code: int, again: bool) -> None:
        end = "os.kill(os.getpid(), 9)" if code < 0 else f"sys.exit({code})"
        batcher = self.batcher(tmp_path, f"import os, sys; sys.stdin.read(); {end}")
        self.turns(batcher, 2)
        assert [run.batch for run in batcher.runs][:2] == [0, 0 if again else 1]
        assert (batcher.runs[0].lines == batcher.runs[1].lines) is again
        assert bool(batcher.complaints) is (code == 1)

    @pytest.mark.parametrize(("error", "again"), [("unknown_recipient", False), ("busy", True)])
    def test_lines_that_were_refused(self, tmp_path: Path, error: str, again: bool) -> None:
        line = json.dumps({"line": 1, "ok": False, "error": error})
        batcher = self.batcher(tmp_path, f"import sys; sys.stdin.read(); print({line!r}); sys.exit(3)")
        self.turns(batcher, 2)
        assert told_in(batcher.runs[0]) == [json.loads(line)]
        assert [run.batch for run in batcher.runs][:2] == [0, 0 if again else 1]


class TestPlan:
    def test_a_seed_is_one_plan(self) -> None:
        plans = [plan.draw(seed, 60, Apart.services, PEOPLE, Apart.links) for seed in (1, 1, 2)]
        assert plans[0] == plans[1] != plans[2]
        assert plans[0] == sorted(plans[0], key=lambda mishap: mishap.at)
        assert all(0 < mishap.at < 60 + 12 for mishap in plans[0])  # what follows on another may come too late

    @pytest.mark.parametrize("place", [Apart, Serve])
    def test_a_minute_spares_nobody(self, place: type[Apart] | type[Serve]) -> None:
        for seed in range(20):
            mishaps = plan.draw(seed, 60, place.services, PEOPLE, place.links)
            killed = Counter(mishap.whom for mishap in mishaps if mishap.kind == "kill")
            assert killed.keys() == {*place.services, *PEOPLE}
            assert set(plan.NET) <= {mishap.kind for mishap in mishaps}
            assert {"stop", "restart"} <= {mishap.kind for mishap in mishaps}

    def test_ten_minutes_are_more_than_a_hundred_kills(self) -> None:
        for seed in range(20):
            mishaps = plan.draw(seed, 600, Serve.services, PEOPLE, Serve.links)
            assert sum(mishap.kind == "kill" for mishap in mishaps) > 200


def test_the_table_adds_up() -> None:
    rounds = [
        report.Round("apart", 1, accepted=1_000, kills=Counter(broker=2, store=1), net=Counter(cuts=3)),
        report.Round("serve", 2, accepted=500, kills=Counter(serve=4), violations=[report.Violation("G1", "gone")]),
    ]
    rows = {line[: report.LABEL].strip(): line[report.LABEL :].split() for line in report.table(rounds).splitlines()}
    assert rows["messages accepted"] == ["1,000", "500", "1,500"]
    assert rows["kills"] == ["3", "4", "7"]
    assert rows["broker"] == ["2", "0", "2"]
    assert rows["cuts"] == ["3", "0", "3"]
    assert rows["lost"] == ["0", "1", "1"]
    assert rows["doubled"] == rows["other promises broken"] == ["0", "0", "0"]
    assert [each.sound for each in rounds] == [True, False]
