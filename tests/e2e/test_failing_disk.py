"""A disk that answers EIO, under a real server: what was accepted is there when it works again, what was not is nowhere
claimed, and whoever runs the server reads what is wrong.

`tests/disk` fails a simulated disk at every write and sync; here the calls of real processes fail (failing.c).
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.local_server import isolated
from restante import Client
from restante.wire.errors import OutcomeUnknown, StorageFailed
from tests.e2e.server import Server, wait_for

SOURCE = Path(__file__).with_name("failing.c")
STORE, ACCOUNTS = "/store/restante.db", "/auth/accounts.db"

UNCACHED = 80
"""Messages of a megabyte: more than the store's cache holds, so that reading the first ones asks the disk."""

pytestmark = pytest.mark.timeout(180)


class ShakyServer(Server):
    """A server whose files can be made to fail."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._fault = folder / "fault"
        preloaded = {"LD_PRELOAD": str(library), "DISK_FAILS_FILE": str(self._fault)}
        super().__init__(folder, env={**isolated(folder), **preloaded})

    @contextmanager
    def failing(self, calls: str, where: str) -> Iterator[None]:
        """Until the end of the block these calls fail on files whose path contains that."""
        fault = self._fault.with_name("fault.new")
        fault.write_text(f"{calls} {where}")
        fault.rename(self._fault)
        try:
            yield
        finally:
            self._fault.unlink()

    def has_ended(self) -> bool:
        return not self.pids() and "the store can't be kept running" in self.log.read_text()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faults, compiled. Skips where there is no C compiler, or no preloading."""
    made = tmp_path_factory.mktemp("failing") / "failing.so"
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    command = [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"can't be compiled here: {done.stderr}")
    return made


@pytest.fixture
def server(tmp_path: Path, library: Path) -> Iterator[ShakyServer]:
    server = ShakyServer(tmp_path, library)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def ann(server: ShakyServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=60) as ann:
        ann.register("ann", "correct horse")
        ann.login("ann", "correct horse")
        yield ann


def texts(client: Client) -> list[str]:
    return [message.text for message in client.inbox(peek=True)]


@pytest.mark.parametrize("calls", ["write", "sync"])
def test_a_fault_that_passes_ends_the_store_unanswered_and_the_sender_gets_one_answer_after_it(
    server: ShakyServer, ann: Client, calls: str
) -> None:
    sent = [f"before {n}" for n in range(20)]
    for text in sent:
        ann.send("ann", text)
    pids = server.pids()
    with server.failing(calls, STORE):
        sending = Background(lambda: ann.send("ann", "meanwhile"))
        wait_for(lambda: server.pids().get("store") != pids["store"], "the store ends")
        assert not sending.is_answered(), "nobody knows what is on the disk"
    sending.end()
    assert texts(ann) == [*sent, "meanwhile"]
    assert (server.pids()["broker"], server.pids()["auth"]) == (pids["broker"], pids["auth"])
    assert "the commit failed: disk I/O error" in server.log.read_text()


@pytest.mark.parametrize("calls", ["write", "sync"])
def test_a_fault_that_stays_ends_the_server_with_a_sentence_and_nothing_accepted_is_lost(
    server: ShakyServer, calls: str
) -> None:
    sent, unsure = [f"before {n}" for n in range(20)], uuid4().bytes
    with Client(server.address, timeout_s=60) as ann:
        ann.register("ann", "correct horse")
        token = ann.login("ann", "correct horse").token
        for text in sent:
            ann.send("ann", text)
    assert token is not None
    with server.failing(calls, STORE):
        with Client(server.address, token=token, timeout_s=3) as ann, pytest.raises(OutcomeUnknown):
            ann.send("ann", "unsure", id=unsure)
        wait_for(server.has_ended, "the server ends", wait_s=90)
    server.stop()
    assert "can't be used: disk I/O error. Nothing is lost that was stored" in server.log.read_text()
    server.start()
    with Client(server.address, token=token, timeout_s=30) as ann:
        ann.send("ann", "unsure", id=unsure)
        assert texts(ann) == [*sent, "unsure"], "lost, doubled or out of order"


def test_messages_that_cannot_be_read_end_the_store_and_are_there_when_they_can(
    server: ShakyServer, ann: Client
) -> None:
    """SQLite can't tell that from a damaged file, and nor can the store: it says both."""
    for n in range(UNCACHED):
        ann.send("ann", b"%d " % n + bytes(1_000_000))
    store = server.pids()["store"]
    with server.failing("read", STORE):
        asking = Background(lambda: ann.fetch(limit=2))
        wait_for(lambda: server.pids().get("store") != store, "the store ends")
        assert not asking.is_answered()
    asking.end()
    assert [message.body.split()[0] for message in ann.inbox(peek=True)] == [b"%d" % n for n in range(UNCACHED)]
    assert "is damaged, or its disk can't read it" in server.log.read_text()


@pytest.mark.parametrize("calls", ["read", "write", "sync"])
def test_accounts_refuse_what_they_cannot_note_and_go_on_when_they_can(server: ShakyServer, calls: str) -> None:
    pids = server.pids()
    with Client(server.address, timeout_s=2) as new:
        with server.failing(calls, ACCOUNTS), pytest.raises(StorageFailed, match="nothing is known to have changed"):
            new.register("newcomer", "correct horse")
        new.register("newcomer", "correct horse")
        new.login("newcomer", "correct horse")
    assert server.pids() == pids, "it took a restart"


class Background:
    """A request that waits for its answer in a thread of its own."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(ask,))
        self._thread.start()

    def _run(self, ask: Callable[[], object]) -> None:
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - handed on by `end`
            self._error = error

    def is_answered(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        """Wait for the answer, which is to be a good one."""
        self._thread.join(60)
        assert self.is_answered()
        if self._error is not None:
            raise self._error
