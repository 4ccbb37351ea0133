"""The two ways in which Restante runs, each behind the proxy, each with its processes to be killed one by one.

`Apart` is what compose runs: broker, store and two authentication workers, each by itself over TCP with CURVE, and a
proxy between any two. Somebody must start again what has died, as an engine would. `Serve` is `chat serve`: the same
as children of one supervisor, which starts them again itself, until it is killed too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

from benchmarks.local_server import ServerError, chat
from restante import Client
from restante.wire.address import Address, parse_address
from restante.wire.errors import ChatError
from tests.e2e.cluster import Cluster
from tests.e2e.server import Server, lives
from tests.torture.plan import CLIENTS
from tests.torture.proxy import Proxy

READY_S: Final = 60.0
"""From the end of all mishaps to a server that serves. Its waits double up to 5 s while it can't."""

STARTS_MAX: Final = 3
"""Attempts at starting `chat serve`: the services of the last one may take their time to end."""

_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def die_with_parent() -> None:
    """In a new process: be killed when whoever started it is gone, even by SIGKILL. (Linux)"""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: Path,
    log: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: Path | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, which Ctrl-C doesn't reach: it is ended by us."""
    with contextlib.ExitStack() as stack:
        log_file: IO[bytes] = stack.enter_context(log.open("ab"))
        out_file: IO[bytes] | int = log_file
        if stdout is not None:
            out_file = stack.enter_context(stdout.open("ab")) if isinstance(stdout, Path) else stdout
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=out_file,
            stderr=log_file,
            env=dict(env),
            cwd=folder,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one call into libc, which takes no lock
        )


class Place(Protocol):
    """A server, its processes by name, and how clients reach it: through the proxy, or past it."""

    services: Sequence[str]
    links: Sequence[str]
    env: dict[str, str]
    complaints: list[str]
    """What ended by itself, or would not start."""

    @property
    def address(self) -> str: ...
    @property
    def direct(self) -> str: ...
    def start(self) -> None: ...
    def pids(self) -> dict[str, int]: ...
    def kill(self, name: str) -> bool: ...
    def restart(self, name: str) -> bool: ...
    def tend(self, resting: Container[str] = ()) -> None: ...
    def stop(self) -> None: ...


def is_ready(address: str) -> bool:
    """Whether a greeting says that store and accounts are there."""
    with Client(address, timeout_s=2) as client:
        try:
            welcome = client.hello()
        except ChatError:
            return False
        return welcome.auth and welcome.store


def at_port(address: Address, port: int) -> str:
    return str(Address(host=address.host, port=port, key=address.key))


class _Services(Cluster):
    """The services of a cluster, their peers' endpoints led through the proxy."""

    def __init__(self, folder: Path, proxy: Proxy) -> None:
        super().__init__(folder)
        self.near = {
            CLIENTS: proxy.add(CLIENTS, self.clients),
            "broker-store": proxy.add("broker-store", self.store),
            "store-broker": proxy.add("store-broker", self.confirms),
            "auth-broker": proxy.add("auth-broker", self.workers),
        }

    def run(self, name: str, module: str, *arguments: str) -> None:
        peers = {
            ("broker", "--store"): "broker-store",
            ("store_worker", "--broker"): "store-broker",
            ("auth_service", "--broker"): "auth-broker",
        }
        argv = [sys.executable, "-P", "-m", module]
        for argument in arguments:
            flag = argument.partition("=")[0]
            link = peers.get((module, flag))
            argv.append(argument if link is None else f"{flag}=tcp://127.0.0.1:{self.near[link]}")
        self.processes[name] = spawn(argv, env=self.env, folder=self.folder, log=self.folder / f"{name}.log")


class Apart:
    """The services each by itself, every link through the proxy. `tend` starts again what has died."""

    services: Sequence[str] = ("broker", "store", "auth", "auth-2")
    links: Sequence[str] = (CLIENTS, CLIENTS, "broker-store", "store-broker", "auth-broker")

    def __init__(self, folder: Path, proxy: Proxy) -> None:
        self._services = _Services(folder, proxy)
        self._ending: set[str] = set()
        self.env = self._services.env
        self.complaints: list[str] = []

    @property
    def direct(self) -> str:
        return str(self._services.address)

    @property
    def address(self) -> str:
        return at_port(self._services.address, self._services.near[CLIENTS])

    def start(self) -> None:
        self.tend()

    def pids(self) -> dict[str, int]:
        return {name: each.pid for name, each in self._services.processes.items() if each.poll() is None}

    def kill(self, name: str) -> bool:
        """SIGKILL; whether there was something to kill."""
        if name not in self.pids():
            return False
        self._services.kill(name)
        self._ending.discard(name)
        return True

    def restart(self, name: str) -> bool:
        """SIGTERM; `tend` starts it again. Whether there was something to end."""
        if name not in self.pids():
            return False
        self._services.processes[name].terminate()
        self._ending.add(name)
        return True

    def tend(self, resting: Container[str] = ()) -> None:
        """Start what doesn't run, but for what is to rest. What has ended by itself is a complaint."""
        services = self._services
        starts: dict[str, Callable[[], None]] = {"broker": services.start_broker, "store": services.start_store}
        for name, process in list(services.processes.items()):
            if process.poll() is not None:
                # SIGTERM itself ends who has only just been started, and heeds no signals yet
                if name not in self._ending or process.returncode not in (0, -signal.SIGTERM):
                    told = "told to" if name in self._ending else "by itself"
                    self.complaints.append(f"{name} ended {told}, with {process.returncode}")
                self._ending.discard(name)
                del services.processes[name]
        for name in self.services:
            if name not in services.processes and name not in resting:
                starts.get(name, lambda name=name: services.start_auth(name))()

    def stop(self) -> None:
        self._services.stop()


class _Supervised(Server):
    """`chat serve`, which ends with us."""

    def start(self) -> str:
        self._process = spawn(
            chat("serve", "--data", str(self.folder / "data"), "--listen", f"127.0.0.1:{self._port()}"),
            env=self.env,
            folder=self.folder,
            log=self.log,
            stdout=subprocess.PIPE,
        )
        address = self._first_line().strip()
        if not address.startswith("chat://"):
            self.stop()
            raise ServerError(f"the server did not get ready; its log ends:\n{self.log_end()}")
        self.address = address
        return address


class Serve:
    """`chat serve`, the clients' link through the proxy. Its supervisor starts again what has died, unless it has."""

    services: Sequence[str] = ("broker", "store", "auth", "serve")
    links: Sequence[str] = (CLIENTS,)

    def __init__(self, folder: Path, proxy: Proxy) -> None:
        self._server = _Supervised(folder)
        self._proxy = proxy
        self._near = proxy.add(CLIENTS)
        self._ending = False
        self.env = self._server.env
        self.complaints: list[str] = []

    @property
    def direct(self) -> str:
        return self._server.address

    @property
    def address(self) -> str:
        return at_port(parse_address(self.direct), self._near)

    def start(self) -> None:
        for attempt in range(1, STARTS_MAX + 1):
            try:
                self._server.start()
                break
            except ServerError as error:  # what is left of the last one still holds the lock
                if attempt == STARTS_MAX:
                    raise
                self.complaints.append(f"`chat serve` did not start at once: {error}")
        self._proxy.aim(CLIENTS, parse_address(self.direct).port)

    def pids(self) -> dict[str, int]:
        try:
            pid = self._server.pid
        except ServerError:
            return {}
        return {**self._server.pids(), "serve": pid} if lives(pid) else {}

    def kill(self, name: str) -> bool:
        """SIGKILL; whether there was something to kill."""
        pid = self.pids().get(name)
        if pid is None:
            return False
        if name == "serve":
            self._server.kill("serve")
            self._ending = False
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True

    def restart(self, name: str) -> bool:
        """SIGTERM; the supervisor starts it again, or `tend` does. Whether there was something to end."""
        pid = self.pids().get(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        self._ending = self._ending or name == "serve"
        return True

    def tend(self, resting: Container[str] = ()) -> None:
        """Start the supervisor if it doesn't run, unless it is to rest. One that has ended by itself is a complaint."""
        try:
            pid = self._server.pid
        except ServerError:
            if "serve" not in resting:
                self.start()
            return
        if not lives(pid):
            if not self._ending:
                self.complaints.append(f"`chat serve` ended by itself; its log ends:\n{self._server.log_end()}")
            self._ending = False
            self._server.stop()
            self.start()

    def stop(self) -> None:
        self._server.stop()
