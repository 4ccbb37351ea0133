"""What only a file can do: last, be shared, be locked, full, damaged or somebody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from auth_service import schema
from auth_service.accounts import AccountsError
from auth_service.sqlite import SqliteAccounts
from runtime.errors import SetupError
from tests.unit.auth_service.bench import DAY, MINUTE, NOW, done, grant, hashed, key, made

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "accounts.db"


@pytest.fixture
def accounts(path: Path) -> Iterator[SqliteAccounts]:
    accounts = SqliteAccounts(path, busy_ms=20)
    yield accounts
    accounts.close()


def child(script: str, *args: str) -> subprocess.Popen[str]:
    """Another process with these packages."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_everything_is_there_after_a_restart(path: Path) -> None:
    first = SqliteAccounts(path)
    alice = made(first, "alice")
    granted = done(first.grant(key(2), grant(alice, 2), NOW))
    first.close()
    second = SqliteAccounts(path)
    assert second.find(["alice"]) == [alice]
    assert second.use_token(hashed(2), NOW) is not None
    again = second.recall(key(2))
    assert again is not None
    assert again.token == granted.token
    second.close()


REGISTERS = """
import sys
from pathlib import Path
from auth_service.sqlite import SqliteAccounts
from tests.unit.auth_service.bench import NOW, key
accounts = SqliteAccounts(Path(sys.argv[1]))
for number in range(1_000_000):
    assert accounts.register(key(number), f"name-{number}", "", "hash", NOW)
    print(number, flush=True)
"""


def test_whoever_was_told_yes_is_there_after_kill_9(path: Path) -> None:
    process = child(REGISTERS, str(path))
    assert process.stdout is not None
    with process:
        told = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
        told += [int(line) for line in process.stdout.read().splitlines() if line.strip()]
    accounts = SqliteAccounts(path)
    assert len(accounts.find([f"name-{number}" for number in told])) == len(told)
    last = told[-1]
    again = accounts.register(key(last), f"name-{last}", "", "hash", NOW)
    assert again is not None
    assert again.again
    accounts.close()


OPENS = """
import sys
from pathlib import Path
from auth_service.sqlite import SqliteAccounts
from tests.unit.auth_service.bench import NOW, key
sys.stdin.readline()
accounts = SqliteAccounts(Path(sys.argv[1]))
print(accounts.register(key(int(sys.argv[2])), "alice", "", "hash", NOW) is not None)
"""


def test_workers_that_start_at_once_make_the_database_once_and_one_gets_the_name(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=50)[0].strip() for process in processes]
    assert sorted(answers) == ["False", "False", "False", "True"]


def test_two_that_open_it_at_once_do_not_both_migrate(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as pool:
        others: list[Future[SqliteAccounts]] = []

        def version(connection: apsw.Connection, of: Path) -> int:
            """Between this one's look at the version and its migration, another opens the file as well."""
            found = real(connection, of)
            if not others:
                others.append(pool.submit(SqliteAccounts, path))
                wait(others, timeout=0.3)
            return found

        real = schema._version
        monkeypatch.setattr(schema, "_version", version)
        accounts = SqliteAccounts(path)
        other = others[0].result(10)
    alice = made(accounts, "alice")
    assert other.find(["alice"]) == [alice]
    accounts.close()
    other.close()


def test_it_is_synced_and_shared(accounts: SqliteAccounts) -> None:
    assert accounts._writer.pragma("journal_mode") == "wal"
    assert accounts._writer.pragma("synchronous") == 2
    assert accounts._writer.pragma("foreign_keys") == 1


@pytest.mark.usefixtures("accounts")
def test_only_this_user_can_read_it(path: Path) -> None:
    made(SqliteAccounts(path), "alice")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) == {"accounts.db", "accounts.db-wal", "accounts.db-shm", "accounts.db.lock"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


class TestLocked:
    """Another worker is stopped in the middle of a change."""

    @pytest.fixture
    def locked(self, accounts: SqliteAccounts, path: Path) -> Iterator[SqliteAccounts]:
        alice = made(accounts, "alice")
        accounts.grant(key(2), grant(alice, 2), NOW)
        with closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            yield accounts
            other.execute("ROLLBACK")

    def test_a_change_is_refused_and_may_be_repeated(self, locked: SqliteAccounts, path: Path) -> None:
        with pytest.raises(AccountsError) as raised:
            locked.register(key(3), "bob", "", "hash", NOW)
        assert raised.value.code == "unavailable"
        assert locked.recall(key(3)) is None

    def test_reading_and_resuming_go_on(self, locked: SqliteAccounts) -> None:
        assert len(locked.find(["alice"])) == 1
        assert locked.use_token(hashed(2), NOW + 2 * MINUTE) is not None
        assert locked.tokens_of(1, NOW)[0].last_used_at_us == NOW

    def test_afterwards_everything_goes_on(self, accounts: SqliteAccounts, path: Path) -> None:
        with closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(AccountsError):
                made(accounts, "alice", 1)
            other.execute("ROLLBACK")
        made(accounts, "alice", 1)


def test_a_full_disk_is_refused_and_nothing_of_the_change_stays(accounts: SqliteAccounts) -> None:
    accounts._writer.pragma("max_page_count", accounts._writer.pragma("page_count"))
    with pytest.raises(AccountsError) as raised:
        accounts.register(key(1), "alice", "x" * 100_000, "hash", NOW)
    assert raised.value.code == "storage_full"
    assert accounts.find(["alice"]) == []
    accounts._writer.pragma("max_page_count", 1_000_000)
    made(accounts, "alice", 1)


def test_a_change_that_fails_half_way_is_undone(accounts: SqliteAccounts) -> None:
    alice = made(accounts, "alice")
    accounts._writer.execute("CREATE TRIGGER no BEFORE INSERT ON operations BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(AccountsError) as raised:
        accounts.grant(key(2), grant(alice, 2, password_hash="new", ends_others=True), NOW)
    assert raised.value.code == "storage_failed"
    assert accounts.find(["alice"]) == [alice]
    assert accounts.tokens_of(alice.account, NOW) == []
    accounts._writer.execute("DROP TRIGGER no")
    done(accounts.grant(key(2), grant(alice, 2), NOW))


def test_expired_tokens_are_taken_along_by_what_is_done_next(accounts: SqliteAccounts) -> None:
    alice = made(accounts, "alice")
    accounts.grant(key(2), grant(alice, 2), NOW)
    accounts.grant(key(3), grant(alice, 3, expires_at_us=NOW + 2 * DAY), NOW + DAY)
    assert accounts._reader.execute("SELECT count(*) FROM tokens").get == 1


@contextmanager
def not_root() -> Iterator[None]:
    """Root may write everywhere: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


class TestCannotStart:
    def test_a_directory_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no directory")
        with pytest.raises(SetupError, match="Make it a directory that this user can write in"):
            SqliteAccounts(tmp_path / "file" / "accounts.db")

    def test_a_directory_that_is_not_writable(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with not_root(), pytest.raises(SetupError, match="Permission denied"):
            SqliteAccounts(tmp_path / "accounts.db")

    def test_a_file_that_is_no_database(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"what is this? " * 1_000)
        with pytest.raises(SetupError, match=r"is damaged .* nothing was changed"):
            SqliteAccounts(path)
        assert path.read_bytes() == b"what is this? " * 1_000

    def test_a_database_with_a_damaged_page(self, path: Path) -> None:
        accounts = SqliteAccounts(path)
        for number in range(200):
            made(accounts, f"name-{number}", number)
        accounts.close()
        raw = bytearray(path.read_bytes())
        raw[4096 * 2 : 4096 * 6] = b"\xff" * (4096 * 4)
        path.write_bytes(raw)
        with pytest.raises(SetupError, match="is damaged"):
            SqliteAccounts(path)

    def test_a_database_of_a_newer_version(self, path: Path) -> None:
        SqliteAccounts(path).close()
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
        with pytest.raises(SetupError, match="newer version"):
            SqliteAccounts(path)

    def test_a_database_of_another_program(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("CREATE TABLE users (name TEXT)")
        with pytest.raises(SetupError, match="not a database of accounts"):
            SqliteAccounts(path)
        with closing(apsw.Connection(str(path))) as connection:
            assert connection.pragma("journal_mode") == "delete"


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteAccounts(path).close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE more (x); CREATE TABLE accounts (y)"))
    with pytest.raises(SetupError, match="Can't open"):
        SqliteAccounts(path)
    monkeypatch.undo()
    SqliteAccounts(path).close()


def test_a_later_migration_keeps_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = SqliteAccounts(path)
    alice = made(accounts, "alice")
    accounts.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE accounts ADD COLUMN more TEXT"))
    accounts = SqliteAccounts(path)
    assert accounts.find(["alice"]) == [alice]
    assert accounts._reader.pragma("user_version") == len(schema.MIGRATIONS)
    accounts.close()
