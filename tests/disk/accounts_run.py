"""The accounts under power cuts: a random workload, and what must be true of what is left.

*Last used* is left out: it is unsynced on purpose, and losing it loses nothing.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import apsw
import msgspec
from msgspec import Struct

from auth_service.accounts import Grant, Operation
from auth_service.sqlite import SqliteAccounts
from runtime.errors import SetupError
from tests.disk.runs import Call, Cut, Rows, Run, blame, differences
from tests.disk.vfs import Disk
from tests.unit.auth_service.bench import DAY, MINUTE, NOW, hashed, key, salt

NAME: Final = "accounts.db"

NAMES: Final = tuple(f"name-{n}" for n in range(12))

TOKENS_MAX: Final = 4
"""So few that the oldest are ended all the time."""

CHECKPOINT_PAGES: Final = 20
"""So few that a short run copies the log home, and begins it anew, several times."""


class Register(Struct, frozen=True):
    """Make an account."""

    op: int
    name: str

    def do(self, accounts: SqliteAccounts, now_us: int) -> Operation | None:
        return accounts.register(key(self.op), self.name, self.name.title(), "hash", now_us)


class Make(Struct, frozen=True):
    """Make a token: a login, or with `ends_others` a change of password."""

    op: int
    grant: Grant

    def do(self, accounts: SqliteAccounts, now_us: int) -> Operation | None:
        return accounts.grant(key(self.op), self.grant, now_us)


class EndOne(Struct, frozen=True):
    """End a token."""

    op: int
    account: int
    token: int

    def do(self, accounts: SqliteAccounts, now_us: int) -> Operation | None:
        return accounts.end_token(key(self.op), self.account, self.token, now_us)


Request = Register | Make | EndOne


class What(Struct, frozen=True):
    """A call, and its answer. Without a request it is a start."""

    request: Request | None = None
    now_us: int = 0
    done: Operation | None = None


def rows(db: apsw.Connection) -> Rows:
    """All that is promised to be kept, table by table."""

    def of(sql: str) -> list[tuple[object, ...]]:
        return [*db.execute(sql)]

    return {
        "accounts": of("SELECT * FROM accounts ORDER BY account"),
        "tokens": of("SELECT token, hash, account, device, created_at_us, expires_at_us FROM tokens ORDER BY token"),
        "operations": of("SELECT * FROM operations ORDER BY op"),
        "numbers given": of("SELECT * FROM sqlite_sequence ORDER BY name"),
    }


class Workload:
    """Does random things to accounts on a disk, and writes down what was answered."""

    def __init__(self, folder: Path, disk: Disk, seed: int, *, synchronous: str) -> None:
        self._path = folder / NAME
        self._disk = disk
        self._dice = Random(seed)
        self._synchronous = synchronous
        self._op = 0
        self._now_us = NOW
        self._secrets: list[int] = []
        self.calls: list[Call[What]] = []

    def run(self, calls: int) -> None:
        """Begin, and make at least so many calls."""
        self._begin()
        while len(self.calls) < calls:
            if self._dice.random() < 0.04:
                end(self.accounts, killed=self._dice.random() < 0.5)
                self._begin()
            elif self._dice.random() < 0.3 and self._secrets:
                self.accounts.use_token(hashed(self._dice.choice(self._secrets)), self._now_us + 2 * MINUTE)
            else:
                self._change()
        self.accounts.close()

    def start(self) -> None:
        """Open the database."""
        self.accounts = SqliteAccounts(self._path, tokens_max=TOKENS_MAX, vfs=self._disk.name)
        for db in (self.accounts._writer, self.accounts._reader, self.accounts._toucher):
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self.accounts._writer.pragma("synchronous", self._synchronous)

    def ask(self, request: Request) -> Operation | None:
        """Ask for a change."""
        return request.do(self.accounts, self._now_us)

    def _begin(self) -> None:
        begun = len(self._disk.log)
        self.start()
        self.calls.append(Call(What(), begun, len(self._disk.log), rows(self.accounts._reader)))

    def _change(self) -> None:
        self._op += 1
        self._now_us += self._dice.randint(1, MINUTE)
        request = self._request()
        begun = len(self._disk.log)
        done = self.ask(request)
        call = Call(What(request, self._now_us, done), begun, len(self._disk.log), rows(self.accounts._reader))
        self.calls.append(call)

    def _request(self) -> Request:
        accounts, dice, op = self.accounts, self._dice, self._op
        found = accounts.find([dice.choice(NAMES)])
        if not found or dice.random() < 0.1:
            return Register(op, dice.choice(NAMES))
        account, tokens = found[0], accounts.tokens_of(found[0].account, self._now_us)
        if tokens and dice.random() < 0.3:
            return EndOne(op, account.account, dice.choice(tokens).token)
        self._secrets.append(op)
        changes = dice.random() < 0.3
        grant = Grant(
            account=account.account,
            verified=account.password_hash,
            password_hash=f"hash {op}" if changes else account.password_hash,
            salt=salt(op),
            secret_hash=hashed(op),
            device=f"device {op}",
            expires_at_us=self._now_us + DAY,
            ends_others=changes,
        )
        return Make(op, grant)


def end(accounts: SqliteAccounts, *, killed: bool) -> None:
    """Close; if killed, then as the end of the process would: nothing is copied home, and the log stays."""
    for db in (accounts._toucher, accounts._reader, accounts._writer):
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(killed))
    accounts.close()


def run(folder: Path, disk: Disk, seed: int, *, calls: int = 60, synchronous: str = "full") -> Run[What]:
    """A workload done while the power was on."""
    workload = Workload(folder, disk, seed, synchronous=synchronous)
    workload.run(calls)
    return Run("accounts", seed, disk.log, workload.calls, synchronous)


# --- after a cut ------------------------------------------------------------------------------------------


def check(run: Run[What], cut: Cut[What], folder: Path) -> None:
    """Open what is left as a worker would, ask again what was not answered, and hold it all against what was.

    Raises Violation.
    """
    for name, data in cut.image.items():
        (folder / name).write_bytes(data)
    try:
        accounts = SqliteAccounts(folder / NAME, tokens_max=TOKENS_MAX)
    except SetupError as error:
        raise blame(run, cut, f"the database does not open: {error}") from error
    try:
        if cut.answered and (what := differences(rows(accounts._reader), cut.may_hold())):
            raise blame(run, cut, f"answered, and not so after the cut: {what}")
        _check_tokens(run, cut, accounts)
        _check_again(run, cut, accounts)
        for problem in problems(accounts._reader):
            raise blame(run, cut, problem)
    finally:
        end(accounts, killed=True)


def _check_tokens(run: Run[What], cut: Cut[What], accounts: SqliteAccounts) -> None:
    """No token is good that an answer said was ended."""
    done = [call.what.done for call in cut.answered if call.what.done]
    ended = {token for operation in done for token in operation.ended}
    if back := ended - set(accounts.ended_among(sorted(ended), NOW)):
        raise blame(run, cut, f"ended, and good again: tokens {sorted(back)}")


def _check_again(run: Run[What], cut: Cut[What], accounts: SqliteAccounts) -> None:
    """What was under way is asked again, and is then done once; what was answered gets its answer again."""
    again: list[Call[What]] = cut.dice.sample([*cut.answered], min(2, len(cut.answered)))
    if cut.under_way is not None and cut.answered:
        again.insert(0, cut.under_way)
    for call in again:
        request, wanted = call.what.request, call.what.done
        if request is None or wanted is None:
            continue
        found = request.do(accounts, call.what.now_us)
        if found is None or told(found) != told(wanted):
            raise blame(run, cut, f"asked again, and told otherwise: {found}, was {wanted}")
        if call is cut.under_way and (what := differences(rows(accounts._reader), [call.rows])):
            raise blame(run, cut, f"asked again, and not as if asked once: {what}")


def told(done: Operation) -> Operation:
    """What was done, whether now or before."""
    return msgspec.structs.replace(done, again=False)


def problems(db: apsw.Connection) -> list[str]:
    """What is wrong with a database of accounts, whatever was done to it."""
    found = [str(row[0]) for row in db.execute("PRAGMA integrity_check") if row != ("ok",)]
    found += [f"a row of {row[0]} without its account" for row in db.execute("PRAGMA foreign_key_check")]
    if db.execute("SELECT name FROM accounts GROUP BY lower(name) HAVING count(*) > 1").fetchone() is not None:
        found.append("a name twice")
    return found
