"""Redis Streams, every write synced: a stream a mailbox, read by a consumer group.

*What its OK promises about the disk.* With `appendfsync always` the append-only file is written and synced once for all
commands of one turn of the event loop, "before sending the replies": OK means on disk. (The default, `everysec`, may
lose a second.) Traced: a message by itself is one fdatasync.
https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/

*Settings*: `appendonly yes`, `appendfsync always`, `save ""` (no snapshots beside the log), else defaults. A message is
acknowledged by XACK, and taken out by XDEL: an acknowledged entry would stay in its stream for ever.

*Client*: redis-py with hiredis. `send` and `drain` are pipelines without MULTI, as its documentation advises. Single
calls come from threads, since redis-py doesn't pipeline them by itself (its asyncio client was no faster); a mailbox is
always the same thread's, for order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.peers.child import HOST, ChildServer, find, listens, output
from benchmarks.peers.flight import ANSWER_S, STOP_LOOK_S, drained_in_turn, lots
from benchmarks.peers.peer import Message, Peer, Server
from benchmarks.processes import free_port
from benchmarks.schedule import paced

if TYPE_CHECKING:
    import redis

GROUP: Final = "readers"
CONSUMER: Final = "reader"
FIELD: Final = "body"

CALLERS: Final = 64
"""Threads that make single calls. More were no faster."""

STREAMS_A_READ: Final = 10
ENTRIES_A_STREAM: Final = 100
"""Of one XREADGROUP: a thousand entries, as many as a sender has on its way."""


@cache  # who sends has names, and makes none for each message
def stream(mailbox: int) -> str:
    """The key that holds a mailbox."""
    return f"mailbox:{mailbox}"


class RedisClient:
    """One connection for pipelines; single calls take one a thread."""

    def __init__(self, endpoint: str) -> None:
        import redis

        self._redis = redis.Redis.from_url(endpoint, socket_timeout=ANSWER_S, max_connections=CALLERS + 1)
        self._callers: ThreadPoolExecutor | None = None

    def prepare(self, mailboxes: int) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for mailbox in range(mailboxes):
                pipe.xgroup_create(stream(mailbox), GROUP, id="0", mkstream=True)
            for answer in pipe.execute(raise_on_error=False):
                if isinstance(answer, Exception) and "BUSYGROUP" not in str(answer):  # it is there already
                    raise answer

    def send(self, messages: Sequence[Message]) -> None:
        for lot in lots(messages):
            with self._redis.pipeline(transaction=False) as pipe:
                for mailbox, body in lot:
                    pipe.xadd(stream(mailbox), {FIELD: body})
                pipe.execute()

    def send_each(self, messages: Sequence[Message]) -> None:
        if self._callers is None:
            self._callers = ThreadPoolExecutor(CALLERS)
        parts = ([one for one in messages if one.mailbox % CALLERS == caller] for caller in range(CALLERS))
        for _ in self._callers.map(self._add_each, parts):
            pass  # whatever went wrong is raised here

    def _add_each(self, messages: Sequence[Message]) -> None:
        for mailbox, body in messages:
            self._redis.xadd(stream(mailbox), {FIELD: body})

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        """On a connection of its own, below the pipeline: that sends nothing before it is complete."""
        connection: Any = self._redis.connection_pool.get_connection()
        unanswered = 0
        try:
            for mailbox, body in paced(schedule):
                connection.send_command("XADD", stream(mailbox), "*", FIELD, body)
                unanswered += 1
                while unanswered and connection.can_read(0):
                    connection.read_response()
                    unanswered -= 1
            for _ in range(unanswered):
                connection.read_response()
        finally:
            self._redis.connection_pool.release(connection)

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        self.send([Message(mailbox, body) for mailbox in range(mailboxes)])

    def open_mailboxes(self, mailboxes: int) -> None:
        self._redis.ping()

    def drain(self, mailboxes: int, expected: int) -> int:
        """Each round trip acknowledges what the one before brought, and brings more."""
        return drained_in_turn(mailboxes, STREAMS_A_READ, expected, self._drain_streams)

    def _drain_streams(self, mailboxes: range) -> int:
        wanted: dict[Any, Any] = {stream(mailbox): ">" for mailbox in mailboxes}
        drained = 0
        entries: list[tuple[bytes, list[bytes]]] = []
        while True:
            with self._redis.pipeline(transaction=False) as pipe:
                _take_out(pipe, entries)
                pipe.xreadgroup(GROUP, CONSUMER, wanted, count=ENTRIES_A_STREAM)
                entries = _ids(pipe.execute()[-1])
            if not entries:
                return drained
            drained += sum(len(ids) for _, ids in entries)

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        self._redis.ping()
        ready()
        block_ms = int(STOP_LOOK_S * 1000)
        while not stop.is_set():
            found: Any = self._redis.xreadgroup(GROUP, CONSUMER, {stream(mailbox): ">"}, block=block_ms)
            for _, entries in found:
                for _, fields in entries:
                    got(fields[FIELD.encode()])
            with self._redis.pipeline(transaction=False) as pipe:
                _take_out(pipe, _ids(found))
                pipe.execute()

    def newest(self, mailbox: int, count: int) -> int:
        entries: Any = self._redis.xrevrange(stream(mailbox), count=count)
        return len(entries)

    def close(self) -> None:
        if self._callers is not None:
            self._callers.shutdown(cancel_futures=True)
        self._redis.close()


def _ids(answer: Any) -> list[tuple[bytes, list[bytes]]]:
    """Of what XREADGROUP brought, the streams that had anything, with the ids."""
    return [(key, [entry for entry, _ in entries]) for key, entries in answer if entries]


def _take_out(pipe: redis.client.Pipeline, entries: list[tuple[bytes, list[bytes]]]) -> None:
    """Acknowledge them, and remove them."""
    for key, ids in entries:
        pipe.xack(key, GROUP, *ids)
        pipe.xdel(key, *ids)


class Redis:
    """Redis with its log synced before every answer."""

    key = "redis"
    name = "Redis Streams"
    promise = "Written to the append-only file and synced before the answer (`appendfsync always`)."
    durable = True

    def missing(self) -> str | None:
        if find("redis-server") is None:
            return "no redis-server: apt-get install redis-server"
        if find_spec("redis") is None:
            return "no redis-py: pip install redis hiredis"
        return None

    def version(self) -> str:
        words = output(_server(), "--version").split()
        return f"{next(word[2:] for word in words if word.startswith('v='))}, redis-py {version('redis')}"

    def start(self, folder: Path) -> Server:
        server = ChildServer(folder)
        port = free_port()
        settings = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        server.run("redis", [_server(), "--bind", HOST, "--port", port, "--dir", server.data, *settings])
        server.wait_until(lambda: listens(port))
        server.endpoint = f"redis://{HOST}:{port}"
        return server

    def client(self, endpoint: str, number: int) -> RedisClient:
        return RedisClient(endpoint)


def _server() -> str:
    return find("redis-server") or "redis-server"


PEERS: Final[tuple[Peer, ...]] = (Redis(),)
