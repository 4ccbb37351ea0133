"""PostgreSQL as a message store: one plain table, whose primary key is its index by mailbox.

*What its OK promises about the disk.* With `synchronous_commit=on` (the default) a commit is answered after its
write-ahead log has been flushed to disk. Traced: a message by itself is one fdatasync.
https://www.postgresql.org/docs/15/wal-async-commit.html

*Settings*: defaults, with `synchronous_commit=on` said outright; no socket in the file system. It refuses to run as
root: then its Debian user runs it, with the one capability that reaching a folder below root's takes.

*Client*: psycopg 3. `send` is `executemany`, a transaction a lot, which uses the pipeline mode by itself. A single call
is one `execute` in pipeline mode; what is between two syncs of the pipeline is one implicit transaction, so these calls
share their fate, which no other peer's do. (COPY was twice as fast as `executemany`: it has no answer a row either.)
An open loop sends what is due together as one transaction: psycopg waits for every commit.

Followers LISTEN. A trigger notifies them of their mailbox alone, and is there only as long as they are: nobody else
pays for NOTIFY. A row is acknowledged by deleting it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, LiteralString

from benchmarks.peers.child import HOST, ChildServer, find, output
from benchmarks.peers.flight import STOP_LOOK_S, drained_in_turn, due_together, lots
from benchmarks.peers.peer import IN_FLIGHT_MANY, Message, Peer, Server
from benchmarks.processes import free_port

OWNER: Final = "postgres"
"""Who runs the server where root may not."""

TABLE: Final = """
    CREATE TABLE IF NOT EXISTS messages (
        id bigint GENERATED ALWAYS AS IDENTITY,
        mailbox integer NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (mailbox, id)
    )
"""
NOTIFIER: Final = """
    CREATE OR REPLACE FUNCTION notify_follower() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify(TG_ARGV[0], '');
        RETURN NULL;
    END $$
"""
INSERT: Final = "INSERT INTO messages (mailbox, body) VALUES (%b, %b)"
MAILBOXES_A_COMMIT: Final = 10
"""Drained in one transaction."""

PREPARE_LOCK: Final = 1
"""Several clients prepare at a time, and `IF NOT EXISTS` alone lets two make one table."""


class PostgresqlClient:
    """One connection, in autocommit."""

    def __init__(self, endpoint: str) -> None:
        import psycopg

        self._connection = psycopg.connect(endpoint, autocommit=True)

    def prepare(self, mailboxes: int) -> None:
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (PREPARE_LOCK,))
            self._connection.execute(TABLE)
            self._connection.execute(NOTIFIER)

    def send(self, messages: Sequence[Message]) -> None:
        for lot in lots(messages, IN_FLIGHT_MANY):
            self._insert(lot)

    def _insert(self, messages: Sequence[Message]) -> None:
        """One transaction, and one round trip."""
        with self._connection.pipeline(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(INSERT, messages)

    def send_each(self, messages: Sequence[Message]) -> None:
        for lot in lots(messages, IN_FLIGHT_MANY):
            with self._connection.pipeline(), self._connection.cursor() as cursor:
                for message in lot:
                    cursor.execute(INSERT, message)

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        for messages in due_together(schedule):
            self._insert(messages)

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        everybody = "INSERT INTO messages (mailbox, body) SELECT mailbox, %b FROM generate_series(0, %s - 1) AS mailbox"
        self._connection.execute(everybody, (body, mailboxes))

    def open_mailboxes(self, mailboxes: int) -> None:
        pass

    def drain(self, mailboxes: int, expected: int) -> int:
        return drained_in_turn(mailboxes, MAILBOXES_A_COMMIT, expected, self._drain_some)

    def _drain_some(self, mailboxes: range) -> int:
        """The rows are here before the commit that acknowledges them."""
        take = "DELETE FROM messages WHERE mailbox = %s RETURNING id, body"
        with self._connection.pipeline(), self._connection.transaction():
            cursors = [self._connection.execute(take, (mailbox,), binary=True) for mailbox in mailboxes]
            return sum(len(cursor.fetchall()) for cursor in cursors)

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        channel: Any = f"mailbox_{mailbox}"
        when: LiteralString = (
            "CREATE OR REPLACE TRIGGER {0} AFTER INSERT ON messages FOR EACH ROW WHEN (NEW.mailbox = {1})"
        )
        trigger: Any = f"{when} EXECUTE FUNCTION notify_follower({{0}})".format(channel, mailbox)
        self._connection.execute(trigger)
        self._connection.execute("LISTEN " + channel)
        try:
            ready()
            while not stop.is_set():
                self._take(mailbox, got)
                for _ in self._connection.notifies(timeout=STOP_LOOK_S, stop_after=1):
                    pass
        finally:
            self._connection.execute("UNLISTEN " + channel)
            self._connection.execute(f"DROP TRIGGER {channel} ON messages")

    def _take(self, mailbox: int, got: Callable[[bytes], None]) -> None:
        """What is there now. Rows become visible in the order of commits, not of ids: so each is deleted by its id."""
        select = "SELECT id, body FROM messages WHERE mailbox = %s ORDER BY id"
        rows = self._connection.execute(select, (mailbox,), binary=True).fetchall()
        for _, body in rows:
            got(body)
        if rows:
            delete = "DELETE FROM messages WHERE mailbox = %s AND id = ANY(%s)"
            self._connection.execute(delete, (mailbox, [number for number, _ in rows]))

    def newest(self, mailbox: int, count: int) -> int:
        select = "SELECT id, body FROM messages WHERE mailbox = %s ORDER BY id DESC LIMIT %s"
        return len(self._connection.execute(select, (mailbox, count), binary=True).fetchall())

    def close(self) -> None:
        self._connection.close()


class Postgresql:
    """PostgreSQL, a plain table."""

    key = "postgresql"
    name = "PostgreSQL table"
    promise = "Committed: the write-ahead log is flushed to disk before the answer (`synchronous_commit=on`)."
    durable = True

    def missing(self) -> str | None:
        if _program("postgres") is None:
            return "no postgres: apt-get install postgresql"
        if find_spec("psycopg") is None:
            return "no psycopg: pip install 'psycopg[binary]'"
        if os.geteuid() == 0 and not _has_owner():
            return f"postgres does not run as root, and there is no user {OWNER!r}"
        return None

    def version(self) -> str:
        return f"{output(_program('postgres') or '', '--version').split()[2]}, psycopg {version('psycopg')}"

    def start(self, folder: Path) -> Server:
        server = ChildServer(folder)
        if os.geteuid() == 0:
            shutil.chown(server.data, OWNER, OWNER)
        output(*_as_owner("initdb", "--pgdata", server.data, "--auth=trust", "--username=bench", "--encoding=UTF8"))
        port = free_port()
        settings = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": "",
            "synchronous_commit": "on",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        fast_shutdown = signal.SIGINT
        server.run("postgresql", _as_owner("postgres", "-D", server.data, *options), end_by=fast_shutdown)
        server.wait_until(lambda: server.log_has("postgresql", "ready to accept connections"))
        server.endpoint = f"postgresql://bench@{HOST}:{port}/postgres"
        return server

    def client(self, endpoint: str, number: int) -> PostgresqlClient:
        return PostgresqlClient(endpoint)


def _program(name: str) -> str | None:
    """Debian keeps these out of the PATH, a folder a version: the newest."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return find(name, *versions)


def _as_owner(program: str, *arguments: str | Path) -> list[str | Path]:
    """The command, by somebody whom the server doesn't refuse."""
    command = [_program(program) or program, *arguments]
    if os.geteuid() != 0:
        return command
    options = [
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        *("--pdeathsig", "INT"),  # once more: becoming somebody else has cleared it
    ]
    return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", *options, "--", *command]


def _has_owner() -> bool:
    return any(user.pw_name == OWNER for user in pwd.getpwall())


PEERS: Final[tuple[Peer, ...]] = (Postgresql(),)
