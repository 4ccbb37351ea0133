"""The loop: order, fairness, deadlines, posting, stopping. Cores are recorders; sockets are real."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import zmq

from runtime import loop as loop_module
from runtime import sockets
from runtime.loop import POSTPONED_MAX, SLICE, WAKE_MAX, Loop
from runtime.sockets import Socket
from tests.unit.runtime.support import context, python, wait_for


class Recorder:
    """A core that writes down its events, and answers each by what ``answers`` says."""

    def __init__(self, answers: dict[str, list[str]] | None = None) -> None:
        self.events: list[str] = []
        self.deadline: float | None = None
        self.answers = answers or {}

    def handle(self, event: str, now: float) -> list[str]:
        self.events.append(event)
        if event == "due":
            self.deadline = None
        return self.answers.get(event, [])

    def next_deadline(self) -> float | None:
        return self.deadline


class TextInlet:
    """Each message's first frame, as text."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def receive(self) -> str | None:
        frames = sockets.receive_now(self.socket)
        return None if frames is None else frames[0].decode()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., "Loop[str, str]"]


@pytest.fixture
def zmq_context() -> Iterator[zmq.Context[Socket]]:
    with context() as made:
        yield made


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Loop[str, str]] = []

    def make_loop(core: Recorder, *inlets: TextInlet, **options: Any) -> Loop[str, str]:
        options.setdefault("perform", lambda _action: ())
        loop = Loop(core, inlets, options.pop("perform"), due="due", stop="stop", drained="drained", **options)
        made.append(loop)
        return loop

    yield make_loop
    for loop in made:
        loop.close()


def pair(made: zmq.Context[Socket], name: str) -> tuple[Socket, TextInlet]:
    """A PUSH connected to a PULL without bound, and the PULL's inlet."""
    receiver = sockets.pull(made, hwm=0)
    sender = sockets.push(made, hwm=0)
    sockets.bind(receiver, f"inproc://{name}")
    sockets.connect(sender, f"inproc://{name}")
    return sender, TextInlet(receiver)


def test_what_arrived_is_handled_in_order_and_drained_follows_once(
    make: Make, zmq_context: zmq.Context[Socket]
) -> None:
    sender, inlet = pair(zmq_context, "a")
    core = Recorder()
    for n in range(3):
        sender.send_string(str(n))
    make(core, inlet).turn()
    assert core.events == ["0", "1", "2", "drained"]


def test_nothing_arrived_means_nothing_drained(make: Make, zmq_context: zmq.Context[Socket]) -> None:
    _, inlet = pair(zmq_context, "a")
    core, clock = Recorder(), Clock()
    core.deadline = clock.now + 0.001
    make(core, inlet, clock=clock).turn()
    assert core.events == []


def test_actions_are_performed_in_order_and_their_consequences_come_before_anything_new(
    make: Make, zmq_context: zmq.Context[Socket]
) -> None:
    sender, inlet = pair(zmq_context, "a")
    core = Recorder({"first": ["send 1", "send 2"], "unreachable 1": ["forget 1"]})
    performed: list[str] = []

    def perform(action: str) -> Iterable[str]:
        performed.append(action)
        return ["unreachable 1"] if action == "send 1" else ()

    sender.send_string("first")
    sender.send_string("second")
    make(core, inlet, perform=perform).turn()
    assert performed == ["send 1", "send 2", "forget 1"]
    assert core.events == ["first", "unreachable 1", "second", "drained"]


def test_a_flood_on_one_inlet_takes_turns_with_the_others(make: Make, zmq_context: zmq.Context[Socket]) -> None:
    flood, flooded = pair(zmq_context, "flood")
    quiet, quietly = pair(zmq_context, "quiet")
    for _ in range(WAKE_MAX * 2):
        flood.send_string("flood")
    quiet.send_string("quiet")
    core = Recorder()
    make(core, flooded, quietly).turn()
    assert core.events.index("quiet") <= SLICE
    assert core.events.count("flood") == WAKE_MAX, "one wake-up is bounded"
    assert core.events[-1] == "drained"


def test_sockets_are_drained_before_a_deadline_fires_and_its_batch_is_closed_too(
    make: Make, zmq_context: zmq.Context[Socket]
) -> None:
    sender, inlet = pair(zmq_context, "a")
    core, clock = Recorder(), Clock()
    core.deadline = clock.now
    sender.send_string("arrived")
    make(core, inlet, clock=clock).turn()
    assert core.events == ["arrived", "drained", "due", "drained"]


def test_a_core_that_is_due_from_the_start_is_not_late(make: Make, zmq_context: zmq.Context[Socket]) -> None:
    _, inlet = pair(zmq_context, "a")
    core = Recorder()
    core.deadline = 0.0
    make(core, inlet, clock=Clock()).turn()
    assert core.events == ["due", "drained"]


def test_a_deadline_that_passed_while_the_process_was_stopped_lets_late_arrivals_go_first(
    make: Make, zmq_context: zmq.Context[Socket]
) -> None:
    sender, inlet = pair(zmq_context, "a")
    core, clock = Recorder(), Clock()
    core.deadline = clock.now
    loop = make(core, inlet, clock=clock)
    clock.now += 60
    loop.turn()
    assert core.events == [], "the I/O threads were stopped too: they get time first"
    sender.send_string("arrived late")
    for _ in range(POSTPONED_MAX):
        loop.turn()
    assert core.events == ["arrived late", "drained", "due", "drained"]


def test_a_flood_without_end_holds_a_deadline_back_for_some_turns_only(
    make: Make, zmq_context: zmq.Context[Socket]
) -> None:
    sender, inlet = pair(zmq_context, "a")
    core, clock = Recorder(), Clock()
    core.deadline = clock.now
    loop = make(core, inlet, clock=clock)
    for turn in range(POSTPONED_MAX + 1):
        assert "due" not in core.events, turn
        for _ in range(WAKE_MAX + 1):
            sender.send_string("flood")
        loop.turn()
    assert "due" in core.events


def test_inlets_come_and_go_while_it_runs(make: Make, zmq_context: zmq.Context[Socket]) -> None:
    first_sender, first = pair(zmq_context, "first")
    second_sender, second = pair(zmq_context, "second")
    core = Recorder({"leave": ["leave"]})

    def perform(_action: str) -> tuple[str, ...]:
        loop.remove(first)
        first.socket.close()
        loop.add(second)
        return ()

    loop = make(core, first, perform=perform)
    first_sender.send_string("leave")
    first_sender.send_string("never read")
    second_sender.send_string("read")
    loop.turn()
    loop.turn()
    assert core.events == ["leave", "drained", "read", "drained"]


def test_posting_from_another_thread_wakes_it(make: Make) -> None:
    core = Recorder({"posted": ["end"]})

    def perform(_action: str) -> Iterable[str]:
        loop.end()
        return ()

    loop = make(core, perform=perform)
    thread = threading.Thread(target=loop.post, args=("posted",))
    thread.start()
    assert loop.run() is True
    thread.join()
    assert core.events[0] == "posted"


def test_posting_after_the_end_touches_no_descriptor() -> None:
    loop = Loop(Recorder(), (), lambda _action: (), due="due", stop="stop")
    loop.close()
    reader, writer = os.pipe()  # takes the numbers that the loop's pipe had
    loop.post("late")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.close(reader)
    os.close(writer)


def test_stop_is_told_once_and_the_core_ends_the_loop(make: Make) -> None:
    core = Recorder({"stop": ["finish"], "finished": ["end"]})

    def perform(action: str) -> Iterable[str]:
        if action == "end":
            loop.end()
            return ()
        loop.stop()  # told again
        loop.post("finished")
        return ()

    loop = make(core, perform=perform)
    loop.stop()
    assert loop.run() is True
    assert core.events == ["stop", "finished", "drained"] or core.events == [
        "stop", "drained", "finished", "drained",
    ]  # fmt: skip


def test_a_core_that_never_ends_is_ended_when_the_grace_is_over(make: Make) -> None:
    core = Recorder()
    loop = make(core, grace_s=0.01)
    loop.stop()
    assert loop.run() is False
    assert core.events == ["stop", "drained"]


def test_the_end_of_the_lifeline_stops_it(make: Make) -> None:
    reader, writer = os.pipe()
    core = Recorder({"stop": ["end"]})

    def perform(_action: str) -> Iterable[str]:
        loop.end()
        return ()

    loop = make(core, lifeline=reader, perform=perform)
    os.close(writer)
    assert loop.run() is True
    assert core.events[0] == "stop"
    os.close(reader)


def test_failures_that_answer_failures_without_end_are_a_bug_that_shows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "CONSEQUENCES_MAX", 10)
    loop = make(Recorder({"failed": ["try"]}), perform=lambda _action: ["failed"])
    loop.post("failed")
    with pytest.raises(AssertionError, match="without end"):
        loop.turn()


PROGRAM = """
import sys
from runtime import logging
from runtime.loop import Loop
logging.configure("program", style="json")

class Core:
    def handle(self, event, now):
        print(event, flush=True)
        return ["end"] if sys.argv[1] == "obeys" and event == "stop" else []
    def next_deadline(self):
        return None

loop = Loop(Core(), (), lambda action: loop.end() or (), due="due", stop="stop", grace_s=600)
loop.post("ready")
sys.exit(0 if loop.run() else 3)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_in_hand_and_the_log_says_which(number: signal.Signals) -> None:
    with python(PROGRAM, "obeys", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout.read() == "stop\n"
        stopping, stopped = map(json.loads, process.stderr.read().splitlines())
        assert (stopping["event"], stopping["why"]) == ("stopping", number.name)
        assert (stopped["event"], stopped["finished"]) == ("stopped", True)


def test_a_second_signal_ends_at_once() -> None:
    with python(PROGRAM, "hangs", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stop\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 3


def test_signals_are_given_back_and_other_threads_may_run_a_loop(make: Make) -> None:
    before = signal.getsignal(signal.SIGTERM)
    loop = make(Recorder(), grace_s=0.01)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(loop.run()))
    thread.start()
    loop.stop()
    wait_for(lambda: bool(ended), "the loop's end")
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
