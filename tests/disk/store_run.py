"""The store's journal under power cuts: a random workload, and what must be true of what is left."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import apsw
import msgpack
from msgspec import Struct

from restante.wire.envelopes import Result
from restante.wire.store_link import CloseMailbox, Command, MarkMessages, NoteDelivered, Stored, StoreMessages
from store_worker.journal import JournalError, Write, Written
from store_worker.sqlite import SqliteJournal
from store_worker.sqlite_index import Bounds
from store_worker.sqlite_schema import fetch
from tests.disk.runs import Call, Cut, Rows, Run, blame, differences
from tests.disk.vfs import Disk
from tests.unit.store_worker.making import NOW_US, message, store, write

NAME: Final = "restante.db"

MAILBOXES: Final = (2, 3, 4, 5)
SENDERS: Final = (1, 2, 3)

CHECKPOINT_PAGES: Final = 40
"""So few that a short run copies the log home, and begins it anew, several times."""

BOUNDS: Final = Bounds(run_rows=8, tail_rows=30, replay_seqs=60, step_rows=4)
"""So small that the index follows with most commits."""

T = TypeVar("T")


class What(Struct, frozen=True):
    """A call, and its answer."""

    kind: str
    """start, open, commit, catch up, close."""
    writes: Sequence[Write] = ()
    now_us: int = 0
    written: Sequence[Written] = ()


def rows(db: apsw.Connection) -> Rows:
    """All that is promised to be kept, table by table; contents by their checksum.

    Deliveries and counters are as a reader sees them: how much of them stands in the index is nobody's business.
    """
    tail = behind(db)
    ahead = Counter(mailbox for mailbox, _ in tail)

    def of(sql: str) -> list[tuple[object, ...]]:
        return [
            tuple(zlib.crc32(value) if isinstance(value, bytes) and len(value) > 16 else value for value in row)
            for row in db.execute(sql)
        ]

    return {
        "meta": of("SELECT epoch, high, stored_at_us FROM meta"),
        "messages": of("SELECT * FROM messages ORDER BY seq"),
        "deliveries": sorted([*deliveries(db), *((mailbox, 0, seq, 0) for mailbox, seq in tail)]),
        "mailboxes": [
            (mailbox, delivered_through, unread + ahead[mailbox], total + ahead[mailbox], closed)
            for mailbox, delivered_through, unread, total, closed in db.execute(_SELECT_MAILBOXES, (str(list(ahead)),))
        ],
        "brokers": of("SELECT * FROM brokers ORDER BY name"),
        "suspects": of("SELECT * FROM suspects ORDER BY id"),
    }


_SELECT_MAILBOXES: Final = """
    SELECT mailbox, coalesce(delivered_through, 0), coalesce(unread, 0), coalesce(total, 0), coalesce(closed, 0)
    FROM (SELECT mailbox FROM mailboxes UNION SELECT value FROM json_each(?)) LEFT JOIN mailboxes USING (mailbox)
    ORDER BY mailbox
"""


def behind(db: apsw.Connection) -> list[tuple[int, int]]:
    """What the log says was delivered, and the index does not say yet: as a start must find it, by other means."""
    ((indexed,),) = fetch(db, "SELECT indexed FROM meta")
    own: dict[int, int] = dict(fetch(db, "SELECT mailbox, indexed FROM mailboxes"))
    return [(m, seq) for m, seq in recipients(db) if seq > indexed and seq > own.get(m, 0)]


def deliveries(db: apsw.Connection) -> list[tuple[int, int, int, int]]:
    """What is in the index, as (mailbox, read, seq, read_at_us), in the order of its rows."""
    return [
        (mailbox, read, seq, read_at_us)
        for mailbox, read, _, first, read_at_us, distances in db.execute("SELECT * FROM runs ORDER BY 1, 2, 3")
        for seq in itertools.accumulate([first, *msgpack.unpackb(distances)])
    ]


def recipients(db: apsw.Connection) -> list[tuple[int, int]]:
    """Whom the log's messages are for, as (mailbox, seq)."""
    log = db.execute("SELECT seq, recipients FROM messages")
    return list(itertools.chain(*([(m, seq) for m in msgpack.unpackb(packed)[1]] for seq, packed in log)))


class Workload:
    """Does random things to a journal on a disk, and writes down what was answered."""

    def __init__(self, folder: Path, disk: Disk, seed: int, *, synchronous: str) -> None:
        self._path = folder / NAME
        self._disk = disk
        self._dice = Random(seed)
        self._synchronous = synchronous
        self._number = 0
        self._high = 0
        self._now_us = NOW_US
        self.calls: list[Call[What]] = []

    def run(self, calls: int) -> None:
        """Begin, and make at least so many calls."""
        self._begin()
        while len(self.calls) < calls:
            if self._dice.random() < 0.06:
                self._begin_again()
            elif self._dice.random() < 0.1:
                self._catch_up()
            else:
                self._commit()
        self.journal.close()

    def start(self) -> None:
        """Open the database, and count a start."""
        self.journal = SqliteJournal(self._path, vfs=self._disk.name, bounds=BOUNDS)
        db = self.journal._db
        db.pragma("synchronous", self._synchronous)
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self.journal.start()

    def ask(self, what: Callable[[SqliteJournal], T]) -> T:
        """Ask something of the journal."""
        return what(self.journal)

    def _begin(self) -> None:
        begun = len(self._disk.log)
        self.start()
        self._note(begun, What("start"))
        begun = len(self._disk.log)
        name, nonce = self._dice.choice(("one", "two")), self._dice.randbytes(16)
        self.ask(lambda journal: journal.open(name, nonce))
        self._note(begun, What("open"))
        self._commit()  # a start without a commit is a suspicious one

    def _begin_again(self) -> None:
        """End in order, or as if killed."""
        if self._dice.random() < 0.5:
            begun, last = len(self._disk.log), self.calls[-1].rows
            self.journal.close()
            self.calls.append(Call(What("close"), begun, len(self._disk.log), last))
        else:
            kill(self.journal._db)
        self._begin()

    def _commit(self) -> None:
        self._now_us += self._dice.randint(1, 1_000_000)
        writes = [self._write() for _ in range(self._dice.randint(1, 3))]
        begun = len(self._disk.log)
        written = self.ask(lambda journal: journal.commit(writes, self._now_us))
        self._high = written[-1].high
        self._note(begun, What("commit", writes, self._now_us, written))

    def _catch_up(self) -> None:
        begun = len(self._disk.log)
        self.ask(lambda journal: journal.catch_up())
        self._note(begun, What("catch up"))

    def _note(self, begun: int, what: What) -> None:
        self.calls.append(Call(what, begun, len(self._disk.log), rows(self.journal._db)))

    def _write(self) -> Write:
        return write(*(self._command() for _ in range(self._dice.randint(1, 3))), body=self._dice.randbytes(60))

    def _command(self) -> Command:
        dice, kind = self._dice, self._dice.random()
        mailbox = dice.choice(MAILBOXES)
        if kind < 0.2:
            seqs = sorted({dice.randint(1, self._high) for _ in range(dice.randint(1, 20))}) if self._high else []
            return MarkMessages(mailbox=mailbox, seqs=seqs, read=dice.random() < 0.8)
        if kind < 0.3:
            return NoteDelivered(mailbox=mailbox, through=dice.randint(0, self._high))
        if kind < 0.31:
            return CloseMailbox(mailbox=mailbox)
        return self._send()

    def _send(self) -> Command:
        dice, messages = self._dice, []
        for _ in range(dice.choice((1, 1, 1, 2, 5, 20))):
            self._number += 1
            number = self._number if dice.random() < 0.9 else dice.randint(1, self._number)
            size = dice.choice((1, 40, 40, 200, 200, 6_000))
            to = dice.sample(MAILBOXES, dice.randint(1, 3))
            messages.append(message(number, *to, body=bytes(size)))
        return store(*messages, sender=dice.choice(SENDERS))


def kill(db: apsw.Connection) -> None:
    """Let go of a database as the end of its process would: nothing is copied home, and the log stays."""
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.close()


def run(folder: Path, disk: Disk, seed: int, *, calls: int = 60, synchronous: str = "full") -> Run[What]:
    """A workload done while the power was on."""
    workload = Workload(folder, disk, seed, synchronous=synchronous)
    workload.run(calls)
    return Run("store", seed, disk.log, workload.calls, synchronous)


# --- after a cut ------------------------------------------------------------------------------------------


def check(run: Run[What], cut: Cut[What], folder: Path) -> None:
    """Open what is left as a store would, send again what was not answered, and hold it all against what was.

    Raises Violation.
    """
    for name, data in cut.image.items():
        (folder / name).write_bytes(data)
    try:
        journal = SqliteJournal(folder / NAME, bounds=BOUNDS)
    except JournalError as error:
        raise blame(run, cut, f"the database does not open: {error}") from error
    try:
        _check_rows(run, cut, journal)
        _check_start(run, cut, journal)
        _check_replay(run, cut, journal)
        for problem in problems(journal._db):
            raise blame(run, cut, problem)
    finally:
        kill(journal._db)


def _check_rows(run: Run[What], cut: Cut[What], journal: SqliteJournal) -> None:
    if cut.answered:  # before the first answer anything goes that opens
        found = rows(journal._db)
        if what := differences(found, cut.may_hold()):
            raise blame(run, cut, f"answered, and not so after the cut: {what}")


def _check_start(run: Run[What], cut: Cut[What], journal: SqliteJournal) -> None:
    """Epochs and generations only go up, and the high-water is as high as any answer said."""
    started = journal.start()
    if started.epoch <= sum(call.what.kind == "start" for call in cut.answered):
        raise blame(run, cut, f"epoch {started.epoch} was given before")
    high = max((written.high for call in cut.answered for written in call.what.written), default=0)
    if started.high < high:
        raise blame(run, cut, f"the high-water is {started.high}, and {high} was answered")


def _check_replay(run: Run[What], cut: Cut[What], journal: SqliteJournal) -> None:
    """What was under way comes again, as the broker sends it; then some that was answered long ago."""
    call = cut.under_way
    if call is not None and call.what.kind == "commit" and cut.answered:
        one_by_one = journal._suspicion.awake  # then seqs are given without gaps
        journal.commit(call.what.writes, call.what.now_us)
        found, wanted = _but_epoch(rows(journal._db)), _but_epoch(call.rows)
        if one_by_one:
            found, wanted = _but_seq(found), _but_seq(wanted)
        if what := differences(found, [wanted]):
            raise blame(run, cut, f"sent again, and not as if sent once: {what}")
    commits = [call.what for call in cut.answered if call.what.kind == "commit"]
    for old in cut.dice.sample(commits, min(2, len(commits))):
        before = accepted(old.writes, old.written)
        after = accepted(old.writes, journal.commit(old.writes, old.now_us))
        if changed := {key for key, result in before.items() if after[key].seq != result.seq}:
            raise blame(run, cut, f"accepted before, and not the first answer again: {sorted(changed)[:3]}")


def _but_epoch(found: Rows) -> Rows:
    return {**found, "meta": [row[1:] for row in found["meta"]]}


def _but_seq(found: Rows) -> Rows:
    return {"messages": [row[1:] for row in found["messages"]], "mailboxes": found["mailboxes"]}


def accepted(writes: Sequence[Write], written: Sequence[Written]) -> dict[tuple[int, bytes], Result]:
    """What was accepted, by sender and id."""
    found = {}
    for one, answer in zip(writes, written, strict=True):
        for command, outcome in zip(one.commands, answer.outcomes, strict=True):
            if not (isinstance(command, StoreMessages) and isinstance(outcome, Stored)):
                continue
            for sent, result in zip(command.messages, outcome.results, strict=True):
                if result.seq:
                    found[command.sender, sent.id] = result
    return found


_MUST_BE_EMPTY: Final = {
    "a message twice": "SELECT id FROM messages GROUP BY id, sender HAVING count(*) > 1",
    "a run read at no time, or unread since one": "SELECT mailbox FROM runs WHERE (read = 0) != (read_at_us = 0)",
    "an index that claims more than there is": "SELECT indexed FROM meta WHERE indexed > high",
    "a high-water below a seq": "SELECT seq FROM messages, meta WHERE seq > high",
}


def problems(db: apsw.Connection) -> list[str]:
    """What is wrong with a store's database, whatever was done to it."""
    found = [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row != ("ok",)]
    index = deliveries(db)
    held = {(mailbox, seq) for mailbox, _, seq, _ in index}
    closed = {mailbox for (mailbox,) in fetch(db, "SELECT mailbox FROM mailboxes WHERE closed")}
    named, tail = {(m, seq) for m, seq in recipients(db) if m not in closed}, set(behind(db))
    if named != held | tail:
        found.append(f"a delivery too few or too many: {sorted(named ^ (held | tail))[:3]}")
    if held & tail:
        found.append(f"a delivery in the index and behind it: {sorted(held & tail)[:3]}")
    if len(held) != len(index):
        found.append("a delivery twice")
    if wrong_runs(db):
        found.append(f"runs that overlap, or end elsewhere than they say: {wrong_runs(db)[:3]}")
    unread, total = Counter(m for m, read, _, _ in index if not read), Counter(m for m, _, _, _ in index)
    counted = fetch(db, "SELECT mailbox, unread, total FROM mailboxes")
    if wrong := [row for row in counted if row[1:] != (unread[row[0]], total[row[0]])]:
        found.append(f"a counter that does not count: {wrong[:3]}")
    if uncounted := set(total) - {mailbox for mailbox, _, _ in counted}:
        found.append(f"a mailbox that is not counted: {sorted(uncounted)[:3]}")
    return found + [what for what, sql in _MUST_BE_EMPTY.items() if db.execute(sql).fetchone() is not None]


def wrong_runs(db: apsw.Connection) -> list[tuple[int, int]]:
    """The runs, as (mailbox, first), that begin before the one in front of them, of either range, has ended; and those
    that end elsewhere than they say.
    """
    found, before = [], (0, 0)
    for mailbox, first, last, distances in db.execute("SELECT mailbox, first, last, distances FROM runs ORDER BY 1, 2"):
        if (mailbox, first) <= before or first + sum(msgpack.unpackb(distances)) != last:
            found.append((mailbox, first))
        before = (mailbox, last)
    return found
