"""Accounts in a SQLite file that several worker processes share.

WAL, `synchronous=FULL`: what is answered is on disk (FACTS: NORMAL lost every acknowledged row in a power cut). Every
change is one short transaction begun IMMEDIATE, so that what it reads is what it changes; one that finds the file
locked waits BUSY_MS, and is then refused, unexecuted. Reads never wait for a change.

Three connections, each under a lock of its own, so that a thread that waits for the file holds up only its like:

    writer    changes
    reader    one statement each
    toucher   *last used*: unsynced (NORMAL) and never waiting, since losing it loses nothing; a thousand clients that
              come back at once then cost a thousand reads, and no fsync
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from auth_service import schema
from auth_service.accounts import OPERATION_US, TOUCH_US, Account, AccountsError, Grant, Operation, Token
from restante.wire.limits import TOKENS_PER_ACCOUNT_MAX
from runtime.errors import SetupError

BUSY_MS: Final = 5_000
"""How long a change waits for another worker's. They take a millisecond, unless that worker is stopped within one."""

PURGED_AT_ONCE: Final = 100
"""Old rows that one change takes along: purging keeps up with any rate, and no change pays for a backlog."""

_GOOD = """
    SELECT token, account, name, device, tokens.created_at_us, expires_at_us, last_used_at_us
    FROM tokens JOIN accounts USING (account)
    WHERE status = 'active' AND expires_at_us > :now AND
"""
_ACCOUNT = "SELECT account, name, password_hash, status = 'active' FROM accounts WHERE "


class SqliteAccounts:
    """Implements `accounts.Accounts`. `close` it at the end."""

    def __init__(
        self,
        path: Path,
        *,
        tokens_max: int = TOKENS_PER_ACCOUNT_MAX,
        busy_ms: int = BUSY_MS,
        vfs: str | None = None,
    ) -> None:
        """Open the database at `path`, made with its directory if absent. `vfs` names an apsw VFS, for tests.

        Raises SetupError if it can't be used: the text says why, and what to do.
        """
        self._tokens_max = tokens_max
        self._writing, self._reading, self._touching = threading.Lock(), threading.Lock(), threading.Lock()
        self._doubtful = False
        """What is read of the log may not be on disk, see `runtime.wal`."""
        self._path, self._vfs = path, vfs
        try:
            _make_file(path)
            self._writer = _connect(path, busy_ms, vfs)
            schema.prepare(self._writer, path, vfs)
            self._reader = _connect(path, busy_ms, vfs)
            self._toucher = _connect(path, 0, vfs)
            self._toucher.pragma("synchronous", "normal")
        except OSError as error:
            reason = f"Can't use {path.parent} for accounts: {error.strerror}."
            raise SetupError(f"{reason} Make it a directory that this user can write in.") from error
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise schema.damaged(path, str(error)) from error
        except apsw.Error as error:
            raise SetupError(
                f"Can't open {path}: {error}. See that this user can write it, and that the disk isn't full."
            ) from error

    def close(self) -> None:
        """Close the file. No method may be running."""
        for connection in (self._toucher, self._reader, self._writer):
            with contextlib.suppress(apsw.Error):  # what can't be copied home now is in the log
                connection.close()

    # --- reading ------------------------------------------------------------------------------------------

    def find(self, who: Sequence[str] | Sequence[int]) -> list[Account]:
        column = "account" if all(isinstance(one, int) for one in who) else "name"
        rows = self._read(f"{_ACCOUNT} {column} IN (SELECT value FROM json_each(:who))", who=_json(who))
        return [Account(account, name, digest, bool(active)) for account, name, digest, active in rows]

    def recall(self, op: bytes) -> Operation | None:
        with self._reading, _explained():
            return _recall(self._reader, op)

    def use_token(self, secret_hash: bytes, now_us: int) -> Token | None:
        tokens = [Token(*row) for row in self._read(f"{_GOOD} hash = :hash", hash=secret_hash, now=now_us)]
        if not tokens:
            return None
        if now_us - tokens[0].last_used_at_us >= TOUCH_US:
            self._touch(tokens[0].token, now_us)
        return tokens[0]

    def tokens_of(self, account: int, now_us: int) -> list[Token]:
        rows = self._read(f"{_GOOD} tokens.account = :account ORDER BY token", account=account, now=now_us)
        return [Token(*row) for row in rows]

    def ended_among(self, tokens: Sequence[int], now_us: int) -> list[int]:
        statement = f"{_GOOD} token IN (SELECT value FROM json_each(:tokens))"
        good = {row[0] for row in self._read(statement, tokens=_json(tokens), now=now_us)}
        return [token for token in tokens if token not in good]

    # --- changing -----------------------------------------------------------------------------------------

    def register(self, op: bytes, name: str, display_name: str, password_hash: str, now_us: int) -> Operation | None:
        with self._change() as db:
            if done := _recall(db, op):
                return done
            made = db.execute(
                "INSERT INTO accounts (name, display_name, password_hash, created_at_us) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING RETURNING account",
                (name, display_name, password_hash, now_us),
            ).get
            return None if made is None else _record(db, op, Operation(_int(made)), now_us)

    def grant(self, op: bytes, grant: Grant, now_us: int) -> Operation | None:
        with self._change() as db:
            if done := _recall(db, op):
                return done
            unchanged = db.execute(
                "UPDATE accounts SET password_hash = ? WHERE account = ? AND password_hash = ? AND status = 'active'"
                " RETURNING account",
                (grant.password_hash, grant.account, grant.verified),
            ).get
            if unchanged is None:
                return None
            ended = _end_surplus(db, grant.account, 0 if grant.ends_others else self._tokens_max - 1)
            token = db.execute(
                "INSERT INTO tokens (hash, account, device, created_at_us, expires_at_us, last_used_at_us)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING token",
                (grant.secret_hash, grant.account, grant.device, now_us, grant.expires_at_us, now_us),
            ).get
            return _record(db, op, Operation(grant.account, _int(token), grant.salt, ended), now_us)

    def end_token(self, op: bytes, account: int, token: int, now_us: int) -> Operation | None:
        with self._change() as db:
            if done := _recall(db, op):
                return done
            statement = "DELETE FROM tokens WHERE token = ? AND account = ? RETURNING token"
            if db.execute(statement, (token, account)).get is None:
                return None
            return _record(db, op, Operation(account, token, ended=[token]), now_us)

    # --- connections --------------------------------------------------------------------------------------

    def _read(self, statement: str, **bindings: object) -> list[tuple[Any, ...]]:
        with self._reading, _explained():
            return self._reader.execute(statement, bindings).fetchall()

    @contextlib.contextmanager
    def _change(self) -> Iterator[apsw.Connection]:
        """One transaction: committed, and synced, when the block ends; rolled back if it raises."""
        db = self._writer
        with self._writing, _explained():
            if self._doubtful:
                schema.renew_log(db, self._path, self._vfs)
                self._doubtful = False
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except apsw.IOError:
                self._doubtful = True
                raise
            finally:
                if db.in_transaction:  # what raised may have rolled it back already, as a full disk does
                    db.execute("ROLLBACK")

    def _touch(self, token: int, now_us: int) -> None:
        """Note that the token was used, unless that means to wait, or fails: it is then noted at the next use."""
        if not self._touching.acquire(blocking=False):
            return
        try:
            statement = "UPDATE tokens SET last_used_at_us = max(last_used_at_us, ?) WHERE token = ?"
            self._toucher.execute(statement, (now_us, token))
        except apsw.Error:
            pass
        finally:
            self._touching.release()


def _make_file(path: Path) -> None:
    """Make the file readable for this user only, before SQLite would make it for all; WAL takes over its mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _connect(path: Path, busy_ms: int, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(busy_ms)
    connection.pragma("foreign_keys", True)
    connection.pragma("synchronous", "full")
    return connection


def _recall(db: apsw.Connection, op: bytes) -> Operation | None:
    row = db.execute("SELECT account, token, salt, ended FROM operations WHERE op = ?", (op,)).fetchone()
    if row is None:
        return None
    account, token, salt, ended = row
    return Operation(_int(account), _int(token), salt, _LIST.decode(ended), again=True)


def _record(db: apsw.Connection, op: bytes, operation: Operation, now_us: int) -> Operation:
    """Store what the change did, in its transaction, and take along some of what is out of date."""
    db.execute(
        "INSERT INTO operations (op, account, token, salt, ended, at_us) VALUES (?, ?, ?, ?, ?, ?)",
        (op, operation.account, operation.token, operation.salt, _json(operation.ended), now_us),
    )
    for table, key, column, before_us in (
        ("operations", "op", "at_us", now_us - OPERATION_US),
        ("tokens", "token", "expires_at_us", now_us),
    ):
        old = f"SELECT {key} FROM {table} WHERE {column} <= ? LIMIT {PURGED_AT_ONCE}"
        db.execute(f"DELETE FROM {table} WHERE {key} IN ({old})", (before_us,))
    return operation


def _end_surplus(db: apsw.Connection, account: int, kept: int) -> list[int]:
    """End the account's tokens but for the newest `kept`; return their numbers, oldest first."""
    rows = db.execute(
        "DELETE FROM tokens WHERE token IN"
        " (SELECT token FROM tokens WHERE account = ? ORDER BY token DESC LIMIT -1 OFFSET ?) RETURNING token",
        (account, kept),
    )
    return sorted(_int(token) for (token,) in rows)


_LIST = msgspec.json.Decoder(list[int])


def _json(values: Sequence[str] | Sequence[int]) -> str:
    return msgspec.json.encode(values).decode()


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


_CODES: Final[tuple[tuple[type[apsw.Error], str, str], ...]] = (
    (apsw.FullError, "storage_full", "the accounts' disk is full; nothing is known to have changed"),
    (apsw.BusyError, "unavailable", "the accounts are locked by a worker that does not go on; try again"),
    (apsw.Error, "storage_failed", "the accounts' disk refused; nothing is known to have changed"),
)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what SQLite raises into AccountsError."""
    try:
        yield
    except apsw.Error as error:
        code, text = next((code, text) for kind, code, text in _CODES if isinstance(error, kind))
        raise AccountsError(code, text) from error
