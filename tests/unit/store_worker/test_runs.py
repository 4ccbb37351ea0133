"""Runs: held against one row a delivery, and how many rows they come to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_worker.sqlite_runs import Row, Runs
from store_worker.sqlite_schema import MIGRATIONS, fetch
from tests.disk.store_run import deliveries, wrong_runs
from tests.unit.store_worker.making import BOB, EVE

RUN_ROWS = 5
AT_US = 1_000


def database(layout: int = len(MIGRATIONS)) -> apsw.Connection:
    """An empty one, in memory."""
    db = apsw.Connection("")
    migrate(db, 0, layout)
    return db


def migrate(db: apsw.Connection, before: int, layout: int) -> None:
    for step in MIGRATIONS[before:layout]:
        if isinstance(step, str):
            db.execute(step)
        else:
            step(db)


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    with database() as made:
        yield made


@pytest.fixture
def runs(db: apsw.Connection) -> Runs:
    made = Runs(db, RUN_ROWS)
    made.add(BOB, range(10, 100, 10))
    return made


def rows(db: apsw.Connection) -> list[tuple[int, int]]:
    """The rows of bob's, as (read, first)."""
    return fetch(db, "SELECT read, first FROM runs WHERE mailbox = ? ORDER BY first", (BOB,))


class TestHowManyRowsThereAre:
    def test_full_ones_and_what_is_left(self, db: apsw.Connection, runs: Runs) -> None:
        assert rows(db) == [(0, 10), (0, 60)]

    def test_nothing_is_no_row(self, db: apsw.Connection, runs: Runs) -> None:
        runs.add(EVE, [])
        assert runs.behind(EVE, 0, 9, unread=False) == []
        assert len(rows(db)) == 2

    def test_all_of_a_run_is_marked_by_moving_it(self, db: apsw.Connection, runs: Runs) -> None:
        assert runs.move(BOB, {10, 20, 30, 40, 50}, read=True, read_at_us=AT_US) == {10, 20, 30, 40, 50}
        assert rows(db) == [(1, 10), (0, 60)]

    def test_the_first_or_the_last_of_one_makes_two_of_it(self, db: apsw.Connection, runs: Runs) -> None:
        runs.move(BOB, {10, 20, 80, 90}, read=True, read_at_us=AT_US)
        assert rows(db) == [(1, 10), (0, 30), (0, 60), (1, 80)]

    def test_one_within_makes_three_of_it(self, db: apsw.Connection, runs: Runs) -> None:
        runs.move(BOB, {30}, read=True, read_at_us=AT_US)
        assert rows(db) == [(0, 10), (1, 30), (0, 40), (0, 60)]

    def test_what_is_marked_before_it_comes_is_a_run_of_its_own(self, db: apsw.Connection, runs: Runs) -> None:
        runs.add(BOB, [100, 110, 120, 130], {110, 120}, AT_US)
        assert rows(db)[2:] == [(0, 100), (1, 110), (0, 130)]


class TestWhatIsMarked:
    def test_what_is_marked_so_already_or_is_not_there_is_left_out(self, runs: Runs) -> None:
        runs.move(BOB, {30}, read=True, read_at_us=AT_US)
        assert runs.move(BOB, {5, 20, 25, 30, 90, 95}, read=True, read_at_us=AT_US + 1) == {20, 90}
        assert runs.read_at_us(BOB, 30) == AT_US

    def test_a_part_that_is_not_marked_keeps_its_time(self, runs: Runs) -> None:
        runs.move(BOB, {10, 20, 30, 40, 50}, read=True, read_at_us=AT_US)
        runs.move(BOB, {30}, read=False, read_at_us=0)
        assert [runs.read_at_us(BOB, seq) for seq in (20, 30, 40)] == [AT_US, None, AT_US]

    def test_each_is_held_in_one_range(self, runs: Runs) -> None:
        runs.move(BOB, {30}, read=True, read_at_us=AT_US)
        assert runs.held(BOB, {20, 30, 35}, read=True) == {30}
        assert runs.held(BOB, {20, 30, 35}, read=False) == {20}

    def test_another_mailbox_is_another(self, runs: Runs) -> None:
        runs.add(EVE, [10])
        assert runs.move(EVE, {10, 20}, read=True, read_at_us=AT_US) == {10}
        assert runs.read_at_us(BOB, 10) is None
        runs.drop(BOB)
        assert (runs.behind(BOB, 0, 9, unread=False), runs.behind(EVE, 0, 9, unread=False)) == ([], [(10, 1)])


Ops = list[tuple[str, set[int], bool]]
_seqs = st.sets(st.integers(1, 60), max_size=12)
_ops = st.lists(st.tuples(st.sampled_from(("add", "mark", "mark", "mark")), _seqs, st.booleans()), max_size=12)


@given(_ops, st.integers(0, 80), st.integers(1, 30))
def test_they_are_as_if_each_delivery_were_a_row(ops: Ops, after: int, count: int) -> None:
    with database() as db:
        runs = Runs(db, RUN_ROWS)
        plain: dict[int, int] = {}  # seq: when it was read
        for number, (what, seqs, read) in enumerate(ops, 1):
            at_us = number if read else 0
            if what == "add":
                new = sorted(seq + max(plain, default=0) for seq in seqs)
                marked = set(new[::3]) if read else set()
                runs.add(BOB, new, marked, number)
                plain |= {seq: number if seq in marked else 0 for seq in new}
            else:
                held = {seq for seq in seqs if seq in plain and bool(plain[seq]) == read}
                assert runs.held(BOB, seqs, read=read) == held
                moved = runs.move(BOB, seqs, read=read, read_at_us=at_us)
                assert moved == {seq for seq in seqs if seq in plain} - held
                plain |= dict.fromkeys(moved, at_us)
        told = {seq: at_us for _, _, seq, at_us in deliveries(db)}
        assert told == plain
        assert wrong_runs(db) == []
        every = [(seq, int(at_us > 0)) for seq, at_us in sorted(plain.items())]
        unread = [row for row in every if not row[1]]
        for wanted, only_unread in ((every, False), (unread, True)):
            assert runs.behind(BOB, after, count, unread=only_unread) == past(wanted, after)[:count]
        assert {seq: runs.read_at_us(BOB, seq) or 0 for seq in plain} == plain


def past(wanted: list[Row], after: int) -> list[Row]:
    return wanted[bisect_right(wanted, after, key=lambda row: row[0]) :]


@given(st.dictionaries(st.integers(1, 10**6), st.integers(0, 3)), st.sampled_from((BOB, EVE)))
def test_a_table_with_a_row_for_each_becomes_runs(held: dict[int, int], other: int) -> None:
    """A database of a layout before there were runs says the same, and its old table is gone."""
    with database(layout=2) as db:
        before = [(BOB, int(at_us > 0), seq, at_us) for seq, at_us in held.items()] + [(EVE + 1, 1, 7, 9)]
        before += [(EVE + 2, 0, seq, 0) for seq in range(1, 600)]
        for mailbox, read, seq, at_us in before:
            db.execute("INSERT INTO deliveries VALUES (?, ?, ?, ?)", (mailbox, read, seq, at_us))
        for mailbox in {mailbox for mailbox, *_ in before} | {other}:
            db.execute("INSERT INTO mailboxes VALUES (?, 0, 0, 0, 0, 0)", (mailbox,))
        migrate(db, 2, len(MIGRATIONS))
        assert deliveries(db) == sorted(before)
        assert wrong_runs(db) == []
        assert fetch(db, "SELECT count(*) FROM runs WHERE mailbox = ?", (EVE + 2,)) == [(5,)]
        assert fetch(db, "SELECT name FROM sqlite_schema WHERE name = 'deliveries'") == []
