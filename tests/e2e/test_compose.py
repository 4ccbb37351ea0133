"""`docker compose up` from a fresh clone: the three services in containers, reached with `chat` from the host.

Its own project, port, volumes and folder: nothing that runs on the machine is touched, and nothing is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.local_server import ROOT, chat, isolated
from tests.e2e.cluster import free_ports
from tests.e2e.server import wait_for

MESSAGES = 20_000

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


class Compose:
    """One project of `docker compose`, in a clone of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.clone)], check=True, timeout=60)
        self.project = a_project()
        place = f"127.0.0.1:{free_ports(1)[0]}"
        self.docker_env = {**os.environ, "CHAT_BIND": place, "CHAT_ADVERTISE": place}
        self.docker_env["CHAT_IMAGE"] = f"{self.project}:local"  # nobody's running stack is to see another image
        self.env = isolated(folder)

    def run(self, *arguments: str, stdin: bytes = b"", timeout_s: float = 300) -> str:
        return self.run_bytes(*arguments, stdin=stdin, timeout_s=timeout_s).decode()

    def run_bytes(self, *arguments: str, stdin: bytes = b"", timeout_s: float = 300) -> bytes:
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, *arguments],
            cwd=self.clone,
            env=self.docker_env,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()[-2_000:]}"
        return done.stdout

    def admin(self, *arguments: str) -> str:
        return self.run("run", "--rm", "-T", "admin", *arguments)

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Another project in place of this one, with volumes of its own, all empty."""
        self.run("down", "--timeout", "10")
        here, self.project = self.project, a_project()
        try:
            yield
        finally:
            self.run("down", "--volumes", "--timeout", "5")
            self.project = here

    def up(self) -> None:
        """Up and healthy; then the host is told the address, as the README says."""
        self.run("up", "--wait", "--build")
        self.env["CHAT_ADDRESS"] = self.run("exec", "-T", "broker", "chat", "address").strip()

    def chat(self, *arguments: str, profile: str, stdin: bytes = b"") -> bytes:
        """The command, on the host."""
        done = subprocess.run(
            chat("--profile", profile, *arguments),
            input=stdin,
            capture_output=True,
            env=self.env,
            cwd=self.folder,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def a_project() -> str:
    return f"restante-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    compose = Compose(tmp_path_factory.mktemp("compose"))
    try:
        compose.up()
        yield compose
    finally:
        compose.run("down", "--volumes", "--rmi", "all", "--timeout", "5")


@pytest.fixture(scope="module")
def people(compose: Compose) -> Compose:
    for name in ("ann", "bob"):
        compose.chat("register", name, "--password-file", "-", profile=name, stdin=b"correct horse")
    return compose


def test_every_service_is_healthy(compose: Compose) -> None:
    told = compose.run("ps", "--format", "json").splitlines()
    states = {one["Service"]: one["Health"] for one in map(json.loads, told)}
    assert states == {"broker": "healthy", "auth_service": "healthy", "store_worker": "healthy"}


def test_nothing_runs_as_root_or_writes_outside_its_volumes(compose: Compose) -> None:
    for service in ("broker", "auth_service", "store_worker"):
        assert compose.run("exec", "-T", service, "id", "-u").strip() == "10001"
        probe = "touch /home/chat/x /opt/x 2>/dev/null && echo writable || echo read-only"
        assert compose.run("exec", "-T", service, "sh", "-c", probe).strip() == "read-only"


def test_secrets_are_only_where_they_belong(compose: Compose) -> None:
    for service, keys in (("broker", "broker"), ("auth_service", "auth"), ("store_worker", "store")):
        found = compose.run("exec", "-T", service, "find", "/keys", "-name", "self.key").split()
        assert found == [f"/keys/{keys}/self.key"]


def test_from_the_host_chat_sends_and_reads(people: Compose) -> None:
    people.chat("send", "bob", "through the port", profile="ann")
    assert b"through the port" in people.chat("inbox", profile="bob")


def test_inside_the_cli_service_sends(people: Compose) -> None:
    run = ("run", "--rm", "-T", "cli")
    people.run(*run, "register", "carla", "--password-file", "-", stdin=b"correct horse")
    people.run(*run, "send", "bob", "hi")
    assert b"hi" in people.chat("inbox", "--from", "carla", profile="bob")


def test_what_runs_is_not_recreated_by_a_command_nor_by_another_up(compose: Compose) -> None:
    services = ("broker", "auth_service", "store_worker")
    before = compose.run("ps", "--quiet", *services)
    assert len(before.split()) == 3
    compose.run("run", "--rm", "-T", "cli", "health")
    compose.run("up", "--wait", "--build")
    assert compose.run("ps", "--quiet", *services) == before


def test_a_store_killed_in_mid_batch_loses_and_doubles_nothing_and_all_outlives_down(people: Compose) -> None:
    batch = Batch(people, "line")
    wait_for(lambda: batch.told() > MESSAGES // 5, "a fifth of the batch", wait_s=60)
    people.run("kill", "--signal", "KILL", "store_worker")
    assert batch.is_sending(), "the batch was over before the kill: it shows nothing"
    people.run("up", "--wait", "store_worker")
    expected = batch.end()
    assert len(expected) == MESSAGES
    assert bobs(people, "line") == expected

    people.run("down", "--timeout", "10")
    people.up()
    assert bobs(people, "line") == expected
    people.chat("login", "ann", "--password-file", "-", profile="ann", stdin=b"correct horse")


def test_a_backup_of_running_containers_is_restored_into_empty_volumes_at_the_same_address(people: Compose) -> None:
    batch = Batch(people, "load", MESSAGES * 3)
    wait_for(lambda: batch.told() > MESSAGES // 5, "a part of the batch", wait_s=60)
    before = batch.told()
    people.admin("backup", "--data", "/data", "/backups/monday")
    assert batch.is_sending(), "the batch was over before the backup: it shows nothing"
    sent = batch.end()
    for service in ("store_worker", "auth_service"):
        leaks = "test ! -e /backups/monday && test ! -e /data/*/run/handover && ! ls /data/*/run/handover/* 2>/dev/null"
        people.run("exec", "-T", service, "sh", "-c", leaks)
    saved = people.run_bytes("run", "--rm", "-T", "--entrypoint", "tar", "admin", "-C", "/backups", "-c", "monday")
    address = people.env["CHAT_ADDRESS"]

    with people.elsewhere():
        people.run_bytes("run", "--rm", "-T", "--entrypoint", "tar", "admin", "-C", "/backups", "-x", stdin=saved)
        people.admin("verify", "/backups/monday")
        people.admin("restore", "--data", "/data", "/backups/monday")
        people.up()
        assert people.env["CHAT_ADDRESS"] == address
        held = bobs(people, "load")  # with the token of before the backup
        assert len(held) >= before, "what was accepted before the backup is not in it"
        assert held == sent[: len(held)], "lost, doubled or out of order"
        people.chat("send", "bob", "after the restore", profile="ann")
    people.up()
    assert bobs(people, "load") == sent


class Batch:
    """Lines that ann's command, on the host, is sending to bob."""

    def __init__(self, compose: Compose, text: str, count: int = MESSAGES) -> None:
        self._text = text
        batch, self._out = (compose.folder / f"{text}.{end}" for end in ("jsonl", "out"))
        lines = (json.dumps({"to": "bob", "body": f"{text} {n}", "once": f"{text}-{n}"}) for n in range(count))
        batch.write_text("\n".join(lines), encoding="utf-8")
        with self._out.open("wb") as stdout:
            self._process = subprocess.Popen(
                chat("--profile", "ann", "--json", "--timeout", "120", "send", "--batch", str(batch)),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                env=compose.env,
                cwd=compose.folder,
            )

    def told(self) -> int:
        """How many lines were accepted so far."""
        return self._out.read_bytes().count(b"\n")

    def is_sending(self) -> bool:
        return self._process.poll() is None

    def end(self) -> list[tuple[int, str]]:
        """Wait for its end, which is to be a good one; seq and text of each line."""
        assert self._process.wait(120) == 0
        seqs = [json.loads(line)["seq"] for line in self._out.read_text(encoding="utf-8").splitlines()]
        return [(seq, f"{self._text} {n}") for n, seq in enumerate(seqs)]


def bobs(compose: Compose, text: str) -> list[tuple[int, str]]:
    """What a batch left in bob's mailbox."""
    told = compose.chat("--json", "inbox", "--all", profile="bob").splitlines()
    messages = [(each["seq"], each["body"]) for each in map(json.loads, told)]
    return [(seq, body) for seq, body in messages if body.startswith(f"{text} ")]
