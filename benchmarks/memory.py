"""What broker and store hold: before, after many messages through, and after many sessions come and gone.

    python -m benchmarks.memory [--quick] [--messages N] [--sessions N]

A real `chat serve`. It is warmed up until what is bounded is full: the database's page cache, and what the allocator
keeps of a thousand connections at a time. What it holds then is *before*. Messages are sent in batches to readers who
acknowledge them; sessions say hello, log in with a token, and leave without a word, a thousand at a time. After each,
and once the broker has forgotten who left, the resident memory is compared. The exit is 1 if broker or store hold a
tenth more than before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import zmq

from benchmarks.crowd import connect, is_logged_in
from benchmarks.local_server import LocalServer
from restante import Client, Outgoing
from restante.wire import limits
from restante.wire.address import Address, parse_address

SERVICES: Final = {"broker": "broker", "store": "store_worker"}
GROWTH_MAX: Final = 0.10
READERS: Final = 50
ROUND: Final = 20_000
CROWD: Final = 1_000
"""Sessions open at a time: each takes two descriptors here and one at the broker."""
PACE_PER_S: Final = 400
"""Below what the broker admits from one address."""
WARM_MESSAGES: Final = 300_000
"""They fill the database's page cache, 64 MiB."""
WARM_SESSIONS: Final = 6_000
"""A thousand connections at a time leave gaps in the allocator's memory that the next thousand fill; after six rounds
no new ones come."""
BODY: Final = b"x" * 256


class Held(msgspec.Struct, frozen=True):
    """Resident memory at one moment, MiB by service."""

    when: str
    mib: dict[str, float]


def held(server: LocalServer, when: str) -> Held:
    """What the services hold now."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            words = (process / "cmdline").read_bytes().split(b"\0")
            pages = int((process / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile
        for name, module in SERVICES.items():
            if parent == server.pid and module.encode() in words:
                found[name] = pages * 4096 / 2**20
    return Held(when, found)


# --- messages ---------------------------------------------------------------------------------------------


def pass_messages(address: str, tokens: list[bytes], count: int) -> None:
    """So many messages through: sent, read and acknowledged."""
    names = [f"reader{n}" for n in range(READERS)]
    with Client(address, token=tokens[0], timeout_s=120) as sender:
        for start in range(0, count, ROUND):
            size = min(ROUND, count - start)
            for outcome in sender.send_many(Outgoing(names[n % READERS], BODY) for n in range(size)):
                if outcome.error is not None:
                    raise outcome.error
            for token in tokens:
                drain(address, token)


def drain(address: str, token: bytes) -> None:
    """Read one mailbox to its end, and acknowledge all of it."""
    with Client(address, token=token, timeout_s=120) as reader:
        seqs = [message.seq for message in reader.inbox()]
        for start in range(0, len(seqs), limits.ACKS_PER_REQUEST_MAX):
            reader.ack(seqs[start : start + limits.ACKS_PER_REQUEST_MAX])


# --- sessions ---------------------------------------------------------------------------------------------


def come_and_go(address: Address, token: bytes, count: int) -> int:
    """So many sessions, logged in, that leave without a word. Returns how many were."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * CROWD)
    keys = zmq.curve_keypair()
    done = 0
    while done < count:
        size = min(CROWD, count - done)
        began = time.monotonic()
        crowd = [connect(context, address, keys, token, heartbeat_ms=1_000) for _ in range(size)]
        done += sum(is_logged_in(socket) for socket in crowd)
        for socket in crowd:
            socket.close(0)
        wait_s(size / PACE_PER_S - (time.monotonic() - began))
    context.term()
    return done


def wait_s(seconds: float) -> None:
    threading.Event().wait(max(0.0, seconds))


# --- the whole --------------------------------------------------------------------------------------------


def measure(server: LocalServer, messages: int, sessions: int) -> list[Held]:
    """Warm up, then either load, and what is held after each."""
    tokens = []
    for n in range(READERS):
        with Client(server.address, timeout_s=60) as client:
            client.register(f"reader{n}", "correct horse")
            tokens.append(client.login(f"reader{n}", "correct horse").token or b"")
    address = parse_address(server.address)
    pass_messages(server.address, tokens, WARM_MESSAGES)
    come_and_go(address, tokens[0], WARM_SESSIONS)
    forgotten_s = 2 * limits.SILENCES_MAX  # their beat is a second
    wait_s(forgotten_s)
    found = [held(server, "before")]
    began = time.monotonic()
    pass_messages(server.address, tokens, messages)
    found.append(held(server, f"{messages:,} messages in {time.monotonic() - began:.0f} s"))
    began = time.monotonic()
    done = come_and_go(address, tokens[0], sessions)
    seconds = time.monotonic() - began
    wait_s(forgotten_s)
    found.append(held(server, f"{done:,} sessions in {seconds:.0f} s"))
    return found


def table(found: list[Held]) -> str:
    """One line a moment, one column a service."""
    lines = [f"{'after':<34}" + "".join(f"{name:>20}" for name in SERVICES)]
    for one in found:
        cells = [f"{one.mib[name]:.1f} MiB {one.mib[name] / found[0].mib[name] - 1:+.1%}" for name in SERVICES]
        lines.append(f"{one.when:<34}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def grown(found: list[Held]) -> float:
    """The largest growth over *before*, as a fraction."""
    before = found[0].mib
    return max(one.mib[name] / before[name] - 1 for one in found[1:] for name in SERVICES)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200,000 messages and 2,000 sessions")
    parser.add_argument("--messages", type=int)
    parser.add_argument("--sessions", type=int)
    given = parser.parse_args()
    messages = given.messages or (200_000 if given.quick else 1_000_000)
    sessions = given.sessions or (2_000 if given.quick else 10_000)
    with tempfile.TemporaryDirectory() as folder, LocalServer(Path(folder)) as server:
        found = measure(server, messages, sessions)
    print(table(found))
    print(f"largest growth {grown(found):+.1%}, allowed {GROWTH_MAX:+.0%}")
    return 0 if grown(found) <= GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
