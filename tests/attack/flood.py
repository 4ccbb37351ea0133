"""Hostile connections to a real server, while somebody well-meant sends and reads and must notice nothing.

    python -m tests.attack.flood --seconds 60 [--seed N] [--attackers 8]

It starts a `chat serve` of its own. Attackers connect, some log in, and all send what `mutate` makes, as fast as it is
taken; whoever is cut off or ignored connects anew. The good client sends to itself, reads and acknowledges, one call
after the other. At the end: its every call was answered rightly, and broker and store have not grown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import zmq

from restante import Client
from tests.attack.mutate import Mutator, vectors
from tests.attack.peers import Peer, Socket
from tests.e2e.server import Server

WARM_S: Final = 5.0
"""What is there after so long is what the server needs: caches, buffers, arenas."""

GROWTH_MIB_MAX: Final = 48.0
"""Per process, beyond it: what waits in sockets at one moment and not at another."""

BURST: Final = 50


class Score(msgspec.Struct):
    """How it went."""

    thrown: int = 0
    errors_heard: int = 0
    connections: int = 0
    good_calls: int = 0
    slowest_s: float = 0.0
    warm_mib: dict[str, float] = {}
    end_mib: dict[str, float] = {}

    @property
    def grown_mib(self) -> dict[str, float]:
        return {name: self.end_mib[name] - mib for name, mib in self.warm_mib.items()}


def mib_of(server: Server) -> dict[str, float]:
    """What each service holds in memory."""
    found = {}
    for name, pid in server.pids().items():
        found[name] = int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * 4096 / 2**20
    return found


class Attacker(threading.Thread):
    """Connects, throws frames, and connects anew, until told to end."""

    def __init__(self, address: str, seed: int, number: int, end: threading.Event) -> None:
        super().__init__(daemon=True)
        self._address, self._number, self._end = address, number, end
        self._mutator, self._random = Mutator(f"{seed}:{number}", vectors()), Random(f"{seed}:{number}")
        self.finished = False
        self.score = Score()

    def run(self) -> None:
        context: zmq.Context[Socket] = zmq.Context()
        while not self._end.is_set():
            self.score.connections += 1
            peer = Peer(self._address, context)
            try:
                self._attack(peer)
            finally:
                peer.close()
        context.term()
        self.finished = True

    def _attack(self, peer: Peer) -> None:
        """One connection's life. Who is ignored notices by the silence, and gives up."""
        if self._random.random() < 0.5:
            # an account of its own: what is thrown may change its password
            peer.log_in(f"attacker{self._number}-{self.score.connections}")
        for _ in range(20):
            thrown = sum(peer.throw(self._mutator.frames("client→broker") or [b""]) for _ in range(BURST))
            self.score.thrown += thrown
            heard = peer.socket.poll(200)
            self.score.errors_heard += peer.drain()
            if not heard or not thrown or self._end.is_set():
                return


def be_good(client: Client, score: Score) -> None:
    """Send, read, acknowledge; raises AssertionError or what the client raises."""
    began = time.monotonic()
    content = b"%d" % score.good_calls
    receipt = client.send("good", content)
    found = [(message.seq, message.body) for message in client.inbox()]
    assert found == [(receipt.seq, content)], found
    client.ack([receipt.seq])
    score.good_calls += 3
    score.slowest_s = max(score.slowest_s, time.monotonic() - began)


def flood(server: Server, seed: int, seconds: float, attackers: int) -> Score:
    """Attack a running server for so long. Raises if the good client is let down."""
    end = threading.Event()
    crowd = [Attacker(server.address, seed, n, end) for n in range(attackers)]
    score, began = Score(), time.monotonic()
    with Client(server.address, timeout_s=30) as client:
        client.register("good", "a password of its own")
        client.login("good", "a password of its own")
        for attacker in crowd:
            attacker.start()
        try:
            while (passed := time.monotonic() - began) < seconds:
                be_good(client, score)
                if passed > min(WARM_S, seconds / 2) and not score.warm_mib:
                    score.warm_mib = mib_of(server)
        finally:
            end.set()
            for attacker in crowd:
                attacker.join(30)
    assert all(attacker.finished for attacker in crowd), "an attacker gave up: it was told something that it can't read"
    for attacker in crowd:
        score.thrown += attacker.score.thrown
        score.errors_heard += attacker.score.errors_heard
        score.connections += attacker.score.connections
    score.end_mib = mib_of(server)
    return score


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack.flood", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attackers", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        with server:
            pids = server.pids()
            score = flood(server, given.seed, given.seconds, given.attackers)
            survived = server.pids() == pids
    print(
        f"{score.thrown:,} envelopes thrown over {score.connections:,} connections, {score.errors_heard:,} errors heard"
    )
    print(f"{score.good_calls:,} good calls, all answered; the slowest three took {score.slowest_s:.3f} s")
    for name, grown in score.grown_mib.items():
        print(f"{name:>6}: {score.warm_mib[name]:.1f} MiB after the first seconds, {grown:+.1f} at the end")
    print("every process is the one that it was" if survived else "A PROCESS DIED")
    return 0 if survived and max(score.grown_mib.values()) < GROWTH_MIB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
