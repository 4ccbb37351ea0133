"""Restante itself: a `chat serve` with its three processes, and its Python library.

Accounts are put into the database before the server starts: a thousand registrations are a thousand argon2 hashes,
which no question here asks about (`benchmarks.replay` does it over the wire).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import tempfile
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import apsw
import msgspec
import zmq

from auth_service.accounts import Grant, operation_key, secret_hash
from auth_service.sqlite import SqliteAccounts
from benchmarks.local_server import LocalServer
from benchmarks.peers import plaintext
from benchmarks.peers.peer import MAILBOXES, Message, Peer, Server
from benchmarks.processes import children, folder_bytes, words_of
from benchmarks.schedule import paced_async, precise_loop
from restante import AsyncClient, Client, Outgoing
from restante.wire import limits

SENDERS: Final = 16
SERVICES: Final = {"broker": "broker", "store_worker": "store", "auth_service": "auth"}
PAGE: Final = 1_000
READERS_AT_ONCE: Final = 64
"""Mailboxes that are drained at a time: enough that one's page is read while another's marks are written."""

CONNECTS_AT_ONCE: Final = 16
YEAR_US: Final = 365 * 86_400 * 1_000_000
CALL_S: Final = 60.0
STOP_LOOK_S: Final = 0.5
"""How often a subscriber to whom nothing comes looks whether it is to stop."""

T = TypeVar("T")


class Place(msgspec.Struct):
    """What a client needs to know: the endpoint, as JSON."""

    address: str
    senders: list[str]
    readers: list[str]
    """Tokens, as text: of the senders by number, of the mailboxes' owners likewise."""


@cache  # who sends has names, and makes none for each message
def mailbox(number: int) -> str:
    """The name of a mailbox's owner."""
    return f"m{number:04d}"


# --- the server -------------------------------------------------------------------------------------------


class RestanteServer:
    """A running `chat serve`."""

    def __init__(self, folder: Path, *, curve: bool) -> None:
        accounts = folder / "data" / "auth"
        accounts.mkdir(parents=True, mode=0o700)
        (folder / "data").chmod(0o700)
        enrolled = _enrol()
        (accounts / "accounts.db").write_bytes(enrolled.database)
        command = [] if curve else [sys.executable, "-P", "-m", plaintext.__name__, "serve"]
        self.local = LocalServer(folder, options=["--log-level", "warning"], command=command)
        address = self.local.start()
        self.endpoint = msgspec.json.encode(Place(address, enrolled.senders, enrolled.readers)).decode()
        self._data = folder / "data"

    def pids(self) -> dict[str, int]:
        found = {"supervisor": self.local.pid}
        for child in children(self.local.pid):
            words = words_of(child)
            found |= {name: child for module, name in SERVICES.items() if module in words}
        return found

    def data_bytes(self) -> int:
        return folder_bytes(self._data / "store")

    def stop(self) -> None:
        self.local.stop()


class Enrolled(NamedTuple):
    """A database of accounts, and their tokens."""

    database: bytes
    senders: list[str]
    readers: list[str]


@cache
def _enrol() -> Enrolled:
    """Make the accounts, and a token for each; once, for it takes two thousand syncs to disk."""
    with tempfile.TemporaryDirectory(prefix="restante-accounts-") as folder:
        path = Path(folder) / "accounts.db"
        accounts = SqliteAccounts(path)
        try:
            senders = [_account(accounts, f"sender{number:02d}") for number in range(SENDERS)]
            readers = [_account(accounts, mailbox(number)) for number in range(MAILBOXES)]
        finally:
            accounts.close()
        return Enrolled(path.read_bytes(), senders, readers)


def _account(accounts: SqliteAccounts, name: str) -> str:
    now_us = time.time_ns() // 1_000
    op, digest, secret = secrets.token_bytes(16), "no password", secrets.token_bytes(limits.TOKEN_BYTES)
    made = accounts.register(operation_key(op, "register", name), name, "", digest, now_us)
    assert made is not None
    grant = Grant(
        account=made.account,
        verified=digest,
        password_hash=digest,
        salt=secrets.token_bytes(32),
        secret_hash=secret_hash(secret),
        device="benchmark",
        expires_at_us=now_us + YEAR_US,
    )
    accounts.grant(operation_key(op, "login", name), grant, now_us)
    return urlsafe_b64encode(secret).rstrip(b"=").decode()


# --- the client -------------------------------------------------------------------------------------------


class RestanteClient:
    """The blocking client to send with, the asyncio one where things happen by themselves."""

    def __init__(self, endpoint: str, number: int, *, curve: bool) -> None:
        if not curve:
            plaintext.plain_clients()
        self._place = msgspec.json.decode(endpoint, type=Place)
        self._token = self._place.senders[number]
        self._sender: Client | None = None
        self._runner: asyncio.Runner | None = None
        self._readers: list[AsyncClient] = []
        self._lookers: dict[int, Client] = {}

    def prepare(self, mailboxes: int) -> None:
        assert mailboxes <= MAILBOXES
        self._sender = Client(self._place.address, token=self._token, timeout_s=CALL_S)
        self._sender.overview()

    def send(self, messages: Sequence[Message]) -> None:
        for outcome in self._client.send_many([Outgoing(mailbox(to), body) for to, body in messages]):
            if outcome.error is not None:
                raise outcome.error

    def send_each(self, messages: Sequence[Message]) -> None:
        submit = self._client.submit
        for to, body in messages:
            submit(mailbox(to), body)
        self._client.flush()

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        async def send() -> None:
            async with AsyncClient(self._place.address, token=self._token, timeout_s=CALL_S) as client:
                await client.overview()
                async for to, body in paced_async(schedule):
                    await client.submit(mailbox(to), body)
                await client.flush()

        with asyncio.Runner(loop_factory=precise_loop) as runner:
            runner.run(send())

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        self._client.send([mailbox(number) for number in range(mailboxes)], body)

    def open_mailboxes(self, mailboxes: int) -> None:
        self._readers = [
            AsyncClient(self._place.address, token=token, timeout_s=CALL_S) for token in self._place.readers[:mailboxes]
        ]
        self._runner = asyncio.Runner()
        self._runner.run(_each(self._readers, CONNECTS_AT_ONCE, AsyncClient.hello))
        self._runner.run(_each(self._readers, CONNECTS_AT_ONCE, AsyncClient.overview))

    def drain(self, mailboxes: int, expected: int) -> int:
        assert self._runner is not None
        assert len(self._readers) == mailboxes
        return sum(self._runner.run(_each(self._readers, READERS_AT_ONCE, _drain_one)))

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            runner.run(_follow(self._place, mailbox, got, ready, stop))

    def newest(self, mailbox: int, count: int) -> int:
        looker = self._lookers.get(mailbox)
        if looker is None:
            token = self._place.readers[mailbox]
            looker = self._lookers[mailbox] = Client(self._place.address, token=token, timeout_s=CALL_S)
        return len(looker.fetch(limit=count, peek=True).messages)  # pages go from the oldest unread on

    def close(self) -> None:
        if self._runner is not None:
            with contextlib.suppress(Exception):
                self._runner.run(_each(self._readers, READERS_AT_ONCE, AsyncClient.close))
            self._runner.close()
        for client in filter(None, (self._sender, *self._lookers.values())):
            client.close()

    @property
    def _client(self) -> Client:
        assert self._sender is not None, "prepare comes first"
        return self._sender


async def _each(clients: list[AsyncClient], at_once: int, work: Callable[[AsyncClient], Awaitable[T]]) -> list[T]:
    """Do the work for all, so many at a time."""
    room = asyncio.Semaphore(at_once)

    async def one(client: AsyncClient) -> T:
        async with room:
            return await work(client)

    return await asyncio.gather(*(one(client) for client in clients))


async def _drain_one(client: AsyncClient) -> int:
    """Read a mailbox to its end and mark all of it read; how many that were."""
    after, more, read = 0, True, 0
    while more:
        page = await client.fetch(after, limit=PAGE)
        if page.messages:
            await client.ack([message.seq for message in page.messages])
        after, more, read = page.through, page.more, read + len(page.messages)
    return read


async def _follow(
    place: Place, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
) -> None:
    """What comes is marked read in the background, all that has come meanwhile at once."""
    async with AsyncClient(place.address, token=place.readers[mailbox], timeout_s=CALL_S) as client:
        unread: list[int] = []
        marking: asyncio.Task[None] | None = None

        async def mark() -> None:
            while unread:
                seqs, unread[:] = list(unread), []
                await client.ack(seqs)

        await client.overview()
        ready()
        while not stop.is_set():
            async for message in client.inbox(follow=True, wait_s=STOP_LOOK_S):
                got(message.body)
                unread.append(message.seq)
                if marking is None or marking.done():
                    marking = asyncio.create_task(mark())
                if stop.is_set():
                    break
        if marking is not None:
            await marking
        await mark()


# --- the peer ---------------------------------------------------------------------------------------------


class Restante:
    """This product, as it is, and without its encryption."""

    durable = True

    def __init__(self, key: str, name: str, promise: str, *, curve: bool) -> None:
        self.key = key
        self.name = name
        self.promise = promise
        self._curve = curve

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"{version('restante')}, SQLite {apsw.sqlite_lib_version()}, libzmq {zmq.zmq_version()}"

    def start(self, folder: Path) -> Server:
        return RestanteServer(folder, curve=self._curve)

    def client(self, endpoint: str, number: int) -> RestanteClient:
        return RestanteClient(endpoint, number, curve=self._curve)


_PROMISE: Final = "Committed by SQLite and synced (WAL, `synchronous=FULL`), whatever is sent how"
PEERS: Final[tuple[Peer, ...]] = (
    Restante("restante", "Restante", f"{_PROMISE}. CURVE encrypts every frame.", curve=True),
    Restante("restante-plain", "Restante, CURVE off", f"{_PROMISE}. Only the benchmarks can have it so.", curve=False),
)
