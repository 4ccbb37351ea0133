"""Does every message arrive, once and in order? All 243,046 that people wrote, through a real server, with CURVE.

    python -m benchmarks.replay [--conversations N]

Every person gets an account, and sends in one session what they wrote, to whom they wrote it, in the order in which
they did; several people send at a time. Then every mailbox is read and compared: what each writer sent to it must be
there, message by message, in order, under the ids and seqs that the writer was told, and nothing else. At last all of
it is acknowledged, and nothing may be unread. Exit 1 on any difference.

Between two writers no order is promised but the mailbox's own, which must strictly increase (G3).
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from benchmarks import corpus
from benchmarks.corpus import Written
from benchmarks.local_server import LocalServer, isolated
from restante import Client, Message, Outgoing
from restante.wire.limits import ACKS_PER_REQUEST_MAX

AT_ONCE: Final = 8
"""People who send, or read, at a time: enough that their messages mix in the mailboxes."""

DIFFERENCES_SHOWN_MAX: Final = 20

T = TypeVar("T")
R = TypeVar("R")


class Accepted(NamedTuple):
    """A message, and what its writer was told when it was on disk."""

    message: Written
    id: bytes
    seq: int


class Found(NamedTuple):
    """What the comparison of one mailbox, or of all, came to."""

    equal: int
    differences: list[str]


def enrol(address: str, name: str) -> bytes:
    """Make an account and log in; its token."""
    password = secrets.token_urlsafe(12)
    with Client(address) as client:
        client.register(name, password)
        token = client.login(name, password).token
        assert token is not None
        return token


def send_all(address: str, token: bytes, written: list[Written]) -> tuple[list[Accepted], list[str]]:
    """Send what one person wrote; what was accepted, and what was not."""
    accepted: list[Accepted] = []
    refused: list[str] = []
    with Client(address, token=token) as client:
        outcomes = client.send_many(Outgoing(message.reader, message.body) for message in written)
        for message, outcome in zip(written, outcomes, strict=True):
            if outcome.receipt is None:
                refused.append(f"{message.writer} → {message.reader}: refused: {outcome.error}")
            else:
                accepted.append(Accepted(message, outcome.receipt.id, outcome.receipt.seq))
    return accepted, refused


def compare(address: str, token: bytes, reader: str, expected: dict[str, list[Accepted]]) -> Found:
    """Read one mailbox, hold it against what was sent to it, and acknowledge it."""
    ahead = {writer: deque(messages) for writer, messages in expected.items()}
    differences: list[str] = []
    equal = 0
    seqs = [0]
    with Client(address, token=token) as client:
        for message in client.inbox():
            waiting = ahead.get(message.sender)
            sent = waiting.popleft() if waiting else None
            if sent is None or not _same(message, sent):
                differences.append(f"{reader}: from {message.sender} came {message.body!r}, not {sent}")
            elif message.seq <= seqs[-1]:
                differences.append(f"{reader}: seq {message.seq} came after {seqs[-1]}")
            else:
                equal += 1
            seqs.append(message.seq)
        for start in range(1, len(seqs), ACKS_PER_REQUEST_MAX):
            client.ack(seqs[start : start + ACKS_PER_REQUEST_MAX])
        unread = client.overview().unread
    differences += [f"{reader}: {len(rest)} from {writer} did not come" for writer, rest in ahead.items() if rest]
    if unread:
        differences.append(f"{reader}: {unread} unread after all were acknowledged")
    return Found(equal, differences)


def _same(message: Message, sent: Accepted) -> bool:
    got = (message.body, message.id, message.seq, message.to)
    return got == (sent.message.body.encode(), sent.id, sent.seq, [sent.message.reader])


def everybody(
    what: str, work: Callable[[T], R], items: Iterable[T], total: int, weight: Callable[[R], int] = lambda _: 1
) -> Iterator[R]:
    """Do the work for all, several at a time, and show how far it is; results in the order of the items."""
    started = shown = time.monotonic()
    done = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for result in pool.map(work, items):
            yield result
            done += weight(result)
            now = time.monotonic()
            if now - shown > 1 or done == total:
                shown = now
                print(f"{what}: {done:,} of {total:,}, {done / (now - started):,.0f}/s", file=sys.stderr)


def replay(address: str, conversations: list[corpus.Conversation]) -> int:
    """Send all, compare all, print what came of it; the exit code."""
    written = corpus.by_writer(conversations)
    people = corpus.people_of(conversations)
    total = sum(len(messages) for messages in written.values())
    print(f"{len(conversations):,} conversations, {total:,} messages, {len(people):,} people")

    tokens = dict(
        zip(people, everybody("accounts", lambda name: enrol(address, name), people, len(people)), strict=True)
    )

    started = time.monotonic()
    mailboxes: dict[str, dict[str, list[Accepted]]] = {name: {} for name in people}
    differences: list[str] = []
    accepted_all = 0

    def send(name: str) -> tuple[list[Accepted], list[str]]:
        return send_all(address, tokens[name], written[name])

    for accepted, refused in everybody("sent", send, people, total, lambda result: len(result[0])):
        accepted_all += len(accepted)
        differences += refused
        for one in accepted:
            mailboxes[one.message.reader].setdefault(one.message.writer, []).append(one)
    sending_s = time.monotonic() - started

    started = time.monotonic()
    equal = 0

    def check(name: str) -> Found:
        return compare(address, tokens[name], name, mailboxes[name])

    for found in everybody("compared", check, people, total, lambda result: result.equal):
        equal += found.equal
        differences += found.differences
    reading_s = time.monotonic() - started

    print(f"sent      {total:,}, accepted {accepted_all:,} in {sending_s:.1f} s: {accepted_all / sending_s:,.0f}/s")
    print(f"compared  {equal:,} of {total:,} equal, read and marked in {reading_s:.1f} s: {equal / reading_s:,.0f}/s")
    for difference in differences[:DIFFERENCES_SHOWN_MAX]:
        print(f"DIFFERENT {difference}")
    return 0 if equal == total == accepted_all and not differences else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--conversations", type=int, metavar="N", help="the first N, instead of all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="restante-replay-") as name:
        folder = Path(name)
        env = isolated(folder)
        os.environ.update(env)  # the clients here read settings too
        with LocalServer(folder, env=env, options=["--log-level", "warning"]) as server:
            return replay(server.address, list(corpus.conversations(arguments.conversations)))


if __name__ == "__main__":
    sys.exit(main())
