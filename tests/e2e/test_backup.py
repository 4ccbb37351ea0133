"""A server under load is backed up, goes on, is lost, and restored: by the command, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_server import chat
from restante import Client
from restante.files import write_private
from restante.profiles import show_token
from tests.e2e.server import Server, wait_for
from tests.e2e.test_crashes import accepted, batch_file, lines_told, mailbox, start_batch

MESSAGES = 30_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def people(own_server: Server) -> Server:
    """Ann, who sends with the command; bob, whose token the test holds."""
    own_server.person("ann")
    with Client(own_server.address) as bob:
        bob.register("bob", "correct horse")
        token = bob.login("bob", "correct horse").token
    assert token is not None
    (own_server.folder / "bob.token").write_bytes(token)
    return own_server


class Reader:
    """Bob's `chat inbox --follow`, which never ends and acknowledges nothing."""

    def __init__(self, server: Server) -> None:
        self.out = server.folder / "bob.out"
        with self.out.open("wb") as out, (server.folder / "bob.err").open("wb") as err:
            self.process = subprocess.Popen(
                chat("--json", "--timeout", "60", "inbox", "--follow"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**server.env, "CHAT_TOKEN_FILE": str(server.folder / "bob.text")},
                cwd=server.folder,
            )

    def seen(self) -> list[tuple[int, str]]:
        lines = self.out.read_bytes().split(b"\n")[:-1]
        return [(one["seq"], one["body"]) for one in map(json.loads, lines)]

    def has_seen(self, text: str) -> bool:
        """Whether that was the last of what he has seen."""
        assert self.process.poll() is None, "bob's inbox has ended"
        return text.encode() in self.out.read_bytes()[-1_000:]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def reader(people: Server) -> Iterator[Reader]:
    token = (people.folder / "bob.token").read_bytes()
    write_private(people.folder / "bob.text", show_token(token).encode())
    made = Reader(people)
    yield made
    made.close()


def data_of(server: Server) -> str:
    return str(server.folder / "data")


def test_a_server_backed_up_under_load_is_restored_whole_at_the_same_address_and_clients_notice(
    people: Server, reader: Reader
) -> None:
    server, directory = people, people.folder / "backup"
    first = batch_file(server.folder, "load", MESSAGES)
    sending = start_batch(server, first)
    wait_for(lines_told(first, MESSAGES // 10), "a tenth of the batch", wait_s=60)
    before = len(accepted_so_far(first))
    made = server.chat("admin", "backup", str(directory), "--data", data_of(server))
    assert made.returncode == 0, made.stderr.decode()
    assert sending.poll() is None, "the batch was over before the backup: it shows nothing"
    assert sending.wait(120) == 0, "a backup under way cost the sender something"
    seqs = accepted(first)
    assert len(seqs) == MESSAGES
    assert server.chat("send", "bob", "after the backup", profile="ann").returncode == 0
    wait_for(lambda: reader.has_seen("after the backup"), "bob has seen all of it", wait_s=60)
    assert [seq for seq, _ in reader.seen()[:-1]] == seqs
    address = server.address

    server.stop()
    restored = server.chat("admin", "restore", str(directory), "--data", data_of(server), "--force")
    assert restored.returncode == 0, restored.stderr.decode()
    assert server.start() == address

    held = mailbox(server)  # with the token of before the backup
    assert len(held) >= before, "what was accepted before the backup is not in it"
    assert held == [(seq, f"load {n}") for n, seq in enumerate(seqs[: len(held)])], "lost, doubled or out of order"
    sent = server.chat("send", "bob", "after the restore", profile="ann")
    assert sent.returncode == 0, sent.stderr.decode()
    wait_for(lambda: reader.has_seen("after the restore"), "bob, who never looked away, reads on", wait_s=60)
    *before_it, last = reader.seen()
    assert mailbox(server) == [*held, last]
    assert last[0] > max(seq for seq, _ in before_it), "a seq was given twice"
    done = server.chat("login", "ann", "--password-file", "-", profile="ann", stdin=b"correct horse")
    assert done.returncode == 0, done.stderr.decode()


def accepted_so_far(batch: Path) -> list[bytes]:
    return batch.with_suffix(".out").read_bytes().split(b"\n")[:-1]


def test_what_was_accepted_after_the_backup_is_sent_again_by_running_the_batch_again(people: Server) -> None:
    """The lines that the backup holds are known by their `once`, the others are new: each is there once, in order."""
    server, directory = people, people.folder / "backup"
    half = batch_file(server.folder, "half", 500)
    assert start_batch(server, half).wait(60) == 0
    assert server.chat("admin", "backup", str(directory), "--data", data_of(server)).returncode == 0
    whole = batch_file(server.folder, "whole", 1_000)
    whole.write_text(whole.read_text().replace("whole", "half"))
    assert start_batch(server, whole).wait(60) == 0
    server.stop()
    assert server.chat("admin", "restore", str(directory), "--data", data_of(server), "--force").returncode == 0
    server.start()
    assert len(mailbox(server)) == 500
    assert start_batch(server, whole).wait(60) == 0
    assert [text for _, text in mailbox(server)] == [f"half {n}" for n in range(1_000)]
    assert accepted(whole)[:500] == accepted(half)


def test_a_server_that_runs_is_not_restored_over_and_one_in_another_place_is(people: Server) -> None:
    server, directory = people, people.folder / "backup"
    assert server.chat("send", "bob", "hi", profile="ann").returncode == 0
    assert server.chat("admin", "backup", str(directory), "--data", data_of(server)).returncode == 0
    refused = server.chat("admin", "restore", str(directory), "--data", data_of(server), "--force")
    assert refused.returncode == 1
    assert f"process id {server.pid}" in refused.stderr.decode()

    elsewhere = server.folder / "elsewhere"
    elsewhere.mkdir()
    restored = server.chat("admin", "restore", str(directory), "--data", str(elsewhere / "data"), "--json")
    assert json.loads(restored.stdout)["store"]["messages"] == 1
    with Server(elsewhere) as other:
        assert other.address.rpartition("/")[2] == server.address.rpartition("/")[2], "another key"
        with Client(other.address, token=(server.folder / "bob.token").read_bytes()) as bob:
            assert [message.text for message in bob.inbox()] == ["hi"]


def test_a_backup_that_is_killed_is_none_and_the_server_goes_on(people: Server) -> None:
    server, directory = people, people.folder / "backup"
    batch = batch_file(server.folder, "much", MESSAGES)
    assert start_batch(server, batch).wait(120) == 0
    process = subprocess.Popen(
        chat("admin", "backup", str(directory), "--data", data_of(server)), env=server.env, cwd=server.folder
    )
    partial = directory.with_name("backup.partial")
    wait_for(lambda: partial.exists() or process.poll() is not None, "the backup has begun")
    process.kill()
    process.wait(10)
    assert partial.exists(), "it was over before the kill: it shows nothing"
    assert not directory.exists()
    assert server.chat("admin", "verify", str(partial)).returncode == 1
    wait_for(
        lambda: (
            server.chat("admin", "backup", str(directory), "--data", data_of(server)).returncode == 0
            or _remove(partial)
        ),
        "the next backup is made",
    )
    assert server.chat("admin", "verify", str(directory)).returncode == 0
    assert len(mailbox(server)) == MESSAGES


def _remove(partial: Path) -> bool:
    """As the error says that it must be; the abandoned copy may still be going away."""
    for path in sorted(partial.rglob("*"), reverse=True):
        path.unlink(missing_ok=True) if path.is_file() else path.rmdir()
    if partial.exists():
        partial.rmdir()
    return False


def test_a_store_that_stands_still_is_given_up_and_leaves_no_backup(people: Server) -> None:
    server, directory = people, people.folder / "backup"
    store = server.pids()["store"]
    os.kill(store, signal.SIGSTOP)
    try:
        told = server.chat("admin", "backup", str(directory), "--data", data_of(server))
    finally:
        os.kill(store, signal.SIGCONT)
    assert told.returncode == 5
    assert b"nothing was heard for 15 s" in told.stderr
    assert not list(server.folder.glob("backup*"))
    wait_for(
        lambda: server.chat("admin", "backup", str(directory), "--data", data_of(server)).returncode == 0,
        "the store goes on, and is backed up",
    )
