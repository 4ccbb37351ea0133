"""Processes die by SIGKILL while a batch of 20,000 runs, and nothing is lost, doubled or out of order (G1, G2, G3)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_server import chat
from restante import Client
from tests.e2e.server import Server, wait_for

MESSAGES = 20_000


def batch_file(folder: Path, run: str, count: int = MESSAGES) -> Path:
    """A batch for bob, each line with its own `once`; the body tells its place."""
    path = folder / f"{run}.jsonl"
    lines = (json.dumps({"to": "bob", "body": f"{run} {n}", "once": f"{run}-{n}"}) for n in range(count))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextlib.contextmanager
def sending(server: Server, batch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`chat send --batch` in a process of its own, which does not outlive the block."""
    process = start_batch(server, batch)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def start_batch(server: Server, batch: Path) -> subprocess.Popen[bytes]:
    with batch.with_suffix(".out").open("wb") as out, batch.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            chat("--profile", "ann", "--json", "--timeout", "120", "send", "--batch", str(batch)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=server.env,
            cwd=server.folder,
        )


def accepted(batch: Path) -> list[int]:
    """The seqs that the batch was told, in the order of its lines."""
    lines = batch.with_suffix(".out").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["seq"] for line in lines]


def lines_told(batch: Path, least: int) -> Callable[[], bool]:
    out = batch.with_suffix(".out")
    return lambda: out.exists() and out.read_bytes().count(b"\n") >= least


def mailbox(server: Server) -> list[tuple[int, str]]:
    """(seq, body) of everything in bob's mailbox, as a fresh client reads it."""
    with Client(server.address, token=(server.folder / "bob.token").read_bytes()) as bob:
        return [(message.seq, message.text) for message in bob.inbox(unread=False, peek=True)]


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


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("service", ["broker", "auth", "store", "serve"])
def test_a_batch_survives_the_death_of_each_service(people: Server, service: str) -> None:
    batch = batch_file(people.folder, service)
    with sending(people, batch) as process:
        for part in (1, 2, 3):
            wait_for(lines_told(batch, part * MESSAGES // 10), f"{part * 10} % of the batch", wait_s=60)
            assert process.poll() is None, "the batch was over before the kill: it shows nothing"
            old = people.kill(service)
            if service == "serve":
                people.start()
            else:
                people.restarted(service, old)
        assert process.wait(120) == 0, batch.with_suffix(".err").read_text(encoding="utf-8")

    seqs = accepted(batch)
    assert len(seqs) == MESSAGES
    assert seqs == sorted(set(seqs)), "accepted out of order, or two under one seq"
    assert mailbox(people) == [(seq, f"{service} {n}") for n, seq in enumerate(seqs)]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_batch_killed_on_the_clients_side_and_run_again_doubles_nothing(people: Server, how: signal.Signals) -> None:
    batch = batch_file(people.folder, "twice")
    with sending(people, batch) as first:
        wait_for(lines_told(batch, MESSAGES // 4), "a quarter of the batch", wait_s=60)
        first.send_signal(how)
        code = first.wait(30)
    told = batch.with_suffix(".out").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(told) < MESSAGES, "the batch was over before the kill: it shows nothing"
    assert code == (130 if how is signal.SIGINT else -signal.SIGKILL)

    with sending(people, batch) as again:
        assert again.wait(120) == 0, batch.with_suffix(".err").read_text(encoding="utf-8")
    seqs = accepted(batch)
    assert [json.loads(line)["seq"] for line in told] == seqs[: len(told)], "a retry got another answer"
    assert mailbox(people) == [(seq, f"twice {n}") for n, seq in enumerate(seqs)]
