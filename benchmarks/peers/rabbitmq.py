"""RabbitMQ with publisher confirms, twice: durable classic queues, and quorum queues of one replica; a queue a mailbox.

*What its OK promises about the disk.* A persistent message to a durable queue is confirmed "after persisting the
message to disk", which the message store does in batches, an interval or an idle moment at a time; in a quorum queue,
after a majority of its replicas (here the only one) has it in its log, which is synced. Traced: of messages sent one at
a time, either syncs each before its confirm.
https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed, …/docs/quorum-queues

*Settings*: defaults, no plugins; an `epmd` of its own, which would otherwise stay behind and serve the whole machine.

*Client*: pika, asynchronous, its confirms taken as they come (aio-pika and aiormq, a task a message, did a quarter of
that). Its adapter for asyncio is as fast as SelectConnection, and has timers finer than a millisecond. `mandatory` is
set: what reaches no queue is confirmed as well. One message to all goes through a fanout exchange.

A queue can't be looked at. `newest` takes the oldest and gives them back, as the management tools' "get" does.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.child import HOST, ChildServer, find, listens
from benchmarks.peers.flight import ANSWER_S, NOTHING_S, STOP_LOOK_S, in_flight
from benchmarks.peers.peer import IN_FLIGHT, IN_FLIGHT_MANY, Message, Peer, Server
from benchmarks.processes import free_port
from benchmarks.schedule import paced_async, precise_loop

EVERYBODY: Final = "everybody"
"""The fanout exchange to which all mailboxes are bound."""

PREFETCH: Final = 100
"""Unacknowledged a queue: its documentation finds 100 to 300 best."""

ACK_EVERY: Final = 100
"""Of a drain: one acknowledgement for so many deliveries."""

TURN: Final = 50
"""Messages published between two turns of the event loop, so that the first go out while the next are made."""

DEBIAN: Final = "/usr/lib/rabbitmq/bin"
"""The scripts themselves: what Debian has on the PATH changes to a user of its own, who has its own folders."""


@cache  # who sends has names, and makes none for each message
def queue(mailbox: int) -> str:
    """The name of a mailbox's queue."""
    return f"mailbox.{mailbox}"


class NotConfirmed(Exception):
    """The server refused a message, returned it, or ended the channel."""


class Channel:
    """A channel in confirm mode, and what of it is unconfirmed."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._unconfirmed: dict[int, None] = {}  # delivery tags, ascending
        self._published = 0
        self._wake: asyncio.Future[None] | None = None
        self._failure: NotConfirmed | None = None
        channel.confirm_delivery(self._answered)
        channel.add_on_return_callback(lambda _, method, *__: self._fail(f"returned: {method.reply_text}"))
        channel.add_on_close_callback(lambda _, why: self._fail(f"channel closed: {why}"))

    def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> None:
        """Send one; its confirm comes later."""
        self.channel.basic_publish(exchange, key, body, properties, mandatory=True)
        self._published += 1
        self._unconfirmed[self._published] = None

    async def below(self, count: int) -> None:
        """Wait until fewer than so many are unconfirmed."""
        while len(self._unconfirmed) >= count and self._failure is None:
            self._wake = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(ANSWER_S):
                await self._wake
        if self._failure is not None:
            raise self._failure

    def _answered(self, frame: Any) -> None:
        answer = frame.method
        if answer.NAME != "Basic.Ack":
            self._fail("refused (nack)")
        if answer.multiple:
            for tag in [tag for tag in self._unconfirmed if tag <= answer.delivery_tag]:
                del self._unconfirmed[tag]
        else:
            self._unconfirmed.pop(answer.delivery_tag, None)
        self._go_on()

    def _fail(self, why: str) -> None:
        self._failure = self._failure or NotConfirmed(why)
        self._go_on()

    def _go_on(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class RabbitmqClient:
    """One connection; a channel to send on, others for as long as something is read."""

    def __init__(self, endpoint: str, kind: str, in_flight: int) -> None:
        import pika
        from pika.adapters.asyncio_connection import AsyncioConnection

        self._runner = asyncio.Runner(loop_factory=precise_loop)
        self._kind = kind
        self._in_flight = in_flight
        self._persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
        self._parameters = pika.URLParameters(endpoint)
        self._parameters.heartbeat = 0  # between two calls nobody is there to answer one
        self._connect_to: Any = AsyncioConnection
        self._connection: Any = None
        self._sender: Channel | None = None
        self._mailboxes = 0

    # --- sending

    def prepare(self, mailboxes: int) -> None:
        self._runner.run(self._prepare(mailboxes))

    async def _prepare(self, mailboxes: int) -> None:
        async with asyncio.timeout(2 * ANSWER_S):  # a thousand quorum queues are a thousand Raft groups
            await self._connect()
            channel = await self._channel()
            channel.exchange_declare(EVERYBODY, "fanout", durable=True)
            for name in map(queue, range(mailboxes)):
                channel.queue_declare(name, durable=True, arguments={"x-queue-type": self._kind})
                channel.queue_bind(name, EVERYBODY)
            await _done(lambda done: channel.basic_qos(callback=done))  # a channel's requests are served in order
            self._sender = Channel(channel)
        self._mailboxes = mailboxes

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._connection = self._connect_to(
            self._parameters,
            on_open_callback=lambda _: opened.set_result(None),
            on_open_error_callback=lambda _, why: opened.set_exception(ConnectionError(str(why))),
            custom_ioloop=loop,
        )
        await opened

    async def _channel(self) -> Any:
        return await _done(lambda done: self._connection.channel(on_open_callback=done))

    def send(self, messages: Sequence[Message]) -> None:
        self._runner.run(self._send(messages))

    send_each = send  # one call a message is what the protocol has

    async def _send(self, messages: Sequence[Message]) -> None:
        limit = in_flight(messages, self._in_flight)
        sender = self._sending
        for number, (mailbox, body) in enumerate(messages):
            await sender.below(limit)
            sender.publish("", queue(mailbox), body, self._persistent)
            if number % TURN == 0:
                await asyncio.sleep(0)
        await sender.below(1)

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        async def send() -> None:
            async for mailbox, body in paced_async(schedule):
                self._sending.publish("", queue(mailbox), body, self._persistent)
            await self._sending.below(1)

        self._runner.run(send())

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        assert mailboxes == self._mailboxes, "the exchange knows all mailboxes, not some"

        async def send() -> None:
            self._sending.publish(EVERYBODY, "", body, self._persistent)
            await self._sending.below(1)

        self._runner.run(send())

    @property
    def _sending(self) -> Channel:
        assert self._sender is not None, "prepare comes first"
        return self._sender

    # --- reading

    def open_mailboxes(self, mailboxes: int) -> None:
        """To consume is to be sent messages: that is timed."""

    def drain(self, mailboxes: int, expected: int) -> int:
        return self._runner.run(self._drain(mailboxes, expected))

    async def _drain(self, mailboxes: int, expected: int) -> int:
        channel = await self._channel()
        drained = 0
        came, all_here = asyncio.Event(), asyncio.Event()

        def take(_: Any, method: Any, __: Any, ___: bytes) -> None:
            nonlocal drained
            if drained == expected:
                return  # somebody else's: it goes back when the channel closes
            drained += 1
            if drained % ACK_EVERY == 0 or drained == expected:
                channel.basic_ack(method.delivery_tag, multiple=True)
            came.set()
            if drained == expected:
                all_here.set()

        channel.basic_qos(prefetch_count=PREFETCH)
        for mailbox in range(mailboxes):
            channel.basic_consume(queue(mailbox), take)
        while not all_here.is_set() and await _happens(came, NOTHING_S):
            came.clear()
            await _happens(all_here, NOTHING_S)
        if not all_here.is_set():
            channel.basic_ack(0, multiple=True)  # all that has come
        await self._close(channel)
        return drained

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        self._runner.run(self._follow(mailbox, got, ready, stop))

    async def _follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        channel = await self._channel()
        stopped = asyncio.Event()

        def take(_: Any, method: Any, __: Any, body: bytes) -> None:
            if stop.is_set():
                return  # it goes back when the channel closes
            got(body)
            channel.basic_ack(method.delivery_tag)
            if stop.is_set():
                stopped.set()

        channel.basic_qos(prefetch_count=IN_FLIGHT)
        await _done(lambda done: channel.basic_consume(queue(mailbox), take, callback=done))
        ready()
        while not stop.is_set():
            await _happens(stopped, STOP_LOOK_S)
        await self._close(channel)

    def newest(self, mailbox: int, count: int) -> int:
        return self._runner.run(self._oldest(mailbox, count))

    async def _oldest(self, mailbox: int, count: int) -> int:
        channel = await self._channel()
        declared = await _done(lambda done: channel.queue_declare(queue(mailbox), passive=True, callback=done))
        wanted = min(count, declared.method.message_count)
        found = 0
        all_here = asyncio.Event()

        def look(*_: Any) -> None:
            nonlocal found
            found += 1
            if found == wanted:
                all_here.set()

        if wanted:
            channel.basic_qos(prefetch_count=wanted)
            channel.basic_consume(queue(mailbox), look)
            await _happens(all_here, NOTHING_S)
        await self._close(channel)
        return found

    async def _close(self, channel: Any) -> None:
        """Its answer comes after all that was acknowledged before; what wasn't goes back to its queue."""
        closed = asyncio.Event()
        channel.add_on_close_callback(lambda *_: closed.set())
        channel.close()
        async with asyncio.timeout(ANSWER_S):
            await closed.wait()

    def close(self) -> None:
        async def close() -> None:
            closed = asyncio.Event()
            self._connection.add_on_close_callback(lambda *_: closed.set())
            self._connection.close()
            await _happens(closed, 1.0)

        if self._connection is not None and self._connection.is_open:
            self._runner.run(close())
        self._runner.close()


async def _done(begin: Callable[[Callable[[Any], None]], object]) -> Any:
    """What pika's callback is called with."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    begin(done.set_result)
    async with asyncio.timeout(ANSWER_S):
        return await done


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within so long."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


class Rabbitmq:
    """RabbitMQ with one kind of queue."""

    durable = True

    def __init__(self, key: str, name: str, promise: str, kind: str, in_flight: int) -> None:
        self.key = key
        self.name = name
        self.promise = promise
        self._kind = kind
        self._in_flight = in_flight

    def missing(self) -> str | None:
        if _program("rabbitmq-server") is None:
            return "no rabbitmq-server: apt-get install rabbitmq-server"
        if find_spec("pika") is None:
            return "no pika: pip install pika"
        return None

    def version(self) -> str:
        """The scripts lie in a folder that is named after it; `rabbitmqctl version` takes seconds."""
        place = str(Path(_program("rabbitmq-server") or "").resolve())
        found = re.search(r"rabbitmq_server-([\d.]+)", place)
        return f"{found[1] if found else '?'}, pika {version('pika')}"

    def start(self, folder: Path) -> Server:
        server = ChildServer(folder)
        epmd_port, port = free_port(), free_port()
        env = {"ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": HOST}
        server.run("epmd", [find("epmd") or "epmd", "-port", epmd_port, "-address", HOST], env=env)
        server.wait_until(lambda: listens(epmd_port))
        env |= _places(server) | {
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        server.run("rabbitmq", [_program("rabbitmq-server") or "rabbitmq-server"], env=env)
        server.wait_until(lambda: server.log_has("rabbitmq", "Server startup complete"))
        server.endpoint = f"amqp://guest:guest@{HOST}:{port}/%2F"
        return server

    def client(self, endpoint: str, number: int) -> RabbitmqClient:
        return RabbitmqClient(endpoint, self._kind, self._in_flight)


def _program(name: str) -> str | None:
    return find(name, DEBIAN)


def _places(server: ChildServer) -> dict[str, str]:
    """Everything that it reads or writes, in its folder."""
    folder = server.folder
    (folder / "plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").touch()
    places = {
        "HOME": folder,  # the cookie
        "RABBITMQ_CONF_ENV_FILE": folder / "none",
        "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
        "RABBITMQ_GENERATED_CONFIG_DIR": folder / "config",
        "RABBITMQ_LOG_BASE": folder,
        "RABBITMQ_LOGS": "-",  # stdout
        "RABBITMQ_MNESIA_BASE": server.data,
        "RABBITMQ_PID_FILE": folder / "pid",
    }
    return {name: str(place) for name, place in places.items()}


PEERS: Final[tuple[Peer, ...]] = (
    Rabbitmq(
        "rabbitmq-classic",
        "RabbitMQ durable queue",
        "Persisted to disk and synced, in batches, before the confirm (persistent messages, durable classic queues).",
        "classic",
        IN_FLIGHT,
    ),
    Rabbitmq(
        "rabbitmq-quorum",
        "RabbitMQ quorum queue",
        "In the log of a majority of replicas, here the only one, and synced before the confirm.",
        "quorum",
        IN_FLIGHT_MANY,
    ),
)
