"""The three services as compose runs them: each by itself, over TCP with CURVE, on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.local_server import isolated
from restante import Client
from restante.wire.address import Address, parse_address
from restante.wire.errors import ChatError
from runtime import keys
from tests.e2e.server import wait_for


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds now. Services that must know each other's before they start can't take port 0."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]


class Cluster:
    """Processes by name: "broker", "store", "auth", and whatever a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.env = isolated(folder)
        self.pairs = keys.make_all(self.keys)
        self.clients, self.workers, self.confirms, self.store = free_ports(4)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> Address:
        return Address(host="127.0.0.1", port=self.clients, key=keys.raw_key(self.pairs["broker"].public))

    def start(self) -> None:
        """Start one of each, and return when they serve."""
        self.start_store()
        self.start_auth("auth")
        self.start_broker()
        wait_for(self.ready, "the cluster serves")

    def ready(self) -> bool:
        """Whether a greeting says that both workers are there."""
        with Client(str(self.address), timeout_s=2) as client:
            try:
                welcome = client.hello()
            except ChatError:
                return False
            return welcome.auth and welcome.store

    def start_broker(self) -> None:
        self.run(
            "broker",
            "broker",
            f"--data={self.folder / 'broker'}",
            f"--keys={self.keys / 'broker'}",
            f"--listen=tcp://127.0.0.1:{self.clients}",
            f"--workers=tcp://127.0.0.1:{self.workers}",
            f"--confirms=tcp://127.0.0.1:{self.confirms}",
            f"--store=tcp://127.0.0.1:{self.store}",
        )

    def start_store(self) -> None:
        self.run(
            "store",
            "store_worker",
            f"--data={self.folder / 'store'}",
            f"--keys={self.keys / 'store'}",
            f"--listen=tcp://127.0.0.1:{self.store}",
            f"--broker=tcp://127.0.0.1:{self.confirms}",
        )

    def start_auth(self, name: str, *, key_directory: Path | None = None) -> None:
        self.run(
            name,
            "auth_service",
            f"--data={self.folder / 'auth'}",
            f"--keys={key_directory or self.keys / 'auth'}",
            f"--broker=tcp://127.0.0.1:{self.workers}",
        )

    def run(self, name: str, module: str, *arguments: str) -> None:
        """Start a service's process; its log is `log(name)`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=self.folder,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)


@contextlib.contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    """A cluster that serves, and ends with the block."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def with_other_key(address: Address) -> Address:
    """The same place, and a key that its server does not hold."""
    return parse_address(str(Address(host=address.host, port=address.port, key=keys.raw_key(keys.make_pair().public))))
