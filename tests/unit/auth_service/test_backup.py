"""Backups of the accounts: of one moment, though workers go on; numbers are never given twice after a restore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from auth_service import backup
from auth_service.accounts import Grant
from auth_service.backup import NUMBER_LEAP, adopt, figures, make
from auth_service.sqlite import SqliteAccounts
from runtime.control import BackupFailed, Job
from runtime.sqlite_copy import STEP_PAGES
from tests.unit.auth_service.bench import DAY, NOW, key


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[SqliteAccounts]:
    made = SqliteAccounts(tmp_path / "accounts.db")
    yield made
    made.close()


def register(accounts: SqliteAccounts, number: int, *, hash_chars: int = 9) -> int:
    made = accounts.register(key(number), f"name{number}", "", "h" * hash_chars, NOW)
    assert made is not None
    return made.account


def log_in(accounts: SqliteAccounts, number: int, account: int) -> int:
    grant = Grant(
        account=account,
        verified="h" * 9,
        password_hash="h" * 9,
        secret_hash=number.to_bytes(32, "big"),
        salt=b"salt",
        device="",
        expires_at_us=NOW + DAY,
    )
    made = accounts.grant(key(number), grant, NOW)
    assert made is not None
    return made.token


class Meanwhile(Job):
    """A job during which another worker goes on: at each report somebody registers."""

    def __init__(self, accounts: SqliteAccounts) -> None:
        super().__init__()
        self._accounts = accounts
        self.registered = 0

    def report(self, done: int, total: int) -> None:
        super().report(done, total)
        self.registered += 1
        register(self._accounts, 10_000 + self.registered)


def test_it_is_of_the_moment_at_which_it_began_though_others_register(accounts: SqliteAccounts, tmp_path: Path) -> None:
    for number in range(3 * STEP_PAGES):
        register(accounts, number + 1, hash_chars=3_000)
    job = Meanwhile(accounts)
    facts = make(tmp_path / "accounts.db", tmp_path / "backup.db", job)
    assert job.registered >= 3, "nobody registered meanwhile: it shows nothing"
    assert facts == figures(tmp_path / "backup.db", thorough=True)
    assert (facts["accounts"], facts["account_max"]) == (3 * STEP_PAGES, 3 * STEP_PAGES)
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600


def test_what_worked_then_works_after_a_restore(accounts: SqliteAccounts, tmp_path: Path) -> None:
    account = register(accounts, 1)
    token = log_in(accounts, 2, account)
    make(tmp_path / "accounts.db", tmp_path / "backup.db", Job())
    assert accounts.end_token(key(3), account, token, NOW) is not None
    adopt(tmp_path / "backup.db")
    restored = SqliteAccounts(tmp_path / "backup.db")
    found = restored.use_token((2).to_bytes(32, "big"), NOW)
    assert found is not None
    assert (found.account, found.token, found.name) == (account, token, "name1")
    restored.close()


@pytest.mark.parametrize("before", [0, 1])
def test_no_number_that_was_given_after_the_backup_is_given_again(
    accounts: SqliteAccounts, tmp_path: Path, before: int
) -> None:
    """Also where there was no account at all when the backup was made."""
    for number in range(before):
        log_in(accounts, 50 + number, register(accounts, number + 1))
    make(tmp_path / "accounts.db", tmp_path / "backup.db", Job())
    lost = [register(accounts, number) for number in (5, 6, 7)]
    lost_token = log_in(accounts, 60, lost[0])
    adopt(tmp_path / "backup.db")
    restored = SqliteAccounts(tmp_path / "backup.db")
    fresh = register(restored, 8)
    assert fresh == before + NUMBER_LEAP + 1 > max(lost)
    assert log_in(restored, 61, fresh) == before + NUMBER_LEAP + 1 > lost_token
    restored.close()


def test_an_adopted_backup_is_one_file(accounts: SqliteAccounts, tmp_path: Path) -> None:
    make(tmp_path / "accounts.db", tmp_path / "backup.db", Job())
    adopt(tmp_path / "backup.db")
    assert [path.name for path in tmp_path.glob("backup*")] == ["backup.db"]


def test_one_that_nobody_waits_for_is_abandoned_and_leaves_nothing(accounts: SqliteAccounts, tmp_path: Path) -> None:
    for number in range(2 * STEP_PAGES):
        register(accounts, number + 1, hash_chars=3_000)
    job = Job()
    job.abandon()
    with pytest.raises(BackupFailed) as failure:
        make(tmp_path / "accounts.db", tmp_path / "backup.db", job)
    assert failure.value.code == "abandoned"
    assert not list(tmp_path.glob("backup*"))


def test_another_services_database_is_no_backup_of_accounts(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "other.db"))
    db.execute("CREATE TABLE accounts (account); CREATE TABLE tokens (token); PRAGMA application_id = 5").fetchall()
    db.close()
    with pytest.raises(BackupFailed, match="not a database of this service"):
        figures(tmp_path / "other.db", thorough=True)
    with pytest.raises(BackupFailed, match="not a database of accounts"):
        adopt(tmp_path / "other.db")
    assert backup.main(["check", str(tmp_path / "other.db")]) == 1
