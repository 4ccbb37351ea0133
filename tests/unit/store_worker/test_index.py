"""The index follows the log: when, how far behind, and what is made of it by a start, a failure and a backup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from restante.wire.store_link import CloseMailbox, NoteDelivered, Open
from runtime import sqlite_copy
from store_worker.backup import adopt, figures
from store_worker.core import IDLE_S, Store
from store_worker.events import Arrived, CatchUp, CaughtUp, Commit, Committed, Drained, Due, OpenCounted
from store_worker.journal import RolledBack, Started, Written
from store_worker.sqlite import SqliteJournal
from store_worker.sqlite_index import Bounds
from store_worker.sqlite_schema import APPLICATION_ID, MIGRATIONS, fetch
from store_worker.sqlite_tail import Tail
from tests.disk.store_run import deliveries, kill, problems
from tests.unit.store_worker.disks import disk, full, healthy
from tests.unit.store_worker.making import (
    ALICE,
    BOB,
    DAN,
    EVE,
    commit,
    counted,
    id_of,
    mark,
    message,
    page,
    send,
    seqs,
    store,
)
from tests.unit.store_worker.test_core import batch

BOUNDS = Bounds(run_rows=10, tail_rows=20, replay_seqs=50, step_rows=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "restante.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(path, bounds=BOUNDS)
    made.start()
    yield made
    made.close()


def indexed(journal: SqliteJournal) -> dict[int, int]:
    """How many of its deliveries are in the index, by mailbox."""
    assert problems(journal._db) == []
    return Counter(mailbox for mailbox, _, _, _ in deliveries(journal._db))


def send_to(journal: SqliteJournal, *mailboxes: int, first: int = 1) -> None:
    """One message to each of them, in one commit."""
    send(journal, *(message(first + n, mailbox) for n, mailbox in enumerate(mailboxes)))


class TestTail:
    @pytest.fixture
    def tail(self) -> Tail:
        made = Tail(long_rows=3)
        for mailbox, seq in ((BOB, 1), (EVE, 2), (BOB, 3), (DAN, 4)):
            made.add(mailbox, seq)
        made.settle()
        return made

    def test_the_oldest_comes_first_and_says_how_far_all_are_indexed(self, tail: Tail) -> None:
        assert (list(tail.by_age()), tail.indexed(9), tail.rows) == ([BOB, EVE, DAN], 0, 4)
        assert tail.take(BOB) == [1, 3]
        assert (list(tail.by_age()), tail.indexed(9), tail.rows) == ([EVE, DAN], 1, 2)
        tail.add(BOB, 5)
        assert list(tail.by_age()) == [EVE, DAN, BOB]
        for mailbox in (EVE, DAN, BOB):
            tail.take(mailbox)
        assert (tail.indexed(9), tail.rows) == (9, 0)

    def test_what_is_rolled_back_is_as_it_was_in_its_old_order(self, tail: Tail) -> None:
        tail.take(BOB)
        for mailbox, seq in ((BOB, 5), (ALICE, 6), (EVE, 7), (BOB, 8)):
            tail.add(mailbox, seq)
        tail.take(BOB)
        tail.add(BOB, 9)
        tail.restore(4)
        assert {mailbox: list(tail.of(mailbox)) for mailbox in tail.by_age()} == {BOB: [1, 3], EVE: [2], DAN: [4]}
        assert (list(tail.by_age()), tail.rows, tail.long()) == ([BOB, EVE, DAN], 4, [])

    def test_what_is_taken_back_leaves_the_others_in_their_order(self, tail: Tail) -> None:
        for mailbox, seq in ((ALICE, 5), (EVE, 6), (ALICE, 7)):
            tail.add(mailbox, seq)
        for mailbox, seq in ((ALICE, 7), (EVE, 6), (ALICE, 5)):
            tail.take_back(mailbox, seq)
        assert ({mailbox: tail.of(mailbox) for mailbox in tail.by_age()}, tail.rows, tail.brought) == (
            {BOB: [1, 3], EVE: [2], DAN: [4]},
            4,
            0,
        )

    def test_a_mailbox_is_long_once(self, tail: Tail) -> None:
        tail.add(BOB, 5)
        tail.add(BOB, 6)
        assert tail.long() == [BOB]
        assert tail.long() == []


class TestWhenItFollows:
    def test_a_commit_of_messages_writes_the_log_alone(self, journal: SqliteJournal) -> None:
        send_to(journal, BOB, EVE, BOB)
        assert indexed(journal) == {}
        assert fetch(journal._db, "SELECT * FROM mailboxes") == []
        assert (counted(journal), counted(journal, EVE)) == ((2, 2), (1, 1))
        assert seqs(page(journal)) == [1, 3]

    def test_a_repetition_makes_no_mailbox_older_than_it_is(self, journal: SqliteJournal) -> None:
        """It was offered as new, before EVE's message, and is not; what then came to BOB is behind EVE's."""
        send_to(journal, BOB)
        mark(journal, BOB, 1)
        send(journal, message(1), message(2, EVE), message(3))
        assert list(journal._index.tail.by_age()) == [EVE, BOB]
        assert journal._index.tail.indexed(9) == 2

    def test_what_fills_a_leaf_goes_at_once(self, journal: SqliteJournal) -> None:
        send_to(journal, *[BOB] * 9, EVE)
        assert indexed(journal) == {}
        send_to(journal, BOB, first=50)
        assert indexed(journal) == {BOB: 10}

    def test_past_the_bound_the_oldest_go_about_as_many_as_came(self, journal: SqliteJournal) -> None:
        send_to(journal, BOB, *range(100, 118), BOB)
        assert indexed(journal) == {}
        send_to(journal, EVE, first=50)
        assert indexed(journal) == {BOB: 2}
        send_to(journal, DAN, first=60)
        assert indexed(journal) == {BOB: 2}
        send_to(journal, DAN, first=61)
        assert indexed(journal) == {BOB: 2, 100: 1, 101: 1}

    def test_no_start_has_more_of_the_log_to_read_than_the_bound(self, journal: SqliteJournal) -> None:
        send_to(journal, BOB)
        for n in range(5):
            send_to(journal, *[EVE] * 10, first=10 + 10 * n)
        assert indexed(journal) == {BOB: 1, EVE: 50}

    def test_a_mark_takes_in_its_own_mailbox(self, journal: SqliteJournal) -> None:
        send_to(journal, BOB, EVE, BOB)
        mark(journal, BOB, 1)
        assert indexed(journal) == {BOB: 2}
        commit(journal, CloseMailbox(mailbox=EVE), NoteDelivered(mailbox=BOB, through=3))
        assert indexed(journal) == {BOB: 2}

    def test_delivered_is_noted_without_the_index(self, journal: SqliteJournal) -> None:
        send_to(journal, BOB, BOB)
        commit(journal, NoteDelivered(mailbox=BOB, through=1))
        assert indexed(journal) == {}
        assert fetch(journal._db, "SELECT unread, total FROM mailboxes") == [(0, 0)]
        assert [entry.state for entry in page(journal).entries] == ["delivered", "stored"]

    def test_catching_up_goes_by_steps_to_the_end(self, journal: SqliteJournal) -> None:
        send_to(journal, BOB, EVE, BOB)
        assert journal.catch_up() is True
        assert indexed(journal) == {BOB: 2}
        assert journal.catch_up() is False
        assert indexed(journal) == {BOB: 2, EVE: 1}
        assert journal.catch_up() is False
        assert fetch(journal._db, "SELECT indexed FROM meta") == [(3,)]


class TestStarts:
    def test_what_was_not_indexed_is_read_from_the_log(self, path: Path, journal: SqliteJournal) -> None:
        send_to(journal, BOB, EVE, BOB)
        mark(journal, EVE, 2)
        kill(journal._db)
        again = SqliteJournal(path, unread_max=3, bounds=BOUNDS)
        again.start()
        assert (counted(again), counted(again, EVE)) == ((2, 2), (0, 1))
        assert seqs(page(again)) == [1, 3]
        assert [r.code for r in send(again, message(4), message(5))] == ["", "mailbox_full"]
        again.close()

    def test_a_full_disk_leaves_the_tail_as_it_was(self, path: Path) -> None:
        with disk() as failing:
            journal = SqliteJournal(path, vfs=failing.name, bounds=BOUNDS)
            journal.start()
            send_to(journal, BOB, EVE)
            failing.on_write = full
            with pytest.raises(RolledBack):
                send_to(journal, *[BOB] * 30, first=10)
            with pytest.raises(RolledBack):
                journal.catch_up()
            failing.on_write = healthy
            assert (counted(journal), indexed(journal)) == ((1, 1), {})
            assert journal.catch_up() is True
            assert indexed(journal) == {BOB: 1}
            journal.close()

    def test_an_older_database_is_indexed_already(self, path: Path) -> None:
        older(path)
        facts = figures(path)
        assert (facts["layout"], facts["unread"], facts["account_max"]) == (1, 1, BOB)
        journal = SqliteJournal(path)
        journal.start()
        send_to(journal, BOB, first=2)
        assert (seqs(page(journal)), counted(journal)) == ([5, 6], (2, 2))
        assert indexed(journal) == {BOB: 1}
        journal.close()


def older(path: Path) -> None:
    """A database of the first layout, with a message to bob."""
    db = apsw.Connection(str(path))
    begin, *_ = MIGRATIONS
    assert isinstance(begin, str)
    db.execute(begin)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; UPDATE meta SET high = 5")
    recipients = b"\x92\x91\xa3bob\x91\x02"
    db.execute("INSERT INTO messages VALUES (5, ?, 1, 'alice', ?, NULL, 7, 8, NULL, x'61')", (id_of(1), recipients))
    db.execute("INSERT INTO deliveries VALUES (?, 0, 5, 0)", (BOB,))
    db.execute("INSERT INTO mailboxes VALUES (?, 0, 1, 1, 0)", (BOB,))
    db.close()


class TestBackups:
    def test_a_copy_has_the_same_tail(self, journal: SqliteJournal, tmp_path: Path) -> None:
        send_to(journal, BOB, EVE, BOB, DAN)
        mark(journal, EVE, 2)
        copy = journal.copy_to(tmp_path / "backup.db")
        while not copy.step():
            pass
        sqlite_copy.settle(copy.path)
        facts = figures(tmp_path / "backup.db", thorough=True)
        assert (facts["unread"], facts["account_max"]) == (3, DAN)
        adopt(tmp_path / "backup.db")
        restored = SqliteJournal(tmp_path / "backup.db", bounds=BOUNDS)
        restored.start()
        assert (seqs(page(restored)), counted(restored)) == ([1, 3], (2, 2))
        send_to(restored, EVE, first=9)
        assert indexed(restored)[BOB] == 2, "seqs have leapt: the tail is old"
        restored.close()


class TestCore:
    """The journal catches up when nothing was committed for a while, and what arrives comes before each step."""

    @pytest.fixture
    def core(self) -> Store:
        made = Store(Started(epoch=1, history=bytes(16), high=0, generations={}))
        made.handle(Arrived(Open(name="b", nonce=id_of(1))), 0.0)
        made.handle(Drained(), 0.0)
        made.handle(OpenCounted("b", id_of(1), 1), 0.0)
        assert made.next_deadline() is None
        return made

    def committed(self, core: Store, n: int, now: float) -> None:
        core.handle(Arrived(*batch(n)), now)
        assert any(isinstance(action, Commit) for action in core.handle(Drained(), now))
        core.handle(Committed([Written(base=0, high=0, outcomes=[])]), now)

    def test_it_waits_until_nothing_was_committed_for_a_while(self, core: Store) -> None:
        self.committed(core, 1, 5.0)
        self.committed(core, 2, 5.5)
        assert core.next_deadline() == 5.5 + IDLE_S
        assert core.handle(Due(), 5.4 + IDLE_S) == []
        assert core.handle(Due(), 5.5 + IDLE_S) == [CatchUp()]

    def test_it_goes_on_at_once_to_the_end_but_not_before_what_arrives(self, core: Store) -> None:
        self.committed(core, 1, 5.0)
        assert core.handle(Due(), 9.0) == [CatchUp()]
        core.handle(CaughtUp(True), 9.0)
        assert core.next_deadline() == 9.0
        self.committed(core, 2, 9.0)
        assert core.handle(Due(), 9.1) == []
        assert core.handle(Due(), 10.0) == [CatchUp()]
        core.handle(CaughtUp(False), 10.0)
        assert core.next_deadline() is None
        assert core.handle(Due(), 99.0) == []


def test_a_repetition_counted_for_a_moment_leaves_no_trace(journal: SqliteJournal) -> None:
    send_to(journal, BOB, EVE)
    commit(journal, store(message(1), message(7), message(1)))
    assert (counted(journal), seqs(page(journal))) == ((2, 2), [1, 4])
    assert journal.catch_up() is True
    assert indexed(journal) == {BOB: 2}
