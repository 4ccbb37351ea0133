"""A disk that is really full, and places that can't be written, under a real server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.local_server import chat, isolated
from restante import Client
from restante.wire.errors import ChatError, OutcomeUnknown, RefusedError, StorageFull
from tests.e2e.server import Server

ROOM = 4 << 20
"""What the disk holds: room for a few thousand messages, soon filled."""

SENDS_MAX = 300
"""A full disk refuses long before: what a log has won by writing it once, it fills again."""


@contextmanager
def small_disk(at: Path, *, read_only: bool = False) -> Iterator[Path]:
    """A file system of its own in memory. Skips where this user may not mount one."""
    at.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}{',ro' if read_only else ''}", "restante-test", at],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is free, until the end of the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with small_disk(tmp_path / "data"):
        server = Server(tmp_path)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def sends_until_refused(client: Client) -> tuple[list[str], str, bytes]:
    """Send until the disk is full: what was accepted, and the message that was not, with its id.

    The client waits as long as it is told, and tries again; in the end it raises the last refusal, or says what that
    was, if its time ended while it waited for another answer.
    """
    accepted: list[str] = []
    for text in (f"into what is left {n}" for n in range(SENDS_MAX)):
        message_id = uuid4().bytes
        refusal = refusal_of(client, text, message_id)
        if refusal is not None:
            assert "disk is full; nothing was stored" in str(refusal)
            assert isinstance(refusal, OutcomeUnknown) or (refusal.retry_after_s or 0) > 0
            return accepted, text, message_id
        accepted.append(text)
    raise AssertionError(f"{SENDS_MAX} messages went into a full disk")


def refusal_of(client: Client, text: str, message_id: bytes) -> StorageFull | OutcomeUnknown | None:
    try:
        client.send("bob", text, id=message_id)
    except (StorageFull, OutcomeUnknown) as refusal:
        return refusal
    return None


def test_a_full_disk_refuses_sends_with_a_time_reading_goes_on_and_room_heals_it(server: Server) -> None:
    with Client(server.address, timeout_s=4) as ann, Client(server.address, timeout_s=4) as bob:
        for client, name in ((ann, "ann"), (bob, "bob")):
            client.register(name, "correct horse")
            client.login(name, "correct horse")
        sent = [f"before {n}" for n in range(20)]
        for text in sent:
            ann.send("bob", text)
        processes = server.pids()
        with filled(server.folder / "data"):
            accepted, refused, message_id = sends_until_refused(ann)
            sent += accepted
            assert [message.text for message in bob.inbox(peek=True)] == sent, "reading goes on"
            with pytest.raises(ChatError, match="disk is full"):
                bob.ack([message.seq for message in bob.inbox(peek=True)])
            assert [message.text for message in bob.inbox(peek=True)] == sent
        ann.send("bob", refused, id=message_id)
        ann.send("bob", "after")
        sent += [refused, "after"]
        assert [message.text for message in bob.inbox(peek=True)] == sent, "lost, doubled or out of order"
        assert server.pids() == processes, "it took a restart to heal"
    assert "storage_full" in server.log.read_text("utf-8")


def register_many(client: Client) -> None:
    for n in range(SENDS_MAX):
        client.register(f"newcomer-{n}", "correct horse")


def test_a_full_disk_refuses_what_changes_accounts_and_everybody_else_goes_on(server: Server) -> None:
    with Client(server.address, timeout_s=4) as ann, Client(server.address, timeout_s=4) as new:
        ann.register("ann", "correct horse")
        token = ann.login("ann", "correct horse").token
        assert token is not None
        processes = server.pids()
        with filled(server.folder / "data"):
            with pytest.raises(RefusedError) as refused:
                register_many(new)
            assert refused.value.refused_code == "storage_full"
            assert refused.value.retry_after_s is not None
            with pytest.raises(RefusedError) as refused:
                new.login("ann", "correct horse")
            assert refused.value.refused_code == "storage_full"
            assert [*ann.inbox(peek=True)] == []
            with Client(server.address, token=token, timeout_s=4) as again:
                assert [*again.inbox(peek=True)] == [], "a token is good on a full disk too"
        new.register("newcomer", "correct horse")
        new.login("newcomer", "correct horse")
        assert server.pids() == processes, "it took a restart to heal"


# --- places that can't be written -------------------------------------------------------------------------


def runs(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=40, check=False, env=isolated(folder), cwd=folder
    )


def test_serve_says_that_it_cannot_write_there(tmp_path: Path) -> None:
    """Also to root, who may write everywhere but on such a disk."""
    with small_disk(tmp_path / "data", read_only=True) as data:
        done = runs(tmp_path, *chat("serve", "--data", str(data / "here"), "--listen", "127.0.0.1:0"))
        assert done.returncode not in (0, None)
        assert str(data) in done.stderr
        assert "Read-only file system" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
