"""What only the journal on disk can do: fail, be in the way, be damaged, come back from a kill or a power cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from restante.wire.store_link import Stored, StoreMessages
from store_worker import sqlite_runs, sqlite_schema, sqlite_writes
from store_worker.journal import OutcomeUnknown, RolledBack, Unusable
from store_worker.sqlite import SqliteJournal
from store_worker.sqlite_poison import ATTEMPTS_MAX, UNSETTLED_MAX
from store_worker.sqlite_schema import MIGRATIONS
from tests.disk.store_run import problems
from tests.unit.store_worker.disks import Disk, disk, full
from tests.unit.store_worker.making import (
    ALICE,
    BOB,
    EVE,
    NOW_US,
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

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


def started(path: Path, **options: object) -> SqliteJournal:
    journal = SqliteJournal(path, **options)  # type: ignore[arg-type]
    journal.start()
    return journal


def check(path: Path) -> None:
    """Hold a closed database against all that must be true of it."""
    db = apsw.Connection(str(path))
    try:
        assert problems(db) == []
        assert db.execute("SELECT high >= (SELECT coalesce(max(seq), 0) FROM messages) FROM meta").fetchone() == (1,)
    finally:
        db.close()


def read_all(journal: SqliteJournal) -> list[int]:
    """The numbers of all messages in bob's mailbox, page by page."""
    held: list[int] = []
    after, more = 0, True
    while more:
        read = page(journal, after=after, limit=10_000)
        held += [int.from_bytes(entry.id, "big") for entry in read.entries]
        after, more = read.through, read.more
    return held


class TestOneStoreADatabase:
    """RULES 8."""

    def test_its_files_are_for_its_owner_alone(self, path: Path) -> None:
        journal = started(path)
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert len(modes) > 1, "the database and its log"
        assert set(modes.values()) == {0o600}
        journal.close()

    def test_a_second_store_is_told_that_the_database_is_in_use(self, path: Path) -> None:
        first = started(path)
        with pytest.raises(Unusable, match="in use by another process"):
            SqliteJournal(path)
        assert send(first, message(1))[0].seq
        first.close()
        SqliteJournal(path).close()

    def test_so_is_another_process_and_it_changes_nothing(self, path: Path) -> None:
        first = started(path)
        writer = [sys.executable, "-m", "tests.unit.store_worker.committing", str(path), "0"]
        done = subprocess.run(writer, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        assert "in use by another process" in done.stderr
        assert send(first, message(1))[0].seq == 1
        first.close()

    def test_no_reader_from_outside_gets_in_either(self, path: Path) -> None:
        first = started(path)
        other = apsw.Connection(str(path))
        with pytest.raises(apsw.BusyError):
            other.execute("SELECT * FROM messages").fetchall()
        other.close()
        first.close()


class TestWhatIsNotServed:
    def test_a_file_that_is_no_database(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"Dear diary, " * 1_000)
        with pytest.raises(Unusable, match="damaged"):
            SqliteJournal(path)
        assert path.read_bytes() == b"Dear diary, " * 1_000

    def test_another_programs_database(self, path: Path) -> None:
        path.parent.mkdir()
        db = apsw.Connection(str(path))
        db.execute("CREATE TABLE songs (name)")
        db.close()
        with pytest.raises(Unusable, match="another program"):
            SqliteJournal(path)
        db = apsw.Connection(str(path))
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("songs",)]
        db.close()

    def test_a_newer_versions_database(self, path: Path) -> None:
        started(path).close()
        db = apsw.Connection(str(path))
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        db.close()
        with pytest.raises(Unusable, match="newer version"):
            SqliteJournal(path)

    def test_a_damaged_page_of_a_large_database_is_found_when_it_is_read(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_schema, "CHECKED_BYTES_MAX", 0)
        journal = started(path)
        for n in range(40):
            send(journal, *(message(100 * n + k, body=bytes(300)) for k in range(100)))
        journal.close()
        image = bytearray(path.read_bytes())
        middle = len(image) // 2 // 4096 * 4096
        image[middle : middle + 8 * 4096] = os.urandom(8 * 4096)
        path.write_bytes(image)
        journal = started(path)
        with pytest.raises(Unusable, match="damaged"):
            read_all(journal)
        journal.close()

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(Unusable, match=r"Can't write .*Make the directory writable"):
            SqliteJournal(tmp_path / "file" / "store.db")

    def test_a_directory_that_may_only_be_read(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        directory = Path("/sys") if os.geteuid() == 0 else tmp_path  # where root can make no file either
        with pytest.raises(Unusable, match="Can't write"):
            SqliteJournal(directory / "store.db")


@pytest.fixture
def failing() -> Iterator[Disk]:
    with disk() as made:
        yield made


def broken(_suffix: str) -> None:
    raise apsw.IOError("input/output error")


class TestDisksThatFail:
    """RULES 9: what was rolled back is said to be so; what may have happened is not answered."""

    def test_a_full_disk_rolls_back_all_of_it(self, path: Path, failing: Disk) -> None:
        journal = started(path, vfs=failing.name)
        send(journal, message(1))
        failing.on_write = full
        with pytest.raises(RolledBack) as error:
            send(journal, message(2), message(3))
        assert error.value.code == "storage_full"
        assert counted(journal) == (1, 1)
        failing.on_write = lambda _suffix: None
        (result,) = send(journal, message(2))
        assert (result.again, counted(journal)) == (False, (2, 2))
        journal.close()
        check(path)

    def test_after_a_commit_that_did_not_fit_the_link_can_be_opened_again(self, path: Path, failing: Disk) -> None:
        """The log keeps the room that it had won: reading goes on while nothing can be stored."""
        journal = started(path, vfs=failing.name)
        room = 20

        def nearly_full(_suffix: str) -> None:
            nonlocal room
            room -= 1
            if room < 0:
                raise apsw.FullError("no space left")

        failing.on_write = nearly_full
        with pytest.raises(RolledBack):
            send(journal, *(message(n, body=bytes(1_000)) for n in range(1, 101)))
        room = 20  # what the failed commit had written is written over
        assert journal.open("b", id_of(1)) == 1
        assert page(journal).entries == []
        journal.close()

    def test_a_failed_sync_leaves_the_outcome_unknown(self, path: Path, failing: Disk) -> None:
        journal = started(path, vfs=failing.name)
        failing.on_sync = broken
        with pytest.raises(OutcomeUnknown):
            send(journal, message(1))
        failing.on_sync = lambda _suffix: None
        journal.close()
        again = started(path)  # whichever it was, a replay settles it
        (result,) = send(again, message(1))
        assert counted(again) == (1, 1)
        assert seqs(page(again)) == [result.seq]
        again.close()
        check(path)

    def test_a_write_that_fails_before_the_commit_is_rolled_back(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = started(path)

        def fail(*_: object) -> None:
            raise apsw.IOError("input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(sqlite_writes.Writer, "finish", fail)
            with pytest.raises(RolledBack) as error:
                send(journal, message(1))
        assert error.value.code == "storage_failed"
        assert counted(journal) == (0, 0)
        assert send(journal, message(1))[0].again is False
        journal.close()
        check(path)

    @pytest.mark.parametrize(("synchronous", "kept"), [("FULL", True), ("NORMAL", False)])
    def test_a_power_cut_takes_nothing_that_was_answered(
        self, tmp_path: Path, failing: Disk, synchronous: str, kept: bool
    ) -> None:
        """G1. With NORMAL it does: so the cut is one."""
        before, after = tmp_path / "before", tmp_path / "after"
        after.mkdir()
        journal = started(before / "store.db", vfs=failing.name)
        journal._db.execute(f"PRAGMA synchronous = {synchronous}")
        answered = [send(journal, message(n))[0].seq for n in range(1, 200)]
        failing.power_cut(after)
        journal.close()
        found = SqliteJournal(after / "store.db")
        found.start()
        assert (seqs(page(found)) == answered) is kept
        found.close()
        check(after / "store.db")


class TestKills:
    def test_a_kill_in_mid_commit_loses_nothing_answered_and_doubles_nothing(self, path: Path) -> None:
        """Real processes, real SIGKILL; each one goes on from where the one before it was killed."""
        answered = 0
        for kill_after in (1, 2, 3, 5):
            answered = _run_and_kill(path, first=answered, kill_after=kill_after)
            journal = started(path)
            held = read_all(journal)
            journal.close()
            check(path)
            assert held == list(range(1, len(held) + 1))
            assert len(held) >= answered * 500
            assert len(held) % 500 == 0, "a batch is there whole or not at all"
            answered = len(held) // 500


def _run_and_kill(path: Path, *, first: int, kill_after: int) -> int:
    """Commit batches of 500 in a process until it has answered so many; return how many were answered in all."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.store_worker.committing", path, str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    last = first
    try:
        for _ in range(kill_after):
            last = int(writer.stdout.readline())
    finally:
        writer.kill()  # it is in the next commit already
        rest = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait(timeout=10)
    return int(rest[-1]) if rest else last


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class TestPoison:
    """RULES 9: what kills the store again and again is found, set aside and refused."""

    @pytest.fixture
    def deadly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = sqlite_writes.Writer._store

        def store_or_die(writer: sqlite_writes.Writer, command: StoreMessages, contents: Sequence[bytes]) -> Stored:
            culprit = id_of(13), command.sender
            if culprit not in writer._poison and any(m.id == culprit[0] for m in command.messages):
                raise Killed
            return store(writer, command, contents)

        monkeypatch.setattr(sqlite_writes.Writer, "_store", store_or_die)

    def die(self, path: Path) -> None:
        journal = started(path)
        with pytest.raises(Killed):
            send(journal, message(12), message(13), message(14))
        journal._db.close()  # no close() of the journal: a process that is killed does not get there

    @pytest.mark.usefixtures("deadly")
    def test_the_culprit_is_refused_and_the_others_are_stored(self, path: Path) -> None:
        for _ in range(UNSETTLED_MAX + ATTEMPTS_MAX):
            self.die(path)
        journal = started(path)
        results = send(journal, message(12), message(13), message(14))
        assert [r.code for r in results] == ["", "poison", ""]
        assert [e.id for e in page(journal).entries] == [id_of(12), id_of(14)]
        assert [r.code for r in send(journal, message(13), message(15))] == ["poison", ""]
        journal.close()
        check(path)

    @pytest.mark.usefixtures("deadly")
    def test_not_before_it_was_tried_alone(self, path: Path) -> None:
        found = []
        for _ in range(UNSETTLED_MAX + ATTEMPTS_MAX):
            self.die(path)
            db = apsw.Connection(str(path))
            poison = db.execute("SELECT count(*) FROM suspects WHERE attempts >= ?", (ATTEMPTS_MAX,)).fetchone()
            db.close()
            found.append(poison)
        assert found == [(0,)] * (UNSETTLED_MAX + ATTEMPTS_MAX - 1) + [(1,)]

    def test_kills_by_chance_make_nothing_poison(self, path: Path) -> None:
        for _ in range(UNSETTLED_MAX + 3):
            started(path)._db.close()
        journal = started(path)
        results = send(journal, message(1), message(2), message(1))
        assert [r.code for r in results] == ["", "", ""]
        assert results[2].again
        mark(journal, BOB, results[0].seq)
        written = commit(journal, store(message(3)))
        assert (written.base, written.high) == (results[1].seq, results[1].seq + 1)
        journal.close()
        check(path)
        db = apsw.Connection(str(path))
        assert db.execute("SELECT count(*) FROM suspects").fetchone() == (0,)
        db.close()

    def test_a_disk_that_fills_meanwhile_leaves_a_part_and_nobody_is_told_otherwise(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """[M9] [LS10]: `storage_full` says that nothing was stored."""
        for _ in range(UNSETTLED_MAX):
            started(path)._db.close()
        journal = started(path)
        stored = sqlite_writes.Writer._store

        def store_while_there_is_room(
            writer: sqlite_writes.Writer, command: StoreMessages, contents: Sequence[bytes]
        ) -> Stored:
            if any(m.id == id_of(2) for m in command.messages):
                raise apsw.FullError
            return stored(writer, command, contents)

        with monkeypatch.context() as patch:
            patch.setattr(sqlite_writes.Writer, "_store", store_while_there_is_room)
            with pytest.raises(RolledBack) as refused:
                send(journal, message(1), message(2), message(3))
        assert refused.value.code == "unavailable"
        assert [e.id for e in page(journal).entries] == [id_of(1)]
        results = send(journal, message(1), message(2), message(3))
        assert [r.again for r in results] == [True, False, False]
        assert [e.id for e in page(journal).entries] == [id_of(1), id_of(2), id_of(3)]
        journal.close()
        check(path)

    def test_an_orderly_end_is_no_kill(self, path: Path) -> None:
        for _ in range(UNSETTLED_MAX + 3):
            started(path).close()
        assert not started(path)._suspicion.awake


class TestNothingIsPassedOver:
    """RULES 15."""

    def test_a_broken_rule_other_than_the_key_raises_and_stores_nothing(self, path: Path) -> None:
        journal = started(path)
        short = message(1)
        with pytest.raises(apsw.ConstraintError):
            send(journal, message(2), type(short)(id=b"short", to=["bob"], mailboxes=[BOB], size=5))
        assert counted(journal) == (0, 0)
        assert page(journal).through == 0
        journal.close()
        check(path)

    def test_repetitions_in_large_lots_leave_no_orphans(self, path: Path) -> None:
        journal = started(path)
        send(journal, *(message(n, BOB, EVE) for n in range(0, 400, 3)))
        send(journal, *(message(n, BOB, EVE) for n in range(400)))
        send(journal, *(message(n % 50, BOB, EVE) for n in range(400)), sender=ALICE + 1)
        assert counted(journal) == counted(journal, EVE) == (450, 450)
        journal.close()
        check(path)

    def test_the_index_is_what_answers_for_a_mailbox(self, path: Path) -> None:
        """Unread is one range, and begins with the run that ends past `after`: no sort, no scan of what is read."""
        journal = started(path)

        def plan(unread: bool) -> list[str]:
            sql = f"EXPLAIN QUERY PLAN {sqlite_runs._BEHIND[unread]}"
            return [row[3] for row in journal._db.execute(sql, {"mailbox": BOB, "after": 5})]

        step = "SEARCH runs USING PRIMARY KEY (mailbox=? AND read=? AND last>?)"
        assert plan(True) == [step]
        assert [found for found in plan(False) if "runs" in found] == [step, step]
        assert not any("TEMP B-TREE" in step for unread in (True, False) for step in plan(unread))
        journal.close()


def test_times_given_by_a_clock_gone_back_are_clamped_for_reads_too(path: Path) -> None:
    journal = started(path)
    (result,) = send(journal, message(1), now_us=NOW_US)
    mark(journal, BOB, result.seq)
    assert page(journal, unread=False).entries[0].stored_at_us == NOW_US
    journal.close()
