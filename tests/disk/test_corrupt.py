"""A damaged database is not served, the reason stands in a sentence, and not a byte of it is changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auth_service import __main__ as auth_main
from auth_service.sqlite import SqliteAccounts
from benchmarks.local_server import LocalServer, ServerError
from store_worker import __main__ as store_main
from store_worker.sqlite import SqliteJournal
from tests.disk import accounts_run, store_run
from tests.unit.auth_service.bench import made
from tests.unit.store_worker.making import message, send

Damage = Callable[[Path], None]


def store_in(folder: Path, *, killed: bool) -> Path:
    journal = SqliteJournal(folder / store_run.NAME)
    journal.start()
    for n in range(40):
        send(journal, *(message(20 * n + k, body=bytes(400)) for k in range(20)))
    store_run.kill(journal._db) if killed else journal.close()
    return folder / store_run.NAME


def accounts_in(folder: Path, *, killed: bool) -> Path:
    accounts = SqliteAccounts(folder / accounts_run.NAME)
    for n in range(150):
        made(accounts, f"name-{n}", n)
    accounts_run.end(accounts, killed=killed)
    return folder / accounts_run.NAME


def start_store(folder: Path) -> int:
    arguments = [
        f"--data={folder}",
        f"--keys={folder}/keys",
        f"--listen=ipc://{folder}/s",
        f"--broker=ipc://{folder}/b",
    ]
    return store_main.main(arguments)


def start_accounts(folder: Path) -> int:
    return auth_main.main([f"--data={folder}", f"--broker=ipc://{folder}/b"])


KINDS = {"store": (store_in, start_store), "accounts": (accounts_in, start_accounts)}


def overwrite(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(os.urandom(length))


def header(path: Path) -> None:
    overwrite(path, 0, 100)


def middle_pages(path: Path) -> None:
    overwrite(path, path.stat().st_size // 2 // 4096 * 4096, 4 * 4096)


def half_a_file(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def not_a_whole_page(path: Path) -> None:
    os.truncate(path, 700)


def log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def the_logs_header(path: Path) -> None:
    overwrite(log(path), 0, 32)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock" and path.is_file()}


@pytest.mark.parametrize("damage", [header, middle_pages, half_a_file, not_a_whole_page])
def test_a_damaged_file_is_not_served_and_not_changed(
    tmp_path: Path, kind: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    make, start = KINDS[kind]
    damage(make(tmp_path, killed=False))
    _not_served(tmp_path, start, capsys)


@pytest.mark.parametrize("damage", [the_logs_header])
def test_nor_is_one_whose_log_is_damaged(
    tmp_path: Path, kind: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    make, start = KINDS[kind]
    damage(make(tmp_path, killed=True))
    _not_served(tmp_path, start, capsys)


def _not_served(folder: Path, start: Callable[[Path], int], capsys: pytest.CaptureFixture[str]) -> None:
    before = bytes_of(folder)
    assert start(folder) not in (0, None)
    said = capsys.readouterr().err
    assert "damaged" in said
    assert str(folder) in said
    assert "Traceback" not in said
    after = bytes_of(folder)
    assert {name: after.get(name) for name in before if not name.endswith("-shm")} == {
        name: data for name, data in before.items() if not name.endswith("-shm")
    }


def test_a_directory_in_its_place_is_named(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = store_run.NAME if kind == "store" else accounts_run.NAME
    (tmp_path / name).mkdir()
    assert KINDS[kind][1](tmp_path) not in (0, None)
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert "Traceback" not in said
    assert [*(tmp_path / name).iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["store/restante.db", "auth/accounts.db"])
def test_serve_ends_with_that_sentence(tmp_path: Path, where: str) -> None:
    (tmp_path / "data" / where).parent.mkdir(parents=True)
    (tmp_path / "data" / where).write_bytes(b"Dear diary, " * 1_000)
    server = LocalServer(tmp_path)
    with pytest.raises(ServerError) as failed:
        server.start()
    assert "damaged" in str(failed.value)
    assert (tmp_path / "data" / where).read_bytes() == b"Dear diary, " * 1_000


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """What a service sets up for its own log is undone."""
    import structlog

    yield
    structlog.reset_defaults()
