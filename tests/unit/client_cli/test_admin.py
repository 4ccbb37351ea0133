"""`chat admin`: a backup is whole or isn't there, one that is not sound is refused, a restore overwrites nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from auth_service import backup as accounts_backup
from auth_service.sqlite import SqliteAccounts
from client_cli import backups, datadir, restoring
from client_cli.main import cli
from restante.files import write_private
from runtime import keys
from runtime.control import BackupFailed, Control, Facts, Job
from runtime.ipc import private_ipc_dir
from runtime.supervisor import take_lock
from store_worker import backup as store_backup
from store_worker.sqlite import SqliteJournal
from tests.unit.runtime.support import context
from tests.unit.store_worker.making import message, send

ROOT = Path(__file__).parents[3]
Maker = Callable[[Path, Job], Facts]


class Running:
    """The control sockets of a server over a data directory, without the server."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.accounts = SqliteAccounts(data / "auth" / "accounts.db")
        for number, name in ((1, "alice"), (2, "bob")):
            self.accounts.register(number.to_bytes(32, "big"), name, "", "h", 1)
        self.journal = SqliteJournal(data / "store" / "restante.db")
        self.journal.start()
        send(self.journal, message(1), message(2))
        self.makers: dict[str, Maker] = {"store": self._back_up_store, "auth": self._back_up_accounts}

    def maker_of(self, service: str) -> Maker:
        """Whatever makes that service's backups by then."""

        def make(path: Path, job: Job) -> Facts:
            return self.makers[service](path, job)

        return make

    def _back_up_store(self, path: Path, job: Job) -> Facts:
        copying = store_backup.Copying(self.journal, lambda: None)
        copying._tell_wanted = lambda: _step_all(copying)
        return copying.make(path, job)

    def _back_up_accounts(self, path: Path, job: Job) -> Facts:
        return accounts_backup.make(self.data / "auth" / "accounts.db", path, job)


def _step_all(copying: store_backup.Copying) -> None:
    while not copying.step():
        pass


@pytest.fixture
def data(home: Path) -> Path:
    return home / "data"


@pytest.fixture
def running(data: Path) -> Iterator[Running]:
    run = private_ipc_dir()
    datadir.link_run(data, run)
    with serving(data) as made:
        yield made
    shutil.rmtree(run)


@pytest.fixture
def apart() -> Iterator[Running]:
    """The same, as in containers: each socket in its service's own directory."""
    data = private_ipc_dir()
    for service in ("store", "auth"):
        private_ipc_dir(datadir.own_run_of(data, service))
    with serving(data) as made:
        yield made
    shutil.rmtree(data)


@contextlib.contextmanager
def serving(data: Path) -> Iterator[Running]:
    keys.make_all(data / "keys")
    made = Running(data)
    with context() as zmq, contextlib.ExitStack() as stack:
        for service in ("store", "auth"):
            run = datadir.run_of(data, service)
            control = Control(zmq, datadir.control_endpoint(run, service), made.maker_of(service))
            stack.enter_context(contextlib.closing(control))
        yield made
        made.journal.close()
        made.accounts.close()


def admin(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["admin", *arguments], prog_name="chat")


@pytest.fixture
def backup(home: Path, running: Running) -> Path:
    """A backup of two accounts and two messages."""
    made = admin("backup", str(home / "backup"), "--data", str(running.data))
    assert made.exit_code == 0, made.stderr
    return home / "backup"


class TestBackingUp:
    def test_it_says_what_it_made_and_nobody_else_can_read_it(self, home: Path, running: Running) -> None:
        made = admin("backup", str(home / "backup"), "--data", str(running.data))
        assert f"{home / 'backup'}: 2 messages, 2 accounts, 0.1 MB, of 20" in made.stdout
        assert (home / "backup").stat().st_mode & 0o777 == 0o700
        secrets = [path for path in (home / "backup").rglob("*") if path.is_file() and path.suffix != ".pub"]
        assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
        assert len([path for path in secrets if path.name == "self.key"]) == 3
        told = admin("verify", str(home / "backup"), "--json")
        assert json.loads(told.stdout)["store"]["messages"] == 2

    def test_the_messages_are_copied_before_the_accounts(self, home: Path, running: Running) -> None:
        """The other way round a message could name an account made between the two."""
        order = []
        for service, maker in list(running.makers.items()):

            def noting(path: Path, job: Job, service: str = service, maker: Maker = maker) -> Facts:
                order.append(service)
                return maker(path, job)

            running.makers[service] = noting
        assert admin("backup", str(home / "backup"), "--data", str(running.data)).exit_code == 0
        assert order == ["store", "auth"]

    def test_it_overwrites_nothing(self, running: Running, backup: Path) -> None:
        before = (backup / "manifest.json").read_bytes()
        again = admin("backup", str(backup), "--data", str(running.data))
        assert again.exit_code == 1
        assert "overwrites nothing" in again.stderr
        assert (backup / "manifest.json").read_bytes() == before

    @pytest.mark.parametrize("service", ["store", "auth"])
    def test_a_service_that_fails_leaves_no_backup_and_its_reason_is_told(
        self, home: Path, running: Running, service: str
    ) -> None:
        def fail(path: Path, job: Job) -> Facts:
            path.write_bytes(b"half")
            raise BackupFailed("storage_full", "There is no room for a backup.")

        running.makers[service] = fail
        failed = admin("backup", str(home / "backup"), "--data", str(running.data), "--json")
        assert failed.exit_code == 1
        assert json.loads(failed.stderr)["error"] == "storage_full"
        assert not list(home.glob("backup*"))

    def test_one_that_was_killed_is_not_taken_for_a_backup(self, home: Path, running: Running) -> None:
        (home / "backup.partial").mkdir()
        told = admin("backup", str(home / "backup"), "--data", str(running.data))
        assert told.exit_code == 1
        assert "If none is, remove it" in told.stderr
        assert not (home / "backup").exists()

    def test_without_a_server_is_5(self, home: Path, data: Path) -> None:
        told = admin("backup", str(home / "backup"), "--data", str(data))
        assert told.exit_code == 5
        assert "No server runs over" in told.stderr
        (data / "run").mkdir(parents=True, mode=0o700)
        told = admin("backup", str(home / "backup"), "--data", str(data))
        assert told.exit_code == 5
        assert "does not answer" in told.stderr
        assert not list(home.glob("backup*"))

    def test_where_there_is_no_place_for_it_is_told(self, home: Path, running: Running) -> None:
        told = admin("backup", str(home / "none" / "backup"), "--data", str(running.data))
        assert told.exit_code == 1
        assert "No such file" in told.stderr


class TestBackingUpContainers:
    """A service that sees its own directory only hands its copy over there."""

    def confine(self, running: Running) -> list[Path]:
        """From now on a service writes nowhere but in its own directory; where it wrote."""
        written = []
        for service, maker in list(running.makers.items()):

            def confined(path: Path, job: Job, service: str = service, maker: Maker = maker) -> Facts:
                assert path.is_relative_to(running.data / service), "a container sees nothing else"
                written.append(path)
                return maker(path, job)

            running.makers[service] = confined
        return written

    def left(self, running: Running) -> list[Path]:
        return [path for path in running.data.glob("*/run/handover*") if path.suffix != ".lock"]

    def test_the_copies_are_collected_and_nothing_of_them_is_left(self, home: Path, apart: Running) -> None:
        written = self.confine(apart)
        made = admin("backup", str(home / "backup"), "--data", str(apart.data))
        assert made.exit_code == 0, made.stderr
        assert len(written) == 2
        assert self.left(apart) == []
        assert admin("verify", str(home / "backup")).exit_code == 0
        assert {(home / "backup" / name).stat().st_mode & 0o777 for name in backups.DATABASES.values()} == {0o600}

    def test_what_one_that_was_killed_left_there_is_removed(self, home: Path, apart: Running) -> None:
        handover = datadir.own_run_of(apart.data, "store") / "handover"
        handover.mkdir()
        for name in ("restante.db", "restante.db.unsettled"):
            (handover / name).write_bytes(b"half")
        assert admin("backup", str(home / "backup"), "--data", str(apart.data)).exit_code == 0
        assert self.left(apart) == []

    def test_one_that_fails_leaves_nothing_in_either_place(self, home: Path, apart: Running) -> None:
        def fail(path: Path, job: Job) -> Facts:
            path.write_bytes(b"half")
            raise BackupFailed("storage_full", "There is no room for a backup.")

        apart.makers["auth"] = fail
        assert admin("backup", str(home / "backup"), "--data", str(apart.data)).exit_code == 1
        assert self.left(apart) == []
        assert not list(home.glob("backup*"))

    def test_while_one_is_made_another_is_refused(self, home: Path, apart: Running) -> None:
        lock = take_lock(datadir.own_run_of(apart.data, "store") / "handover.lock")
        told = admin("backup", str(home / "backup"), "--data", str(apart.data), "--json")
        os.close(lock)
        assert told.exit_code == 1
        assert json.loads(told.stderr)["error"] == "busy"

    def test_while_they_run_nothing_is_restored_over_them(self, home: Path, apart: Running) -> None:
        assert admin("backup", str(home / "backup"), "--data", str(apart.data)).exit_code == 0
        told = admin("restore", str(home / "backup"), "--data", str(apart.data), "--force")
        assert told.exit_code == 1
        assert "Stop the server first" in told.stderr


class TestVerifying:
    def damage(self, backup: Path, name: str) -> None:
        content = bytearray((backup / name).read_bytes())
        content[len(content) // 2] ^= 1
        (backup / name).write_bytes(content)

    @pytest.mark.parametrize(
        "name", ["restante.db", "accounts.db", "keys/broker/self.key", "keys/store/peers/broker.pub"]
    )
    @pytest.mark.parametrize("how", ["damaged", "missing", "link"])
    def test_each_file_must_be_there_and_as_it_was(self, home: Path, backup: Path, name: str, how: str) -> None:
        if how == "damaged":
            self.damage(backup, name)
        elif how == "missing":
            (backup / name).unlink()
        else:
            (backup / name).rename(home / "elsewhere")
            (backup / name).symlink_to(home / "elsewhere")
        for told in (admin("verify", str(backup)), admin("restore", str(backup), "--data", str(home / "new"))):
            assert told.exit_code == 1
            assert name in told.stderr
        assert not (home / "new").exists()

    def edit(self, backup: Path, **changes: object) -> None:
        manifest = json.loads((backup / "manifest.json").read_text())
        (backup / "manifest.json").write_text(json.dumps({**manifest, **changes}))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"format": "tar"}, "of the form"),
            ({"version": 2}, "of the form"),
            ({"files": {}}, "does not name"),
            ({"store": {"messages": 3}}, "other than its manifest says"),
            ({"taken_at": 7}, "damaged"),
        ],
    )
    def test_a_manifest_of_something_else_is_refused(self, backup: Path, changes: dict[str, object], said: str) -> None:
        self.edit(backup, **changes)
        told = admin("verify", str(backup))
        assert told.exit_code == 1
        assert said in told.stderr

    @pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "keys/broker/../../../evil", "keys/other/self.key"])
    def test_a_manifest_cannot_name_what_no_backup_has(self, home: Path, backup: Path, name: str) -> None:
        files = json.loads((backup / "manifest.json").read_text())["files"]
        self.edit(backup, files={**files, name: {"bytes": 0, "sha256": ""}})
        told = admin("restore", str(backup), "--data", str(home / "new"))
        assert told.exit_code == 1
        assert "which no backup has" in told.stderr

    def test_a_directory_without_a_manifest_is_no_backup(self, home: Path, backup: Path) -> None:
        (backup / "manifest.json").unlink()
        assert "it has no manifest.json" in admin("verify", str(backup)).stderr
        assert admin("verify", str(home / "nowhere")).exit_code == 1

    def test_messages_that_name_accounts_which_are_not_there_are_refused(self, backup: Path) -> None:
        """Files of two backups put together: each is sound by itself."""
        (backup / "accounts.db").unlink()
        SqliteAccounts(backup / "accounts.db").close()
        (backup / "accounts.db.lock").unlink()
        facts = accounts_backup.figures(backup / "accounts.db")
        files = json.loads((backup / "manifest.json").read_text())["files"]
        file = backups._file(backup / "accounts.db")
        fresh = {"accounts.db": {"bytes": file.bytes, "sha256": file.sha256}}
        self.edit(backup, accounts=facts, files={**files, **fresh})
        told = admin("verify", str(backup))
        assert told.exit_code == 1
        assert "newer than its accounts" in told.stderr


class TestRestoring:
    def test_into_a_new_place_all_is_there_with_another_history(self, home: Path, backup: Path) -> None:
        done = admin("restore", str(backup), "--data", str(home / "new"))
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith(f"{home / 'new'}: 2 messages, 2 accounts")
        old = backups.read_manifest(backup)
        new = store_backup.figures(home / "new" / "store" / "restante.db", thorough=True)
        assert new["messages"] == 2
        assert new["history"] != old.store["history"]
        for role in datadir.SERVICES:
            key = home / "new" / "keys" / role / "self.key"
            assert key.read_bytes() == (backup / "keys" / role / "self.key").read_bytes()
            assert key.stat().st_mode & 0o777 == 0o600
            assert keys.load(home / "new" / "keys" / role) == keys.load(backup / "keys" / role)
        assert not [path for path in (home / "new").rglob("*") if path.name.endswith(restoring.STAGED)]
        assert not (home / "new" / datadir.RESTORING).exists()

    def test_over_data_it_refuses_and_with_force_moves_it_aside(self, home: Path, backup: Path) -> None:
        new = home / "new"
        assert admin("restore", str(backup), "--data", str(new)).exit_code == 0
        (new / "store" / "restante.db-wal").write_bytes(b"an old log")
        before = {path: path.read_bytes() for path in new.rglob("*") if path.is_file()}
        refused = admin("restore", str(backup), "--data", str(new))
        assert refused.exit_code == 1
        assert "--force moves what is there aside" in refused.stderr
        assert {path: path.read_bytes() for path in before} == before

        done = admin("restore", str(backup), "--data", str(new), "--force")
        assert done.exit_code == 0, done.stderr
        (aside,) = (new / "store").glob("before-restore-*")
        assert str(aside) in done.stderr
        assert sorted(path.name for path in aside.iterdir()) == ["restante.db", "restante.db-wal"]
        assert (aside / "restante.db").read_bytes() == before[new / "store" / "restante.db"]
        assert not (new / "store" / "restante.db-wal").exists()
        assert not list((new / "keys").rglob("before-restore-*")), "the keys were the same"

    def test_other_keys_are_moved_aside_too(self, home: Path, backup: Path) -> None:
        new = home / "new"
        pairs = keys.make_all(new / "keys")
        assert admin("restore", str(backup), "--data", str(new)).exit_code == 1
        assert admin("restore", str(backup), "--data", str(new), "--force").exit_code == 0
        (aside,) = (new / "keys" / "broker").glob("before-restore-*")
        assert keys.load(aside) == pairs["broker"]
        assert (aside / "peers" / "store.pub").exists()
        assert keys.load(new / "keys" / "broker") != pairs["broker"]

    def test_twice_in_a_second_nothing_is_lost(self, home: Path, backup: Path) -> None:
        for _ in range(4):
            done = admin("restore", str(backup), "--data", str(home / "new"), "--force")
            assert done.exit_code == 0, done.stderr
        assert len(list((home / "new" / "store").glob("before-restore-*/restante.db"))) == 3

    def test_a_server_that_runs_is_not_restored_over(self, running: Running, backup: Path, data: Path) -> None:
        """By its control sockets where it holds no lock, as in containers; by its lock, which names it, elsewhere."""
        told = admin("restore", str(backup), "--data", str(data), "--force")
        assert told.exit_code == 1
        assert "Stop the server first" in told.stderr
        lock = take_lock(data / datadir.LOCK, wait_s=5)
        told = admin("restore", str(backup), "--data", str(data), "--force")
        os.close(lock)
        assert told.exit_code == 1
        assert f"process id {os.getpid()}" in told.stderr

    def test_one_that_fails_before_the_mark_leaves_the_data_as_it_was(
        self, home: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(backups.MODULES, "auth", "no_such_module")
        monkeypatch.setattr(restoring, "verify", backups.read_manifest)
        told = admin("restore", str(backup), "--data", str(home / "new"))
        assert told.exit_code == 1
        assert [path for path in (home / "new").rglob("*") if path.is_file()] == [home / "new" / "lock"]

    def test_one_that_was_cut_short_is_not_served_and_can_be_repeated(
        self, home: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new = home / "new"
        with monkeypatch.context() as patch:
            patch.setattr(restoring, "sync", _cut)
            with pytest.raises(KeyError):
                restoring.restore(backup, new, force=False)
        assert (new / datadir.RESTORING).exists()
        serve = [sys.executable, "-P", "-m", "client_cli.main", "serve", "--data", str(new), "--listen", "127.0.0.1:0"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        served = subprocess.run(serve, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert (served.returncode, served.stdout) == (1, "")
        assert "did not end" in served.stderr
        assert admin("restore", str(backup), "--data", str(new), "--force").exit_code == 0
        assert not (new / datadir.RESTORING).exists()


def _cut(_folder: Path) -> None:
    raise KeyError("the power went")


def test_where_the_datas_path_is_too_long_the_sockets_are_found_through_a_link(home: Path) -> None:
    write_private(home / "run" / "old.sock", b"")
    for _ in range(2):
        datadir.link_run(home, home / "short")
        assert datadir.run_of(home, "store") == home / "short"
