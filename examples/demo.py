"""`make demo`: messages that people really wrote travel between real accounts, through a real server.

It starts `chat serve` in a folder of its own, makes an account for each person of some tens of conversations, sends
every message from the account of who wrote it to the account of the other one, in the order in which they were
written, and compares every mailbox with what was written to it. Two people then read theirs with `chat inbox`.
Nothing is left running, and nothing on disk. Exit 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.corpus import Conversation, Written, conversations, people_of
from benchmarks.local_server import LocalServer, ServerError, chat, isolated
from restante import ChatError, Client, Receipt
from restante.profiles import Profile, save, show_token

CONVERSATIONS: Final = 40
SHOWN: Final = 6
"""Messages of a mailbox that are shown; the people chosen have about as many."""

RULE: Final = "─" * 72


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    print(f"{text:<58}", end="", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:6.1f} s", flush=True)


def enrol(people: list[str], address: str) -> dict[str, Client]:
    """Register everybody and log them in, each with a profile as `chat login` leaves it."""
    clients = {}
    for name in people:
        client = clients[name] = Client(address, profile=name)
        password = secrets.token_urlsafe(12)
        client.register(name, password)
        session = client.login(name, password)
        assert session.token is not None
        token = show_token(session.token)
        save(Profile(address=address, account=session.account, name=name, token=token), name)
    return clients


def send_all(clients: dict[str, Client], messages: list[Written]) -> tuple[list[Receipt], list[str]]:
    """Send every message on its writer's own connection; receipts, and what was refused."""
    receipts, refused = [], []
    for message in messages:
        try:
            receipts.append(clients[message.writer].send(message.reader, message.body))
        except ChatError as error:
            refused.append(f"{message.writer} → {message.reader}: {error}")
    return receipts, refused


def read_all(clients: dict[str, Client], messages: list[Written]) -> tuple[int, int, list[str]]:
    """Read every mailbox without marking: how many came, how many in their order, and what was different."""
    received = in_order = 0
    differences = []
    for name, client in clients.items():
        wanted = [(one.writer, one.body.encode()) for one in messages if one.reader == name]
        got = [(message.sender, message.body) for message in client.inbox(peek=True)]
        received += len(got)
        in_order += sum(a == b for a, b in zip(got, wanted, strict=False))
        if got != wanted:
            differences.append(f"{name} received {len(got)} messages, not the {len(wanted)} written to them in order")
    return received, in_order, differences


def show_inbox(name: str, env: dict[str, str]) -> list[str]:
    """A person reads with the real command, which marks read what it shows."""
    print(f"\n{RULE}\n$ chat --profile {name} inbox --limit {SHOWN}\n", flush=True)
    done = subprocess.run(
        chat("--profile", name, "inbox", "--limit", str(SHOWN)),
        env=env,
        cwd=env["HOME"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return [] if done.returncode == 0 else [f"`chat inbox` of {name} ended with {done.returncode}"]


def two_people(some: list[Conversation]) -> list[str]:
    """The two of one conversation whose mailboxes hold about as much as can be shown here."""
    sizes = Counter(message.reader for one in some for message in one.messages)
    return people_of([min(some, key=lambda one: sum(abs(sizes[name] - SHOWN) for name in one.people))])


def travel(server: LocalServer, some: list[Conversation], started: float) -> int:
    """The demo proper; the exit code."""
    messages = [message for one in some for message in one.messages]
    people = people_of(some)
    with contextlib.ExitStack() as stack:
        with step(f"{len(people)} people register and log in"):
            clients = enrol(people, server.address)
            for client in clients.values():
                stack.enter_context(client)
        with step(f"{len(messages):,} messages of {len(some)} conversations are sent"):
            receipts, differences = send_all(clients, messages)
        with step("every mailbox is read and compared"):
            received, in_order, different = read_all(clients, messages)
            differences += different
    for name in two_people(some):
        differences += show_inbox(name, server.env)
    accepted = len({receipt.id for receipt in receipts})
    print(f"\n{RULE}")
    for what, number in (
        ("sent", len(messages)),
        ("accepted", accepted),
        ("received", received),
        ("in order", in_order),
    ):
        print(f"{what:<12}{number:>8,}")
    print(f"{'time taken':<12}{time.monotonic() - started:>8.1f} s", flush=True)
    for difference in differences:
        print(f"DIFFERENT: {difference}", file=sys.stderr)
    return 0 if len(messages) == accepted == received == in_order and not differences else 1


def run(count: int) -> int:
    """Serve, travel, and leave nothing behind."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="restante-demo-") as name:
        folder = Path(name)
        env = isolated(folder)
        os.environ.update(env)  # the clients in this process keep to the folder too
        server = LocalServer(folder, env=env, options=["--log-level", "warning"])
        try:
            with step("`chat serve` starts its three services"):
                server.start()
            print(f"its address: {server.address}")
            return travel(server, list(conversations(count)), started)
        finally:
            # A second Ctrl-C must not leave a server behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            server.stop()


def _end(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, metavar="N", help="how many are replayed")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return run(arguments.conversations)
    except KeyboardInterrupt:
        print("\nInterrupted: the server is stopped, and its folder removed.", file=sys.stderr)
        return 130
    except (ServerError, ChatError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
