"""What these tests share: accounts of either kind, a password hash that is cheap and counts, dice, and short words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from auth_service.accounts import Account, Accounts, Grant, Operation, operation_key, secret_hash, token_secret
from auth_service.answers import Answers, Policy
from auth_service.memory import MemoryAccounts
from auth_service.passwords import Checked
from auth_service.sqlite import SqliteAccounts
from restante.wire import auth_link

NOW = 1_700_000_000_000_000
MINUTE = 60 * 1_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TOKENS_MAX = 3

T = TypeVar("T")


def op(number: int) -> bytes:
    """A client's operation id."""
    return number.to_bytes(16, "big")


def key(number: int) -> bytes:
    """The key of some operation."""
    return operation_key(op(number), "test")


class Kind(msgspec.Struct):
    """One implementation: how to open the same accounts again, and how an operator disables one."""

    name: str
    open: Callable[[], Accounts]
    disable: Callable[[str], None]


def memory_kind() -> Kind:
    accounts = MemoryAccounts(tokens_max=TOKENS_MAX)

    def disable(name: str) -> None:
        (account,) = accounts.find([name])
        accounts._accounts[account.account] = msgspec.structs.replace(account, active=False)

    return Kind("memory", lambda: accounts, disable)


def sqlite_kind(path: Path, opened: list[SqliteAccounts]) -> Kind:
    def open_() -> Accounts:
        opened.append(SqliteAccounts(path, tokens_max=TOKENS_MAX))
        return opened[-1]

    def disable(name: str) -> None:
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("UPDATE accounts SET status = 'disabled' WHERE name = ?", (name,))

    return Kind("sqlite", open_, disable)


class PlainPasswords:
    """Hashes that can be read: `VERSION:SALT:PASSWORD`. Counts what it is asked, and against what."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.hashed = 0
        self.checked: list[str | None] = []
        self.while_checking: Callable[[], object] | None = None
        self.while_hashing: Callable[[], object] | None = None
        """Called once, when that is being done: what another worker does in that time."""
        self._salts = itertools.count(1)

    def hash(self, password: str) -> str:
        self.hashed += 1
        meanwhile, self.while_hashing = self.while_hashing, None
        if meanwhile:
            meanwhile()
        return f"{self.version}:{id(self)}-{next(self._salts)}:{password}"

    def check(self, password: str, stored: str | None) -> Checked:
        self.checked.append(stored)
        meanwhile, self.while_checking = self.while_checking, None
        if meanwhile:
            meanwhile()
        if stored is None or stored.split(":", 2)[2] != password:
            return Checked(right=False)
        old = int(stored.split(":")[0]) != self.version
        return Checked(right=True, rehashed=self.hash(password) if old else "")


_DICE = itertools.count(1)


def dice(n: int) -> bytes:
    """Bytes that nobody has had before, in any worker."""
    return next(_DICE).to_bytes(n, "big")


class Worker:
    """One worker's rules over some accounts, asked directly."""

    def __init__(self, accounts: Accounts, passwords: PlainPasswords | None = None) -> None:
        self.accounts = accounts
        self.passwords = passwords or PlainPasswords()
        self._answers = Answers(accounts, self.passwords, dice, Policy())

    def ask(self, question: auth_link.Question, now_us: int = NOW) -> auth_link.Outcome:
        return self._answers.answer(question, now_us)

    def register(self, number: int, name: str = "alice", password: str = "old password") -> auth_link.Outcome:
        return self.ask(auth_link.MakeAccount(op=op(number), name=name, password=password))

    def log_in(
        self, number: int, name: str = "alice", password: str = "old password", *, now_us: int = NOW, device: str = ""
    ) -> auth_link.Outcome:
        return self.ask(auth_link.LogIn(op=op(number), name=name, password=password, device=device), now_us)

    def change(self, number: int, old: str, new: str, *, account: int = 1, token_id: int = 0) -> auth_link.Outcome:
        return self.ask(auth_link.ChangePassword(op=op(number), account=account, old=old, new=new, token_id=token_id))

    def use(self, token: bytes, now_us: int = NOW) -> auth_link.Outcome:
        return self.ask(auth_link.UseToken(token=token), now_us)


def got(kind: type[T], outcome: object) -> T:
    """The outcome, which must be of that kind."""
    assert isinstance(outcome, kind), outcome
    return outcome


def code(outcome: auth_link.Outcome) -> str:
    """The code of a refusal."""
    return got(auth_link.Refused, outcome).code


def made(accounts: Accounts, name: str, number: int = 1) -> Account:
    """A new account."""
    assert accounts.register(key(number), name, name.title(), "hash", NOW)
    (account,) = accounts.find([name])
    return account


def grant(account: Account, number: int, **changes: object) -> Grant:
    """A grant for that account; its secret is `secret(number)`."""
    plain = Grant(
        account=account.account,
        verified=account.password_hash,
        password_hash=account.password_hash,
        salt=salt(number),
        secret_hash=hashed(number),
        device=f"device {number}",
        expires_at_us=NOW + DAY,
    )
    return msgspec.structs.replace(plain, **changes)


def salt(number: int) -> bytes:
    return number.to_bytes(32, "big")


def hashed(number: int) -> bytes:
    """The hash of the secret that `grant(…, number)` grants."""
    return secret_hash(token_secret(salt(number), op(number)))


def done(operation: Operation | None) -> Operation:
    """What was done, which must have been done now."""
    assert operation is not None
    assert not operation.again
    return operation
