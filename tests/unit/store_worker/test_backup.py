"""Backups of the store: made between commits, whole, and the beginning of a new history when restored."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.wire.store_link import Ask, Batch, CountMailbox, Open
from runtime import sqlite_copy
from runtime.control import BackUp, BackupFailed, Hello, Job, ask
from runtime.errors import SetupError
from runtime.ipc import private_ipc_dir
from store_worker import backup
from store_worker.backup import SEQ_LEAP, Copyable, Copying, adopt, figures
from store_worker.core import Store
from store_worker.events import (
    Arrived,
    Commit,
    Committed,
    CopyOver,
    CopyWanted,
    Drained,
    Due,
    Event,
    OpenCounted,
    StepCopy,
)
from store_worker.journal import Started, Written
from store_worker.memory import MemoryJournal
from store_worker.service import Service
from store_worker.settings import Settings
from store_worker.sqlite import SqliteJournal
from tests.unit.runtime.support import wait_for
from tests.unit.store_worker.making import BOB, EVE, id_of, mark, message, page, send, seqs, store

BATCH = 400


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "restante.db")
    made.start()
    yield made
    made.close()


def fill(journal: SqliteJournal, batches: range) -> list[int]:
    """Store messages of 4 KB in commits of their own; the seqs they got."""
    body = b"b" * 4_000
    stored: list[int] = []
    for batch in batches:
        numbers = range(batch * BATCH + 1, (batch + 1) * BATCH + 1)
        stored += [result.seq for result in send(journal, *(message(n, BOB, body=body) for n in numbers))]
    return stored


def made_of(journal: SqliteJournal, path: Path) -> Path:
    """A backup with nothing going on."""
    copy = journal.copy_to(path)
    while not copy.step():
        pass
    sqlite_copy.settle(copy.path)
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(path)
    try:
        yield made
    finally:
        made.close()


class TestCopying:
    def test_what_was_accepted_before_and_what_was_committed_meanwhile_is_in_it_and_nothing_half(
        self, journal: SqliteJournal, tmp_path: Path
    ) -> None:
        before = fill(journal, range(4))
        copy = journal.copy_to(tmp_path / "backup.db")
        batch, during = 4, list[int]()
        while not copy.step():
            during += fill(journal, range(batch, batch + 1))
            batch += 1
        after = fill(journal, range(batch, batch + 1))
        sqlite_copy.settle(copy.path)

        assert len(during) >= 2 * BATCH, "no commit came between: it shows nothing"
        facts = figures(tmp_path / "backup.db", thorough=True)
        assert facts["messages"] == len(before) + len(during)
        assert (facts["high"], facts["account_max"]) == (during[-1], BOB)
        with opened(tmp_path / "backup.db") as restored:
            restored.start()
            assert _all_seqs(restored) == before + during
        assert _all_seqs(journal) == before + during + after

    def test_a_failed_copy_costs_no_commit(self, journal: SqliteJournal, tmp_path: Path) -> None:
        fill(journal, range(2))
        copy = journal.copy_to(tmp_path / "backup.db")
        copy.step()
        copy.abandon()
        assert len(fill(journal, range(2, 3))) == BATCH
        assert not list(tmp_path.glob("backup*"))

    def test_a_journal_in_memory_cannot_be_backed_up(self) -> None:
        assert isinstance(MemoryJournal(), Copyable) is False
        assert issubclass(SqliteJournal, Copyable)


def _all_seqs(journal: SqliteJournal) -> list[int]:
    found: list[int] = []
    while True:
        read = page(journal, after=found[-1] if found else 0)
        found += seqs(read)
        if not read.more:
            return found


class TestRestoring:
    def test_it_has_another_history_each_time_and_all_its_messages(
        self, journal: SqliteJournal, tmp_path: Path
    ) -> None:
        sent = fill(journal, range(1))
        mark(journal, BOB, sent[0])
        old = figures(made_of(journal, tmp_path / "backup.db"))
        histories = {old["history"]}
        for n in range(3):
            copied = tmp_path / f"restored{n}.db"
            copied.write_bytes((tmp_path / "backup.db").read_bytes())
            histories.add(adopt(copied)["history"])
            with opened(copied) as restored:
                assert restored.start().history.hex() in histories
                assert _all_seqs(restored) == sent[1:]
        assert len(histories) == 4

    def test_no_seq_that_was_given_after_the_backup_is_given_again(
        self, journal: SqliteJournal, tmp_path: Path
    ) -> None:
        """Else an acknowledgement from before the restore would mark another message read."""
        fill(journal, range(1))
        made_of(journal, tmp_path / "backup.db")
        lost = fill(journal, range(1, 2))
        adopt(tmp_path / "backup.db")
        with opened(tmp_path / "backup.db") as restored:
            restored.start()
            (fresh,) = send(restored, message(99_999))
            assert fresh.seq > lost[-1]
            assert fresh.seq == BATCH + SEQ_LEAP + 1
            assert mark(restored, BOB, *lost).unknown_seqs == lost
            assert fresh.seq in _all_seqs(restored)

    def test_a_retry_of_what_the_backup_holds_gets_its_first_answer(
        self, journal: SqliteJournal, tmp_path: Path
    ) -> None:
        (first,) = send(journal, message(1))
        made_of(journal, tmp_path / "backup.db")
        adopt(tmp_path / "backup.db")
        with opened(tmp_path / "backup.db") as restored:
            restored.start()
            (again,) = send(restored, message(1))
        assert (again.seq, again.again) == (first.seq, True)

    def test_an_adopted_backup_is_one_file(self, journal: SqliteJournal, tmp_path: Path) -> None:
        made_of(journal, tmp_path / "backup.db")
        adopt(tmp_path / "backup.db")
        assert [path.name for path in tmp_path.glob("backup*")] == ["backup.db"]

    @pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(4_080)])
    def test_what_is_no_backup_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "bad.db"
        path.write_bytes(content)
        with pytest.raises(BackupFailed):
            figures(path, thorough=True)
        assert backup.main(["check", str(path)]) == 1
        assert path.read_bytes() == content

    def test_an_index_that_does_not_fit_its_table_is_found(self, journal: SqliteJournal, tmp_path: Path) -> None:
        send(journal, message(0x0123456789ABCDEF), message(0x0123456789ABCDF0))
        path = made_of(journal, tmp_path / "backup.db")
        damaged = path.read_bytes().replace(id_of(0x0123456789ABCDEF), id_of(0x0123456789ABCDEE), 1)
        assert damaged != path.read_bytes(), "nothing was damaged: it shows nothing"
        path.write_bytes(damaged)
        with pytest.raises(BackupFailed, match="damaged"):
            figures(path, thorough=True)


class TestCore:
    """When a step is made: in every turn, after what has arrived, and never inside a commit."""

    def store(self) -> Store:
        return Store(Started(epoch=1, history=bytes(16), high=0, generations={}))

    def drive(self, core: Store, *events: Event) -> list[type]:
        return [type(action) for event in events for action in core.handle(event, 5.0)]

    def test_it_asks_to_go_on_at_once_until_it_is_over(self) -> None:
        core = self.store()
        assert core.next_deadline() is None
        assert self.drive(core, CopyWanted()) == []
        assert core.next_deadline() == 5.0
        assert self.drive(core, Due(), Drained()) == [StepCopy]
        assert self.drive(core, Drained()) == [StepCopy]
        self.drive(core, CopyOver())
        assert core.next_deadline() is None
        assert self.drive(core, Due(), Drained()) == []

    def test_it_waits_for_a_commit_and_for_what_is_then_said(self) -> None:
        core = self.store()
        core.handle(Arrived(Open(name="b", nonce=id_of(1))), 0.0)
        core.handle(Drained(), 0.0)
        core.handle(OpenCounted("b", id_of(1), 1), 0.0)
        core.handle(CopyWanted(), 0.0)
        batch = Batch(epoch=1, name="b", generation=1, n=1, commands=[store(message(1))])
        core.handle(Arrived(batch, b"hello"), 0.0)
        core.handle(Arrived(Ask(epoch=1, name="b", generation=1, n=1, query=CountMailbox(mailbox=EVE))), 0.0)
        assert self.drive(core, Drained()) == [Commit]
        told = self.drive(core, Committed([Written(base=0, high=0, outcomes=[])]))
        assert StepCopy not in told
        assert self.drive(core, Drained()) == [StepCopy]


class TestBetweenThreads:
    """`Copying`: wanted in one thread, made in another."""

    def test_a_backup_whose_asker_is_gone_is_abandoned(self, journal: SqliteJournal, tmp_path: Path) -> None:
        fill(journal, range(4))
        wanted = threading.Event()
        copying, job = Copying(journal, wanted.set), Job()
        failed: list[BackupFailed] = []
        thread = threading.Thread(target=_make, args=(copying, tmp_path / "backup.db", job, failed))
        thread.start()
        assert wanted.wait(10)
        assert not copying.step()
        job.abandon()
        assert copying.step()
        thread.join(10)
        assert [one.code for one in failed] == ["abandoned"]
        assert not list(tmp_path.glob("backup*"))
        assert copying.step(), "nothing is wanted"

    def test_a_store_that_stops_abandons_it_and_takes_no_more(self, journal: SqliteJournal, tmp_path: Path) -> None:
        fill(journal, range(4))
        wanted = threading.Event()
        copying = Copying(journal, wanted.set)
        failed: list[BackupFailed] = []
        thread = threading.Thread(target=_make, args=(copying, tmp_path / "backup.db", Job(), failed))
        thread.start()
        assert wanted.wait(10)
        copying.step()
        copying.close()
        thread.join(10)
        _make(copying, tmp_path / "backup.db", Job(), failed)
        assert [one.code for one in failed] == ["unavailable", "unavailable"]
        assert not list(tmp_path.glob("backup*"))


def _make(copying: Copying, path: Path, job: Job, failed: list[BackupFailed]) -> None:
    try:
        copying.make(path, job)
    except BackupFailed as error:
        failed.append(error)


class TestService:
    def test_a_running_store_backs_itself_up_and_ends_well(self, journal: SqliteJournal, tmp_path: Path) -> None:
        sent = fill(journal, range(4))
        run = private_ipc_dir()
        settings = _settings(tmp_path, run, control=f"ipc://{run}/control.sock")
        service = Service(settings, journal)
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            wait_for(lambda: bool(ask(f"ipc://{run}/control.sock", Hello())), "the control socket answers")
            facts = ask(f"ipc://{run}/control.sock", BackUp(str(tmp_path / "backup.db")))
            assert (facts["messages"], facts["high"]) == (len(sent), sent[-1])
            with pytest.raises(BackupFailed, match="exists"):
                ask(f"ipc://{run}/control.sock", BackUp(str(tmp_path / "backup.db")))
        finally:
            service._loop.stop()
            thread.join(10)
            service.close()
        assert not thread.is_alive()

    def test_a_store_in_memory_says_that_there_is_nothing_to_back_up(self, tmp_path: Path) -> None:
        run = private_ipc_dir()
        with pytest.raises(SetupError, match="nothing to back up"):
            Service(_settings(tmp_path, run, control=f"ipc://{run}/control.sock"), MemoryJournal())


def _settings(tmp_path: Path, run: Path, control: str) -> Settings:
    return Settings(
        data=tmp_path,
        keys=tmp_path / "keys",
        listen=f"ipc://{run}/store.sock",
        broker=f"ipc://{run}/confirms.sock",
        control=control,
    )
