"""The journal on disk beside the one in memory: told the same, started anew and killed at any time, they say the same.

The bounds of the tail are so small that the index follows all the time, and by every rule. seqs are compared by their
rank: the disk leaves gaps where a lot held repetitions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from restante.wire.store_link import (
    CloseMailbox,
    Command,
    Failed,
    MarkedMessages,
    MarkMessages,
    NoteDelivered,
    Outcome,
    ReadPage,
    ReadStatus,
    Stored,
)
from store_worker import sqlite_reads
from store_worker.journal import Journal, RolledBack, Write
from store_worker.memory import MemoryJournal
from store_worker.sqlite import SqliteJournal
from store_worker.sqlite_index import Bounds
from tests.disk.cuts import folder
from tests.disk.store_run import kill, problems
from tests.unit.store_worker.disks import Disk, disk, full, healthy
from tests.unit.store_worker.making import NOW_US, counted, id_of, message, store, write

MAILBOXES: Final = range(1, 6)
SENDERS: Final = (1, 2)
UNREAD_MAX: Final = 25
BOUNDS: Final = Bounds(run_rows=6, tail_rows=15, replay_seqs=25, step_rows=2)

Op = tuple[object, ...]
_numbers = st.integers(0, 40)
_mailboxes = st.sampled_from(MAILBOXES)
_sends = st.lists(
    st.tuples(_numbers, st.lists(_mailboxes, min_size=1, max_size=3, unique=True), st.sampled_from((3, 3, 4))),
    min_size=1,
    max_size=8,
)
_commands = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(SENDERS), _sends),
        st.tuples(st.just("send"), st.sampled_from(SENDERS), _sends),
        st.tuples(st.just("mark"), _mailboxes, st.lists(st.integers(0, 60), max_size=5), st.booleans()),
        st.tuples(st.just("mark ids"), _mailboxes, st.lists(_numbers, max_size=3), st.booleans()),
        st.tuples(st.just("delivered"), _mailboxes, st.integers(0, 60)),
        st.tuples(st.just("close"), st.sampled_from((4, 5))),
    ),
    min_size=1,
    max_size=4,
)
_op = st.one_of(
    st.tuples(st.just("commit"), _commands),
    st.tuples(st.just("commit"), _commands),
    st.tuples(st.just("commit"), _commands),
    st.tuples(st.just("full"), _commands),
    st.tuples(st.just("broken off"), _commands),
    st.tuples(st.just("catch up")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("close")),
)


class Pair:
    """The two journals, and the seqs that each has given, in order."""

    def __init__(self, path: Path, failing: Disk) -> None:
        self._path = path
        self._disk = failing
        self._memory = MemoryJournal(unread_max=UNREAD_MAX)
        self._open()
        self._memory_seqs: list[int] = []
        self._disk_seqs: list[int] = []

    def _open(self) -> None:
        self.journal = SqliteJournal(self._path, unread_max=UNREAD_MAX, vfs=self._disk.name, bounds=BOUNDS)
        self.journal.start()

    def do(self, op: Op) -> None:
        match op:
            case ("commit", list(commands)):
                self._commit(commands)
            case ("full", list(commands)):
                self._disk.on_write = full
                with contextlib.suppress(RolledBack):
                    self._commit(commands)  # goes through if it changes nothing
                self._disk.on_write = healthy
            case ("broken off", list(commands)):
                self.journal._owed["x"] = (1, "a nonce of the wrong type")  # type: ignore[assignment]
                with pytest.raises(apsw.Error):
                    self.journal.commit([self._write(commands, self._disk_seqs)], NOW_US)
                self.journal._owed.clear()
            case ("catch up",):
                self.journal.catch_up()
            case ("kill",):
                kill(self.journal._db)
                self._open()
            case ("close",):
                self.journal.close()
                self._open()

    def _commit(self, commands: Sequence[Op]) -> None:
        answers = []
        for journal, seqs in self._both():
            (written,) = journal.commit([self._write(commands, seqs)], NOW_US)
            new = [r.seq for o in written.outcomes if isinstance(o, Stored) for r in o.results if r.seq and not r.again]
            seqs += new
            answers.append([_ranked(outcome, seqs) for outcome in written.outcomes])
        assert answers[0] == answers[1]

    def _write(self, commands: Sequence[Op], seqs: Sequence[int]) -> Write:
        return write(*(_command(command, seqs) for command in commands))

    def compare(self) -> None:
        """Hold all that can be asked of one against the other."""
        on_disk, in_memory = (self._told(journal, seqs) for journal, seqs in self._both())
        assert on_disk == in_memory
        assert problems(self.journal._db) == []

    def _both(self) -> tuple[tuple[Journal, list[int]], tuple[Journal, list[int]]]:
        """The one that may fail first."""
        return (self.journal, self._disk_seqs), (self._memory, self._memory_seqs)

    def _told(self, journal: Journal, seqs: Sequence[int]) -> list[object]:
        rank = _rank(seqs)
        found: list[object] = []
        for mailbox in MAILBOXES:
            found.append(counted(journal, mailbox))
            for unread in (True, False):
                for after, limit, sender in ((0, 50, ""), (len(seqs) // 2, 4, ""), (0, 3, "user2"), (1, 50, "user2")):
                    after_seq = seqs[after - 1] if 0 < after <= len(seqs) else 0
                    query = ReadPage(
                        mailbox=mailbox, after=after_seq, limit=limit, bytes_max=999, unread=unread, sender=sender
                    )
                    read, body = journal.page(query)
                    entries = [structs.replace(entry, seq=rank(entry.seq)) for entry in read.entries]
                    found.append((entries, rank(read.through), read.more, body))
        for account in SENDERS:
            read_status = journal.status(ReadStatus(sender=account, ids=[id_of(n) for n in range(41)]))
            assert not isinstance(read_status, Failed)
            found += [structs.replace(status, seq=rank(status.seq)) for status in read_status.messages]
        return found


def _rank(seqs: Sequence[int]) -> Callable[[int], int]:
    return lambda seq: sum(one <= seq for one in seqs)


def _ranked(outcome: Outcome, seqs: Sequence[int]) -> Outcome:
    rank = _rank(seqs)
    if isinstance(outcome, Stored):
        return Stored.of([structs.replace(r, seq=rank(r.seq)) for r in outcome.results])
    if isinstance(outcome, MarkedMessages):
        changed, unknown = map(rank, outcome.changed), map(rank, outcome.unknown_seqs)
        return structs.replace(outcome, changed=list(changed), unknown_seqs=list(unknown))
    return outcome


def _command(command: Op, seqs: Sequence[int]) -> Command:
    """Write a command down as the journal that gave these seqs is told it."""
    match command:
        case ("send", int(sender), list(sends)):
            return store(*(message(n, *to, body=bytes(size)) for n, to, size in sends), sender=sender)
        case ("mark", int(mailbox), list(places), bool(read)):
            return MarkMessages(mailbox=mailbox, seqs=[seqs[p] for p in places if p < len(seqs)], read=read)
        case ("mark ids", int(mailbox), list(numbers), bool(read)):
            return MarkMessages(mailbox=mailbox, ids=[id_of(n) for n in numbers], read=read)
        case ("delivered", int(mailbox), int(place)):
            return NoteDelivered(mailbox=mailbox, through=seqs[place] if place < len(seqs) else 0)
        case ("close", int(mailbox)):
            return CloseMailbox(mailbox=mailbox)
    raise AssertionError(command)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_op, min_size=3, max_size=25))
def test_whatever_is_done_they_say_the_same(ops: list[Op]) -> None:
    with folder() as where, disk() as failing, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_reads, "SCAN_ROWS_MAX", 5)
        patch.setattr("store_worker.memory.SCAN_ROWS_MAX", 5)
        pair = Pair(Path(where) / "store.db", failing)
        try:
            for op in ops:
                pair.do(op)
                pair.compare()
        finally:
            pair.journal.close()
