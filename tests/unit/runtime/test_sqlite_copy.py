"""Copies of a database in use: whole, of one moment, in steps that end; or not there."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from runtime import sqlite_copy
from runtime.control import BackupFailed, Done, Facts, Refused, parse_reply
from runtime.sqlite_copy import STEP_PAGES, Copy, settle


@pytest.fixture
def source(tmp_path: Path) -> Iterator[apsw.Connection]:
    """A database as the store's: locked for life, in WAL."""
    db = apsw.Connection(str(tmp_path / "source.db"))
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = OFF", "application_id = 7"):
        db.execute(f"PRAGMA {pragma}").fetchall()
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
    yield db
    db.close()


def add(db: apsw.Connection, pages: int) -> int:
    """Add so many pages in one commit; the number of rows then."""
    with db:
        db.execute(
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?)"
            " INSERT INTO t (x) SELECT zeroblob(4000) FROM c",
            (pages,),
        )
    return rows(db)


def rows(db: apsw.Connection) -> int:
    count = db.execute("SELECT count(*) FROM t").get
    assert isinstance(count, int)
    return count


def in_copy(path: Path) -> int:
    db = sqlite_copy.open_settled(path)
    try:
        return rows(db)
    finally:
        db.close()


def test_a_copy_is_one_file_for_this_user_alone_with_everything_in_it(source: apsw.Connection, tmp_path: Path) -> None:
    add(source, 10)
    copy = Copy(source, tmp_path / "copy.db")
    assert copy.step()
    settle(copy.path)
    assert in_copy(tmp_path / "copy.db") == 10
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]


def test_commits_between_steps_are_in_it_and_it_ends_though_they_outpace_a_step(
    source: apsw.Connection, tmp_path: Path
) -> None:
    """Each commit adds twice a step's pages: steps of one size would never get there."""
    before = begun_with = add(source, 20 * STEP_PAGES)
    copy = Copy(source, tmp_path / "copy.db")
    steps = 1
    while not copy.step():
        done, total = copy.progress
        assert 0 < done < total
        before = add(source, 2 * STEP_PAGES)
        steps += 1
        assert steps < 40, "the copy does not catch up"
    settle(copy.path)
    assert steps > 10
    assert begun_with < before == in_copy(tmp_path / "copy.db")
    db = sqlite_copy.open_settled(tmp_path / "copy.db")
    assert sqlite_copy.check(db, tmp_path / "copy.db", 7, 0) == 0
    db.close()


def test_what_was_rolled_back_meanwhile_is_not_in_it(source: apsw.Connection, tmp_path: Path) -> None:
    add(source, 2 * STEP_PAGES)
    copy = Copy(source, tmp_path / "copy.db")
    assert not copy.step()
    source.execute("PRAGMA cache_size = 10; BEGIN; UPDATE t SET x = randomblob(4000); ROLLBACK").fetchall()
    while not copy.step():
        pass
    settle(copy.path)
    db = sqlite_copy.open_settled(tmp_path / "copy.db")
    assert db.execute("SELECT count(*) FROM t WHERE x <> zeroblob(4000)").get == 0
    db.close()


def test_nothing_is_overwritten(source: apsw.Connection, tmp_path: Path) -> None:
    for name in ("copy.db", "copy.db" + sqlite_copy.UNSETTLED):
        (tmp_path / name).write_text("mine")
        with pytest.raises(BackupFailed):
            Copy(source, tmp_path / "copy.db")
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_where_nothing_can_be_written_is_told(source: apsw.Connection, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="No such file"):
        Copy(source, tmp_path / "none" / "copy.db")


def test_a_full_disk_is_told_and_leaves_nothing_and_the_source_goes_on(source: apsw.Connection, tmp_path: Path) -> None:
    add(source, 10 * STEP_PAGES)
    copy = Copy(source, tmp_path / "copy.db")
    assert copy._copy is not None
    copy._copy.execute(f"PRAGMA max_page_count = {2 * STEP_PAGES}").fetchall()

    def copy_all() -> None:
        while not copy.step():
            add(source, 1)

    with pytest.raises(BackupFailed) as failure:
        copy_all()
    assert failure.value.code == "storage_full"
    assert not list(tmp_path.glob("copy*"))
    assert add(source, 1) > 10 * STEP_PAGES


def test_an_abandoned_one_leaves_nothing(source: apsw.Connection, tmp_path: Path) -> None:
    add(source, 3 * STEP_PAGES)
    copy = Copy(source, tmp_path / "copy.db")
    copy.step()
    copy.abandon()
    copy.abandon()
    assert not list(tmp_path.glob("copy*"))


def test_a_copy_that_reads_back_damaged_is_no_backup(source: apsw.Connection, tmp_path: Path) -> None:
    add(source, 100)
    copy = Copy(source, tmp_path / "copy.db")
    assert copy.step()
    with copy.path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(BackupFailed) as failure:
        settle(copy.path)
    assert failure.value.code == "storage_failed"
    assert not list(tmp_path.glob("copy*"))


def test_the_command_line_answers_as_the_control_socket_does(capsys: pytest.CaptureFixture[str]) -> None:
    def check(path: Path) -> Facts:
        if path.name == "bad":
            raise BackupFailed("damaged", "it is damaged")
        return {"rows": 1}

    assert sqlite_copy.run("p", ["check", "good"], check, check) == 0
    assert parse_reply(capsys.readouterr().out.encode()) == Done({"rows": 1})
    assert sqlite_copy.run("p", ["adopt", "bad"], check, check) == 1
    assert parse_reply(capsys.readouterr().out.encode()) == Refused("damaged", "it is damaged")
    for wrong in ([], ["check"], ["explode", "x"], ["check", "a", "b"]):
        assert sqlite_copy.run("p", wrong, check, check) == 2
