"""The store as a process: CURVE, SIGTERM, SIGKILL, and the sentences it refuses to start with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from restante.wire import links
from restante.wire.envelopes import Result
from restante.wire.store_link import (
    Answered,
    Ask,
    Batch,
    Beat,
    Closed,
    Confirmed,
    CountMailbox,
    Link,
    MailboxCounted,
    Open,
    Opened,
    PageRead,
    ReadPage,
    Stored,
)
from runtime import keys, sockets
from runtime.settings import CANT_START
from runtime.zap import Enrolled, Zap
from store_worker.journal import OutcomeUnknown
from store_worker.memory import MemoryJournal
from store_worker.service import running
from store_worker.settings import Settings
from tests.unit.store_worker.making import BOB, id_of, message, store

ROOT = Path(__file__).parents[3]
WAIT_S = 10.0
H = TypeVar("H", bound=Link)


class BrokerEnd:
    """A broker made by hand: it pushes to a store, and pulls what the store says."""

    def __init__(self, context: zmq.Context[sockets.Socket], key_dir: Path, confirms: str) -> None:
        self._context = context
        self._key_dir = key_dir
        self._keys = keys.load(key_dir)
        self._pull = sockets.pull(context)
        self.endpoint = sockets.bind(self._pull, confirms, sockets.Server(self._keys, "stores"))
        self._push: sockets.Socket | None = None

    def connect(self, endpoint: str) -> None:
        if self._push is not None:
            self._push.close(0)
        self._push = sockets.push(self._context)
        client = None
        if endpoint.startswith("tcp://"):
            client = sockets.Client(self._keys, keys.peer(self._key_dir, "store"))
        sockets.connect(self._push, endpoint, client)

    def say(self, header: Link, body: bytes = b"") -> None:
        assert self._push is not None
        assert sockets.send_now(self._push, links.store_frames(header, body))

    def hear(self, kind: type[H]) -> tuple[H, bytes]:
        """The next thing of that kind that the store says."""
        deadline = time.monotonic() + WAIT_S
        while (left_s := deadline - time.monotonic()) > 0:
            if self._pull.poll(max(1, int(left_s * 1_000))):
                header, body = links.from_store.read(self._pull.recv_multipart())
                if isinstance(header, kind):
                    return header, body
        raise AssertionError(f"the store did not say {kind.__name__}")

    def silent(self) -> bool:
        return not self._pull.poll(0)

    def open(self, nonce: int) -> Opened:
        self.say(Open(name="b", nonce=id_of(nonce)))
        return self.hear(Opened)[0]

    def store(self, opened: Opened, n: int, *numbers: int) -> list[Result]:
        """Store messages of five bytes for bob as batch n; return their results."""
        commands = [store(*(message(number) for number in numbers))]
        self.say(
            Batch(epoch=opened.epoch, name="b", generation=opened.generation, n=n, commands=list(commands)),
            b"hello" * len(numbers),
        )
        confirmed, _ = self.hear(Confirmed)
        assert confirmed.n == n
        (outcome,) = confirmed.outcomes
        assert isinstance(outcome, Stored)
        return outcome.results

    def close(self) -> None:
        for socket in (self._pull, self._push):
            if socket is not None:
                socket.close(0)


class StoreProcess:
    """`python -P -m store_worker`, ready."""

    def __init__(self, tmp_path: Path, broker: str, listen: str = "tcp://127.0.0.1:0") -> None:
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            command(tmp_path, broker, listen, notify_fd=writer),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[writer],
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as notes:
            line = notes.readline()
        assert line, self.process.communicate(timeout=WAIT_S)[1].decode()
        self.endpoint: str = msgspec.json.decode(line)["endpoint"]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=WAIT_S)
        return self.process.returncode


def command(tmp_path: Path, broker: str, listen: str, *, notify_fd: int | None = None) -> list[str]:
    places = ["--data", str(tmp_path / "data"), "--keys", str(tmp_path / "keys" / "store")]
    notify = [] if notify_fd is None else ["--notify-fd", str(notify_fd)]
    return [sys.executable, "-P", "-m", "store_worker", *places, "--listen", listen, "--broker", broker, *notify]


@pytest.fixture
def context() -> Iterator[zmq.Context[sockets.Socket]]:
    made = sockets.make_context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def broker(tmp_path: Path, context: zmq.Context[sockets.Socket]) -> Iterator[BrokerEnd]:
    """A broker with CURVE, and keys for it and for a store."""
    keys.make_all(tmp_path / "keys")
    with Zap(context, {"stores": Enrolled(tmp_path / "keys" / "broker", "store")}):
        end = BrokerEnd(context, tmp_path / "keys" / "broker", "tcp://127.0.0.1:0")
        yield end
        end.close()


@pytest.fixture
def running_store(tmp_path: Path, broker: BrokerEnd) -> Iterator[StoreProcess]:
    made = StoreProcess(tmp_path, broker.endpoint)
    broker.connect(made.endpoint)
    yield made
    if made.process.poll() is None:
        made.stop(signal.SIGKILL)


class TestServing:
    def test_what_is_stored_is_confirmed_and_read_over_curve(
        self, broker: BrokerEnd, running_store: StoreProcess
    ) -> None:
        opened = broker.open(1)
        (result,) = broker.store(opened, 1, 1)
        query = ReadPage(mailbox=BOB, limit=9, bytes_max=99)
        broker.say(Ask(epoch=opened.epoch, name="b", generation=opened.generation, n=1, query=query))
        answered, body = broker.hear(Answered)
        assert isinstance(answered.reading, PageRead)
        assert ([e.seq for e in answered.reading.entries], body) == ([result.seq], b"hello")

    def test_sigterm_ends_it_well_and_what_was_stored_is_there_again(
        self, tmp_path: Path, broker: BrokerEnd, running_store: StoreProcess
    ) -> None:
        opened = broker.open(1)
        results = broker.store(opened, 1, 1, 2, 3)
        assert running_store.stop() == 0
        again = StoreProcess(tmp_path, broker.endpoint)
        broker.connect(again.endpoint)
        reopened = broker.open(2)
        assert (reopened.epoch, reopened.generation) == (opened.epoch + 1, opened.generation + 1)
        assert (reopened.history, reopened.high) == (opened.history, results[-1].seq)
        assert again.stop() == 0

    def test_after_a_kill_the_broker_is_told_and_its_replay_doubles_nothing(
        self, tmp_path: Path, broker: BrokerEnd, running_store: StoreProcess
    ) -> None:
        opened = broker.open(1)
        first = broker.store(opened, 1, 1, 2)
        running_store.stop(signal.SIGKILL)
        again = StoreProcess(tmp_path, broker.endpoint, running_store.endpoint)
        broker.say(Beat(epoch=opened.epoch, name="b", generation=opened.generation))
        closed, _ = broker.hear(Closed)
        assert closed == Closed(epoch=opened.epoch + 1, generation=opened.generation)
        reopened = broker.open(2)
        replayed = broker.store(reopened, 1, 1, 2, 3)
        assert [(r.seq, r.again) for r in replayed[:2]] == [(r.seq, True) for r in first]
        broker.say(Ask(epoch=2, name="b", generation=2, n=1, query=CountMailbox(mailbox=BOB)))
        assert broker.hear(Answered)[0].reading == MailboxCounted(unread=3, total=3)
        assert again.stop() == 0

    def test_an_unenrolled_key_gets_nothing(
        self,
        tmp_path: Path,
        broker: BrokerEnd,
        running_store: StoreProcess,
        context: zmq.Context[sockets.Socket],
    ) -> None:
        stranger = sockets.push(context)
        monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        server_key = keys.load(tmp_path / "keys" / "store").public
        sockets.connect(stranger, running_store.endpoint, sockets.Client(keys.make_pair(), server_key))
        sockets.send_now(stranger, links.store_frames(Open(name="stranger", nonce=id_of(1))))
        assert monitor.poll(int(WAIT_S * 1_000))
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        stranger.disable_monitor()
        monitor.close(0)
        stranger.close(0)
        broker.open(1)
        assert broker.silent()
        running_store.stop()
        db = apsw.Connection(str(tmp_path / "data" / "restante.db"))
        assert db.execute("SELECT name FROM brokers").fetchall() == [("b",)]
        db.close()

    def test_garbage_from_an_enrolled_key_is_survived(self, broker: BrokerEnd, running_store: StoreProcess) -> None:
        assert broker._push is not None
        for frames in ([b"x"], [b"STORE/1", b"\xc1"], [b"STORE/1", b"\x80", b""], [b""] * 20):
            sockets.send_now(broker._push, frames)
        assert broker.open(1).generation == 1


class TestNotStarting:
    """The exit code that says that trying again is in vain, and one clear sentence."""

    def refused(self, tmp_path: Path, listen: str = "tcp://127.0.0.1:0") -> str:
        done = subprocess.run(
            command(tmp_path, "tcp://127.0.0.1:1", listen),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == CANT_START
        assert "Traceback" not in done.stderr
        return done.stderr

    def test_a_database_in_use(self, tmp_path: Path, running_store: StoreProcess) -> None:
        assert "in use by another process" in self.refused(tmp_path)
        assert running_store.process.poll() is None

    def test_a_damaged_database(self, tmp_path: Path) -> None:
        keys.make_all(tmp_path / "keys")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "restante.db").write_bytes(b"rubbish " * 1_024)
        assert "is damaged" in self.refused(tmp_path)
        assert (tmp_path / "data" / "restante.db").read_bytes() == b"rubbish " * 1_024

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        keys.make_all(tmp_path / "keys")
        (tmp_path / "data").write_text("a file where a directory should be")
        assert "Can't write" in self.refused(tmp_path)

    def test_no_brokers_key(self, tmp_path: Path) -> None:
        keys.load_or_make(tmp_path / "keys" / "store")
        assert "enrolled as broker" in self.refused(tmp_path)

    def test_an_address_in_use(self, tmp_path: Path, running_store: StoreProcess) -> None:
        (tmp_path / "other").mkdir()
        keys.make_all(tmp_path / "other" / "keys")
        assert "Can't listen" in self.refused(tmp_path / "other", running_store.endpoint)


def test_when_the_outcome_of_a_commit_is_unknown_the_store_ends_without_a_word(
    tmp_path: Path, context: zmq.Context[sockets.Socket]
) -> None:
    """RULES 9. The journal's own failures are in test_sqlite.py; here is what the service makes of them."""
    keys.make_all(tmp_path / "keys")
    with Zap(context, {}):
        broker = BrokerEnd(context, tmp_path / "keys" / "broker", f"ipc://{tmp_path}/c")
        journal, raised = MemoryJournal(), []
        settings = Settings(
            data=tmp_path, keys=tmp_path / "keys" / "store", listen=f"ipc://{tmp_path}/s", broker=broker.endpoint
        )
        with running(settings, journal) as service:

            def serve() -> None:
                try:
                    service.run()
                except OutcomeUnknown as error:
                    raised.append(error)

            thread = threading.Thread(target=serve)
            thread.start()
            broker.connect(service.endpoint)
            opened = broker.open(1)
            journal.fail_next = OutcomeUnknown("storage_failed", "fsync failed")
            broker.say(Batch(epoch=opened.epoch, name="b", generation=1, n=1, commands=[store(message(1))]), b"hello")
            thread.join(WAIT_S)
            assert not thread.is_alive()
        assert len(raised) == 1
        assert broker.silent()
        broker.close()
