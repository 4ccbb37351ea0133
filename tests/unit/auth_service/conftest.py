"""Every test that asks for `kind`, `accounts` or `worker` runs once an implementation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auth_service.accounts import Accounts
from auth_service.sqlite import SqliteAccounts
from tests.unit.auth_service.bench import Kind, Worker, memory_kind, sqlite_kind


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    if request.param == "memory":
        yield memory_kind()
        return
    opened: list[SqliteAccounts] = []
    yield sqlite_kind(tmp_path / "accounts.db", opened)
    for accounts in opened:
        accounts.close()


@pytest.fixture
def accounts(kind: Kind) -> Accounts:
    return kind.open()


@pytest.fixture
def worker(accounts: Accounts) -> Worker:
    return Worker(accounts)
