"""The control socket: one backup at a time, signs of life, and what happens when either end goes away."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from runtime import control, sockets
from runtime.control import BackUp, BackupFailed, Control, Done, Facts, Hello, Job, Progress, Refused, Unanswered, ask
from runtime.errors import SetupError
from runtime.ipc import private_ipc_dir
from tests.unit.runtime.support import DEADLINE_S, context, wait_for


class Worker:
    """A backup that goes on until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.fails: Exception | None = None
        self.ended: str = ""

    def __call__(self, path: Path, job: Job) -> Facts:
        self.begun.set()
        done = 0
        try:
            while not self.may_end.wait(0.01):
                job.report(done := done + 1, 1_000)
        except BackupFailed as failed:
            self.ended = failed.code
            raise
        if self.fails is not None:
            raise self.fails
        self.ended = "well"
        return {"path": str(path)}


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def endpoint(worker: Worker) -> Iterator[str]:
    """A control socket that serves."""
    run = private_ipc_dir()
    try:
        with context() as made, contextlib.closing(Control(made, f"ipc://{run}/control.sock", worker)):
            yield f"ipc://{run}/control.sock"
    finally:
        for file in run.iterdir():
            file.unlink()
        run.rmdir()


@contextlib.contextmanager
def asked(endpoint: str, request: control.Request) -> Iterator[sockets.Socket]:
    """An asker that doesn't wait, and is gone at the block's end."""
    with context() as made:
        socket = sockets.worker_dealer(made)
        sockets.connect(socket, endpoint)
        socket.send_multipart([control.PROTOCOL, msgspec.json.encode(request)])
        yield socket


def heard(socket: sockets.Socket) -> control.Reply:
    assert socket.poll(int(DEADLINE_S * 1000))
    frames = socket.recv_multipart()
    assert frames[0] == control.PROTOCOL
    return control.parse_reply(frames[1])


def test_a_backup_is_made_where_it_was_asked_for(endpoint: str, worker: Worker) -> None:
    worker.may_end.set()
    assert ask(endpoint, BackUp("/somewhere")) == {"path": "/somewhere"}


def test_the_asker_hears_how_far_it_is(endpoint: str, worker: Worker) -> None:
    told: list[Progress] = []

    def hear(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 3:
            worker.may_end.set()

    ask(endpoint, BackUp("/x"), on_progress=hear)
    assert [one.total for one in told[1:]] == [1_000] * (len(told) - 1)
    assert told[1].done < told[2].done


def test_a_failure_is_told_with_its_code_and_the_next_may_succeed(endpoint: str, worker: Worker) -> None:
    worker.may_end.set()
    worker.fails = BackupFailed("storage_full", "no room")
    with pytest.raises(BackupFailed, match="no room") as failure:
        ask(endpoint, BackUp("/x"))
    assert failure.value.code == "storage_full"
    worker.fails = None
    assert ask(endpoint, BackUp("/x")) == {"path": "/x"}


def test_a_bug_in_the_worker_is_told_too(endpoint: str, worker: Worker) -> None:
    worker.may_end.set()
    worker.fails = ZeroDivisionError("oh")
    with pytest.raises(BackupFailed, match="ZeroDivisionError") as failure:
        ask(endpoint, BackUp("/x"))
    assert failure.value.code == "internal"


def test_while_one_is_made_another_is_refused_and_hello_is_answered(endpoint: str, worker: Worker) -> None:
    with asked(endpoint, BackUp("/one")) as first:
        assert worker.begun.wait(DEADLINE_S)
        with pytest.raises(BackupFailed) as failure:
            ask(endpoint, BackUp("/two"))
        assert failure.value.code == "busy"
        assert ask(endpoint, Hello()) == {"process": os.getpid()}
        worker.may_end.set()
        while isinstance(reply := heard(first), Progress):
            pass
        assert reply == Done({"path": "/one"})


def test_a_backup_that_nobody_waits_for_any_more_is_abandoned(endpoint: str, worker: Worker) -> None:
    with asked(endpoint, BackUp("/x")):
        assert worker.begun.wait(DEADLINE_S)
    wait_for(lambda: worker.ended == "abandoned", "the backup is abandoned")
    worker.may_end.set()
    wait_for(lambda: _answers(endpoint), "the next is taken")


def _answers(endpoint: str) -> bool:
    with contextlib.suppress(BackupFailed):  # busy
        return ask(endpoint, BackUp("/y")) == {"path": "/y"}
    return False


def test_closing_abandons_what_is_under_way(worker: Worker) -> None:
    run = private_ipc_dir()
    with context() as made:
        served = Control(made, f"ipc://{run}/control.sock", worker)
        with asked(f"ipc://{run}/control.sock", BackUp("/x")):
            assert worker.begun.wait(DEADLINE_S)
            served.close()
            served.close()
    assert worker.ended == "abandoned"


@pytest.mark.parametrize(
    "frames",
    [
        [b"x"],
        [control.PROTOCOL, b"\xff"],
        [control.PROTOCOL, b'{"type":"explode"}'],
        [control.PROTOCOL, b'{"type":"back_up","path":7}'],
        [b"CONTROL/9", b'{"type":"hello"}'],
        [control.PROTOCOL, b'{"type":"hello"}', b"more"],
    ],
)
def test_what_is_no_request_is_refused_and_it_serves_on(endpoint: str, frames: list[bytes]) -> None:
    with context() as made:
        socket = sockets.worker_dealer(made)
        sockets.connect(socket, endpoint)
        socket.send_multipart(frames)
        reply = heard(socket)
    assert isinstance(reply, Refused)
    assert reply.code == "bad_request"
    assert ask(endpoint, Hello())


def test_where_nobody_listens_is_told_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sock", tmp_path / ("x" * 200)):
        with pytest.raises(Unanswered, match="nobody listens"):
            ask(f"ipc://{path}", Hello())


def test_a_service_that_falls_silent_is_given_up() -> None:
    run = private_ipc_dir()
    with context() as made:
        silent = made.socket(zmq.ROUTER)
        silent.bind(f"ipc://{run}/control.sock")
        with pytest.raises(Unanswered, match="nothing was heard"):
            ask(f"ipc://{run}/control.sock", Hello(), silence_s=0.05)
        silent.close(0)


def test_it_never_leaves_the_machine_nor_lies_where_others_can_enter(tmp_path: Path, worker: Worker) -> None:
    run = private_ipc_dir()
    run.chmod(0o755)
    with context() as made:
        with pytest.raises(SetupError, match="never leaves the machine"):
            Control(made, "tcp://127.0.0.1:0", worker)
        with pytest.raises(SetupError, match="can be entered by others"):
            Control(made, f"ipc://{run}/control.sock", worker)
    run.rmdir()
