"""The supervisor, with real children that do little, real signals and a real lock."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from runtime import logging
from runtime.errors import SetupError
from runtime.supervisor import ChildSpec, Policy, Supervisor, take_lock
from tests.unit.runtime.support import DEADLINE_S, is_alive, python, wait_for

#: A child: reports its process id and arguments, then stops by its lifeline or by SIGTERM, and says which.
CHILD = """
import os, sys
from runtime.lifeline import Notifier
from runtime.loop import Loop
from runtime.settings import load
import msgspec

class Settings(msgspec.Struct, frozen=True):
    name: str
    lifeline_fd: int
    notify_fd: int
    port: int = 0
    log: str = "/dev/null"

settings = load(Settings, "child", sys.argv[1:], {})

class Core:
    def handle(self, event, now):
        return [event]
    def next_deadline(self):
        return None

def perform(event):
    if event == "stop":
        with open(settings.log, "a") as log:
            log.write(settings.name + "\\n")
        loop.end()
    if event == "ready":
        Notifier(settings.notify_fd).note(ready=True, pid=os.getpid(), port=settings.port)
    return ()

loop = Loop(Core(), (), perform, due="due", stop="stop", lifeline=settings.lifeline_fd)
print("child speaks", file=sys.stderr, flush=True)
loop.post("ready")  # handled once the loop runs, and so takes signals
loop.run()
"""

CRASHES = "import sys; print('first words', flush=True); sys.exit('the disk is made of cheese')"
MISCONFIGURED = "import sys; print('child: the port is in use.', file=sys.stderr); sys.exit(78)"
#: Gets ready once; whoever starts it again finds that it can't start.
READY_ONCE = """
import os, pathlib, sys
mark = pathlib.Path(sys.argv[1])
if mark.exists():
    sys.exit(78)
mark.touch()
os.write(int(sys.argv[-1]), b'{"ready": true}\\n')
sys.exit(1)
"""
STUBBORN = (
    "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "os.write(int(sys.argv[-1]), b'{\"ready\": true}\\n');"
    "os.read(int(sys.argv[-3]), 1)"
)
QUICK = Policy(backoff_min_s=0.01, backoff_max_s=0.02, stop_s=5.0)


def child(name: str, *args: str, code: str = CHILD, after: tuple[str, ...] = ()) -> ChildSpec:
    argv = [sys.executable, "-P", "-c", code]
    if code is CHILD:
        argv += ["--name", name, *args]
    root = str(Path(__file__).parents[3])
    return ChildSpec(name, argv, after=after, env={**os.environ, "PYTHONPATH": root})


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    logging.configure("supervisor")
    yield
    structlog.reset_defaults()


class Running:
    """A supervisor in a thread of the test, and what its children reported."""

    def __init__(self, supervisor: Supervisor, notes: list[tuple[str, dict[str, Any]]]) -> None:
        self.supervisor, self.notes = supervisor, notes
        self.exit_code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.exit_code = self.supervisor.run()

    def ready(self, name: str) -> list[dict[str, Any]]:
        return [note for who, note in self.notes if who == name and note.get("ready")]

    def wait(self) -> int:
        self.thread.join(DEADLINE_S)
        assert self.exit_code is not None, "the supervisor didn't end"
        return self.exit_code


@contextmanager
def supervised(lock: Path, *children: ChildSpec, **options: Any) -> Iterator[Running]:
    notes: list[tuple[str, dict[str, Any]]] = []
    descriptor = take_lock(lock)
    options.setdefault("policy", QUICK)
    supervisor = Supervisor(children, descriptor, on_note=lambda name, note: notes.append((name, note)), **options)
    running = Running(supervisor, notes)
    try:
        yield running
    finally:
        supervisor.stop() if running.exit_code is None else None
        running.thread.join(DEADLINE_S)
        os.close(descriptor)


def test_notes_are_passed_on_and_stopping_ends_all_in_reverse_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    names = ("store", "auth", "broker")
    with supervised(tmp_path / "lock", *(child(name, "--log", str(log)) for name in names)) as running:
        wait_for(lambda: all(running.ready(name) for name in names), "three ready children")
        running.supervisor.stop()
        assert running.wait() == 0
    assert log.read_text().split() == ["broker", "auth", "store"]
    assert not any(is_alive(note["pid"]) for _, note in running.notes)


def test_a_killed_child_is_started_again_with_the_arguments_of_the_moment(tmp_path: Path) -> None:
    ports: dict[str, str] = {}

    def args_for(name: str) -> list[str]:
        return ["--port", ports[name]] if name in ports else []

    with supervised(tmp_path / "lock", child("broker"), args_for=args_for) as running:
        wait_for(lambda: len(running.ready("broker")) == 1, "a first start")
        ports["broker"] = "5571"
        os.kill(running.ready("broker")[0]["pid"], signal.SIGKILL)
        wait_for(lambda: len(running.ready("broker")) == 2, "a second start")
        first, second = running.ready("broker")
        assert first["pid"] != second["pid"]
        assert (first["port"], second["port"]) == (0, 5571)


def test_a_child_that_needs_another_starts_after_it_is_ready(tmp_path: Path) -> None:
    children = [child("auth", after=("broker",)), child("broker")]
    with supervised(tmp_path / "lock", *children) as running:
        wait_for(lambda: bool(running.ready("auth")), "the second")
        assert [name for name, _ in running.notes] == ["broker", "auth"]


def test_a_crash_loop_ends_all_non_zero_with_its_last_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with supervised(tmp_path / "lock", child("store"), child("auth", code=CRASHES)) as running:
        assert running.wait() == 1
        pids = [note["pid"] for note in running.ready("store")]
    shown = capfd.readouterr()
    assert "auth can't be kept running (exit code 1). Its last words:\n" in shown.err
    assert "  first words\n  the disk is made of cheese\n" in shown.err
    assert shown.out == "", "stdout is the command's own"
    assert not any(is_alive(pid) for pid in pids)


def test_one_that_cannot_start_as_it_is_configured_ends_all_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    patient = Policy(backoff_min_s=600.0)  # a restart would take longer than the test
    with supervised(tmp_path / "lock", child("auth", code=MISCONFIGURED), child("store"), policy=patient) as running:
        assert running.wait() == 1
        assert running.supervisor.unable == "auth"
    shown = capfd.readouterr().err
    assert shown.count("the port is in use") == 1
    assert "the auth can't start as it is configured" in shown


def test_one_that_had_been_ready_is_tried_again_whatever_it_says(tmp_path: Path) -> None:
    """A restarted broker may have to wait for its port."""
    spec = child("broker", code=READY_ONCE)
    spec = ChildSpec("broker", [*spec.argv, str(tmp_path / "mark")], env=spec.env)
    with supervised(tmp_path / "lock", spec) as running:
        assert running.wait() == 1
        assert len(running.ready("broker")) == 1
        assert running.supervisor.unable == "", "it was a crash loop in the end"


def test_a_program_that_is_not_there_is_a_crash_loop_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with supervised(tmp_path / "lock", ChildSpec("auth", ["/nowhere/at/all"])) as running:
        assert running.wait() == 1
    assert "/nowhere/at/all: No such file or directory" in capfd.readouterr().err


def test_one_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    policy = Policy(stop_s=0.05)
    with supervised(tmp_path / "lock", child("mule", code=STUBBORN), policy=policy) as running:
        wait_for(lambda: bool(running.ready("mule")), "a ready mule")
        running.supervisor.stop()
        assert running.wait() == 1


def test_what_children_write_is_passed_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with supervised(tmp_path / "lock", child("broker")) as running:
        wait_for(lambda: bool(running.ready("broker")), "a ready child")
        running.supervisor.stop()
        running.wait()
    assert "child speaks\n" in capfd.readouterr().err


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    descriptor = take_lock(tmp_path / "data/lock")
    with pytest.raises(SetupError, match=f"process id {os.getpid()}"):
        take_lock(tmp_path / "data/lock")
    os.close(descriptor)
    os.close(take_lock(tmp_path / "data/lock"))


def test_a_lock_is_waited_for_if_asked(tmp_path: Path) -> None:
    descriptor = take_lock(tmp_path / "lock")
    timer = threading.Timer(0.05, os.close, (descriptor,))
    timer.start()
    os.close(take_lock(tmp_path / "lock", wait_s=DEADLINE_S))
    timer.join()


#: A `chat serve` in small: two children, notes on stdout.
SERVE = """
import json, os, sys
from pathlib import Path
from runtime.child import ChildSpec
from runtime import logging
from runtime.supervisor import Supervisor, take_lock

logging.configure("supervisor", style="json")
lock = take_lock(Path(sys.argv[1]))
children = [
    ChildSpec(name, [sys.executable, "-P", "-c", sys.argv[2], "--name", name]) for name in ("store", "broker")
]
note = lambda name, note: print(json.dumps([name, note["pid"]]), flush=True)
sys.exit(Supervisor(children, lock, on_note=note).run())
"""


@contextmanager
def serving(lock: Path, code: str = CHILD) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """A supervisor in a process of its own, and its children's process ids."""
    with python(SERVE, str(lock), code, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = dict(json.loads(process.stdout.readline()) for _ in range(2))
        yield process, pids


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "lock") as (process, pids):
        process.send_signal(number)
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
        assert not any(is_alive(pid) for pid in pids.values())
    told = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    ours = [(one["event"], one.get("why") or one.get("child")) for one in told if one["service"] == "supervisor"]
    assert ours == [
        ("stopping", number.name),
        ("stopping a service", "broker"),
        ("service stopped", "broker"),
        ("stopping a service", "store"),
        ("service stopped", "store"),
        ("stopped", None),
    ]


def test_a_killed_supervisor_takes_its_children_along_and_the_lock_outlives_it_until_then(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "lock") as (process, pids):
        os.kill(pids["store"], signal.SIGSTOP)  # this one can't end yet
        process.kill()
        process.wait(DEADLINE_S)
        wait_for(lambda: not is_alive(pids["broker"]), "the other child's end")
        with pytest.raises(SetupError, match="which is gone, are ending"):
            take_lock(tmp_path / "lock")
        os.kill(pids["store"], signal.SIGCONT)
        wait_for(lambda: not is_alive(pids["store"]), "the last child's end")
        os.close(take_lock(tmp_path / "lock", wait_s=DEADLINE_S))


def test_ctrl_c_on_the_terminal_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "lock") as (process, pids):
        assert all(os.getsid(pid) == pid for pid in pids.values())
        assert os.getsid(process.pid) == os.getsid(0)
        process.terminate()
        process.wait(DEADLINE_S)
