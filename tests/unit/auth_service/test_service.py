"""The worker as a process, over real sockets: a broker's ROUTER, CURVE, SIGTERM, `kill -9`, a broker that restarts."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import zmq

from auth_service.settings import Settings
from restante.wire import auth_link, links
from restante.wire.auth_link import Ask, Beat, FromWorker, Leaving, Question, Ready, Told, Who
from runtime import keys, sockets
from runtime.ipc import private_ipc_dir
from runtime.settings import CANT_START
from runtime.sockets import Socket
from runtime.zap import Enrolled, Zap
from tests.unit.auth_service.bench import code, got, op

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20.0
T = TypeVar("T", bound=FromWorker)

REGISTER = auth_link.MakeAccount(op=op(1), name="Alice", password="a password")
LOG_IN = auth_link.LogIn(op=op(2), name="alice", password="a password", device="desk")


class Broker:
    """A broker made by hand: a ROUTER that asks whoever said something last."""

    def __init__(self, context: zmq.Context[Socket], endpoint: str, server: sockets.Server | None = None) -> None:
        self.socket = sockets.worker_router(context)
        self.endpoint = sockets.bind(self.socket, endpoint, server)
        self.curve = server is not None
        self.peer = b""
        self._n = 0

    def say(self, header: auth_link.ToWorker) -> None:
        assert sockets.send_now(self.socket, [self.peer, *links.auth_frames(header)])

    def hear(self, kind: type[T], within_s: float = DEADLINE_S) -> T:
        """The next header of that kind; others are passed over."""
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not self.socket.poll(round(left_s * 1000) + 1):
                break
            routed = sockets.receive_routed(self.socket, curve=self.curve)
            assert routed is not None
            header, _ = links.from_auth_worker.read(routed.frames)
            self.peer = routed.routing_id
            if isinstance(header, kind):
                return header
        raise AssertionError(f"no {kind.__name__} within {within_s} s")

    def ask(self, question: Question) -> auth_link.Outcome:
        """Ask, and wait for the answer."""
        self._n += 1
        self.say(Ask(n=self._n, question=question))
        told = self.hear(Told)
        assert told.n == self._n
        return told.outcome

    def close(self) -> None:
        self.socket.close(0)


class Worker:
    """The worker's process."""

    def __init__(self, *args: str, inherited: tuple[int, ...] = ()) -> None:
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "auth_service", *args, "--threads", "2", "--notify-fd", str(writer)],
            pass_fds=(writer, *inherited),
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        os.close(writer)
        self.notes = reader

    def ended(self) -> tuple[int, str]:
        """Its exit code and its log, once it has ended."""
        _, log = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, log

    def close(self) -> None:
        os.close(self.notes)
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    context = sockets.make_context()
    yield context
    context.destroy(0)


@pytest.fixture
def ipc() -> Iterator[str]:
    """A short place for a socket."""
    directory = private_ipc_dir()
    yield f"ipc://{directory}/workers"
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


@pytest.fixture
def broker(context: zmq.Context[Socket], ipc: str) -> Iterator[Broker]:
    broker = Broker(context, ipc)
    yield broker
    broker.close()


@pytest.fixture
def start(tmp_path: Path, ipc: str) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        yield Start(stack, tmp_path / "data", ipc)


class Start(msgspec.Struct):
    """Starts workers on one database, over ipc unless told otherwise; ends them with the test."""

    stack: contextlib.ExitStack
    data: Path
    broker: str

    def __call__(self, *args: str, broker: str = "", inherited: tuple[int, ...] = ()) -> Worker:
        worker = Worker("--data", str(self.data), "--broker", broker or self.broker, *args, inherited=inherited)
        self.stack.callback(worker.close)
        return worker


def test_it_says_ready_answers_and_beats(broker: Broker, start: Start) -> None:
    worker = start()
    ready = broker.hear(Ready)
    assert len(ready.worker) == 16
    assert select.select([worker.notes], [], [], DEADLINE_S)[0]
    assert msgspec.json.decode(os.read(worker.notes, 4096)) == {"ready": True}
    made = broker.ask(REGISTER)
    assert made == auth_link.AccountMade(account=1, name="alice")
    token = got(auth_link.TokenMade, broker.ask(LOG_IN))
    valid = got(auth_link.TokenValid, broker.ask(auth_link.UseToken(token=token.token)))
    assert (valid.account, valid.token_id) == (1, token.token_id)
    assert code(broker.ask(auth_link.UseToken(token=bytes(32)))) == "bad_token"
    broker.hear(Beat)


def test_who_resumes_does_not_wait_behind_those_who_log_in(broker: Broker, start: Start) -> None:
    start()
    broker.hear(Ready)
    broker.ask(REGISTER)
    for n in range(100, 120):
        broker.say(Ask(n=n, question=auth_link.LogIn(op=op(n), name="nobody", password="a password")))
    broker.say(Ask(n=200, question=auth_link.UseToken(token=bytes(32))))
    order = [broker.hear(Told).n for _ in range(21)]
    assert sorted(order) == [*range(100, 120), 200]
    assert order.index(200) < 10


def test_what_is_no_envelope_does_not_end_it(broker: Broker, start: Start) -> None:
    start()
    broker.hear(Ready)
    for frames in ([b""], [b"AUTH/1"], [b"AUTH/1", b"\xc1"], [b"AUTH/9", b"\x80"], [b"AUTH/1", b"\x80"], [b"x"] * 50):
        assert sockets.send_now(broker.socket, [broker.peer, *frames])
    assert broker.ask(REGISTER) == auth_link.AccountMade(account=1, name="alice")


def test_after_kill_9_another_answers_the_same(broker: Broker, start: Start) -> None:
    first = start()
    broker.hear(Ready)
    made, token = broker.ask(REGISTER), broker.ask(LOG_IN)
    first.process.kill()
    first.process.wait(DEADLINE_S)
    start()
    broker.hear(Ready)
    assert broker.ask(REGISTER) == made
    assert broker.ask(LOG_IN) == token
    got(auth_link.TokenValid, broker.ask(auth_link.UseToken(token=got(auth_link.TokenMade, token).token)))


def test_a_stopped_worker_that_wakes_spoils_nothing(broker: Broker, start: Start) -> None:
    stopped = start()
    broker.hear(Ready)
    broker.ask(REGISTER)
    stopped_peer = broker.peer
    stopped.process.send_signal(signal.SIGSTOP)
    broker.say(Ask(n=500, question=LOG_IN))
    start()
    broker.hear(Ready)
    assert broker.peer != stopped_peer
    token = got(auth_link.TokenMade, broker.ask(LOG_IN))
    stopped.process.send_signal(signal.SIGCONT)
    late = broker.hear(Told)
    assert late == Told(n=500, outcome=token)
    got(auth_link.TokenValid, broker.ask(auth_link.UseToken(token=token.token)))


def test_a_broker_that_restarts_is_told_ready_when_it_asks_who(
    context: zmq.Context[Socket], broker: Broker, start: Start
) -> None:
    start()
    ready = broker.hear(Ready)
    broker.ask(REGISTER)
    broker.close()
    again = Broker(context, broker.endpoint)
    again.hear(Beat)
    again.say(Who())
    assert again.hear(Ready) == ready
    assert again.ask(REGISTER) == auth_link.AccountMade(account=1, name="alice")
    again.close()


def test_sigterm_finishes_what_is_in_hand(broker: Broker, start: Start) -> None:
    worker = start()
    broker.hear(Ready)
    broker.ask(REGISTER)
    for n in range(100, 116):
        broker.say(Ask(n=n, question=auth_link.LogIn(op=op(n), name="alice", password="a password")))
    broker.hear(Told)
    worker.process.terminate()
    outcomes = [broker.hear(Told).outcome for _ in range(15)]
    assert {type(outcome) for outcome in outcomes} == {auth_link.TokenMade}
    assert worker.ended()[0] == 0


def test_one_that_stops_says_so(broker: Broker, start: Start) -> None:
    worker = start()
    broker.hear(Ready)
    worker.process.terminate()
    broker.hear(Leaving)
    assert worker.ended()[0] == 0


def test_it_ends_when_its_supervisor_is_gone(broker: Broker, start: Start) -> None:
    lifeline, supervisors = os.pipe()
    worker = start("--lifeline-fd", str(lifeline), inherited=(lifeline,))
    os.close(lifeline)
    broker.hear(Ready)
    os.close(supervisors)
    assert worker.ended()[0] == 0


class TestCurve:
    @pytest.fixture
    def deployment(self, tmp_path: Path) -> Path:
        keys.make_all(tmp_path / "keys")
        return tmp_path / "keys"

    @pytest.fixture
    def secure(self, context: zmq.Context[Socket], deployment: Path) -> Iterator[Broker]:
        with Zap(context, {"workers": Enrolled(deployment / "broker", "auth")}):
            server = sockets.Server(keys.load(deployment / "broker"), "workers")
            broker = Broker(context, "tcp://127.0.0.1:0", server)
            yield broker
            broker.close()

    def test_an_enrolled_worker_serves_over_tcp(self, secure: Broker, start: Start, deployment: Path) -> None:
        start("--keys", str(deployment / "auth"), broker=secure.endpoint)
        secure.hear(Ready)
        assert secure.ask(REGISTER) == auth_link.AccountMade(account=1, name="alice")

    def test_one_that_is_not_enrolled_is_not_heard(
        self, secure: Broker, start: Start, deployment: Path, tmp_path: Path
    ) -> None:
        stranger = tmp_path / "stranger"
        keys.load_or_make(stranger)
        keys.enrol(stranger, "broker", keys.load(deployment / "broker").public)
        start("--keys", str(stranger), broker=secure.endpoint)
        start("--keys", str(deployment / "auth"), broker=secure.endpoint)
        enrolled = secure.hear(Ready)
        until = time.monotonic() + 2
        while (left_s := until - time.monotonic()) > 0:
            with contextlib.suppress(AssertionError):
                assert secure.hear(Ready, left_s) == enrolled

    def test_tcp_without_keys_is_refused(self, start: Start) -> None:
        status, said = start(broker="tcp://127.0.0.1:9").ended()
        assert status == CANT_START
        assert "Give --keys" in said

    def test_keys_that_are_not_there_are_named(self, start: Start, tmp_path: Path) -> None:
        status, said = start("--keys", str(tmp_path / "none"), broker="tcp://127.0.0.1:9").ended()
        assert status == CANT_START
        assert str(tmp_path / "none") in said


class TestCannotStart:
    def test_a_directory_that_is_none(self, start: Start) -> None:
        start.data.write_text("a file")
        status, said = start().ended()
        assert status == CANT_START
        assert "Make it a directory that this user can write in" in said
        assert "Traceback" not in said

    def test_a_database_that_is_damaged(self, start: Start) -> None:
        start.data.mkdir()
        (start.data / "accounts.db").write_bytes(b"damaged " * 4_096)
        status, said = start().ended()
        assert status == CANT_START
        assert "Restore it from a backup" in said
        assert "Traceback" not in said

    def test_an_endpoint_that_is_none(self, start: Start) -> None:
        status, said = start(broker="http://example").ended()
        assert status == CANT_START
        assert "is no endpoint" in said


def test_settings_have_bounds() -> None:
    with pytest.raises(msgspec.ValidationError, match="threads"):
        msgspec.convert({"data": "/d", "broker": "ipc:///b", "threads": 65}, Settings, dec_hook=lambda t, v: t(v))
