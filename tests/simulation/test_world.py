"""What the simulated clock, lines and processes do: no more than clocks, sockets and processes do, and no less."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from tests.simulation import world as world_module
from tests.simulation.network import Line, Weather
from tests.simulation.process import Process
from tests.simulation.world import Endless, World

SEEDS = range(40)
"""Whatever holds of a line holds at every throw of the dice."""


class TestWorld:
    def test_what_is_due_at_once_happens_in_the_order_of_asking(self) -> None:
        world, happened = World(0), []
        for number in range(5):
            world.at(1.0, lambda number=number: happened.append(number))  # type: ignore[misc]
        world.at(0.5, lambda: happened.append(99))
        world.run(2.0)
        assert happened == [99, 0, 1, 2, 3, 4]
        assert world.now == 2.0

    def test_it_stops_when_it_is_done(self) -> None:
        world, happened = World(0), []
        for at in (1.0, 2.0, 3.0):
            world.at(at, lambda at=at: happened.append(at))  # type: ignore[misc]
        assert world.run(9.0, lambda: len(happened) == 2)
        assert world.now == 2.0

    def test_who_answers_himself_for_ever_is_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(world_module, "STEPS_MAX", 100)
        world = World(0)

        def again() -> None:
            world.after(0.0, again)

        again()
        with pytest.raises(Endless):
            world.run(1.0)

    def test_dice_are_the_same_for_a_name_and_a_seed_and_for_nothing_else(self) -> None:
        assert World(1).dice("a").random() == World(1).dice("a").random()
        throws = {world.dice(name).random() for world in (World(1), World(2)) for name in ("a", "b")}
        assert len(throws) == 4


def a_line(seed: int, *, mended: bool = True, **weather: float) -> tuple[World, Line[int], list[int]]:
    world, arrived = World(seed), list[int]()
    line = Line(world, "line", Weather(delay_s=0.01, **weather), arrived.append, mended=mended)
    return world, line, arrived


@pytest.mark.parametrize("seed", SEEDS)
class TestLine:
    def test_first_in_first_out(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        for number in range(20):
            world.at(number * 0.003, lambda number=number: line.send(number))  # type: ignore[misc]
        world.run(10.0)
        assert arrived == list(range(20))

    def test_a_cut_loses_the_end_and_lets_nothing_follow(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        for number in range(20):
            line.send(number)
        line.cut()
        line.send(99)
        world.run(10.0)
        assert arrived == list(range(len(arrived)))

    def test_what_had_not_left_is_lost_in_a_cut(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        line.send(1, lag_s=0.5)
        line.cut()
        world.run(10.0)
        assert arrived == []

    def test_of_what_is_dropped_nothing_arrives(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        line.send(1)
        line.drop()
        line.send(2)
        world.run(10.0)
        assert arrived == []

    def test_a_tear_loses_the_beginning_and_lets_all_else_follow(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        for number in range(20):
            line.send(number)
        line.tear()
        line.send(20)
        world.run(10.0)
        assert arrived == list(range(21 - len(arrived), 21))
        assert arrived

    def test_while_it_stands_still_nothing_arrives_and_then_all_does(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        line.send(1)
        line.stand_still(3.0)
        line.send(2)
        world.run(2.9)
        assert arrived == []
        world.run(10.0)
        assert arrived == [1, 2]

    def test_without_its_reader_all_waits(self, seed: int) -> None:
        world, line, arrived = a_line(seed)
        line.hold()
        line.send(1)
        world.run(5.0)
        assert arrived == []
        line.release()
        world.run(10.0)
        assert arrived == [1]

    def test_copies_come_behind_and_nothing_else_changes(self, seed: int) -> None:
        world, line, arrived = a_line(seed, copies=1.0)
        for number in range(5):
            line.send(number)
        world.run(30.0)
        assert sorted(arrived) == sorted([*range(5)] * 2)
        assert list(dict.fromkeys(arrived)) == list(range(5))

    def test_only_a_line_that_is_mended_has_holes(self, seed: int) -> None:
        for mended in (True, False):
            world, line, arrived = a_line(seed, mended=mended, loss=0.5)
            for number in range(40):
                line.send(number)
            world.run(10.0)
            assert (len(arrived) < 40) == mended
            assert arrived == sorted(arrived)


class Echo:
    """A core that says everything twice, and beats every second."""

    def __init__(self) -> None:
        self.deadline = 1.0

    def handle(self, event: str, now: float) -> Sequence[str]:
        if event == "due":
            self.deadline = now + 1.0
            return ["beat"]
        return [] if event == "drained" else [f"{event} one", f"{event} two"]

    def next_deadline(self) -> float | None:
        return self.deadline


class EchoProcess(Process[str, str]):
    drained = "drained"
    due = "due"

    def __init__(self, world: World) -> None:
        super().__init__(world, "echo")
        self.said: list[tuple[float, str]] = []
        self.deaths = 0
        self.on_death = self._count

    def boot(self) -> Echo:
        return Echo()

    def perform(self, action: str) -> Iterable[str]:
        self.said.append((round(self.world.now, 2), action))
        return ()

    def _count(self, name: str) -> None:
        self.deaths += 1

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.said if word != "beat"]


def an_echo() -> tuple[World, EchoProcess]:
    world = World(0)
    process = EchoProcess(world)
    process.start()
    return world, process


class TestProcess:
    def test_it_takes_turns_and_keeps_its_deadlines(self) -> None:
        world, process = an_echo()
        process.receive("a")
        world.run(2.5)
        assert process.said == [(0.0, "a one"), (0.0, "a two"), (1.0, "beat"), (2.0, "beat")]

    @pytest.mark.parametrize(("steps", "said"), [(0, []), (1, ["a one"]), (3, ["a one", "a two", "b one"])])
    def test_it_can_be_killed_at_any_step(self, steps: int, said: list[str]) -> None:
        world, process = an_echo()
        process.doom(steps)
        process.receive("a")
        process.receive("b")
        world.run(5.0)
        assert process.words == said
        assert process.deaths == 1
        assert not process.up

    def test_its_inbox_dies_with_it(self) -> None:
        world, process = an_echo()
        process.receive("a")
        process.kill()
        process.receive("b")
        process.start()
        process.receive("c")
        world.run(0.5)
        assert process.words == ["c one", "c two"]

    def test_what_was_to_wake_a_dead_process_does_not_wake_its_successor(self) -> None:
        world, process = an_echo()
        world.run(0.5)
        process.kill()
        process.start()
        world.run(0.9)
        process.kill()
        process.start()
        world.run(1.2)
        assert process.said == [(1.0, "beat")]

    def test_a_stopped_process_wakes_late_and_reads_before_its_deadline_fires(self) -> None:
        world, process = an_echo()
        world.run(0.5)
        process.pause(3.0)
        process.receive("a")
        world.run(3.4)
        assert process.said == []
        world.run(3.6)
        assert process.said == [(3.5, "a one"), (3.5, "a two"), (3.5, "beat")]

    def test_one_that_is_spared_lives_and_goes_on(self) -> None:
        world, process = an_echo()
        process.doom(0)
        process.pause(100.0)
        process.receive("a")
        process.spare()
        world.run(0.5)
        assert process.words == ["a one", "a two"]
