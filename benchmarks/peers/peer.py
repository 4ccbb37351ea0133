"""What a peer must be able to do to be measured beside Restante.

    PEERS ── start(folder) ─► Server     a real server on loopback, in the process of `benchmarks.bench`
      └───── client(endpoint, number) ─► Client     in a process of its own, `benchmarks.player`

A module of this package holds one or several peers: the tuple `PEERS`. Durability differs within one product, so each
setting that promises something else is a peer of its own: RabbitMQ durable and quorum, JetStream by default and with
`sync_interval: always`.

A *mailbox* is whatever holds one recipient's messages until they are acknowledged: a stream, a queue, a subject, a
persistent session's topic, rows. They are numbered from 0.

The rules that make the comparison worth something:

- The server is what its makers ship, started on 127.0.0.1 at a free port over an empty folder, with its defaults but
  for what its promise needs, and for limits that would stop the run.
- The client is the best maintained Python one, used the fast way its documentation advises: pipelined, with
  asynchronous confirms, batches where its protocol has them.
- Nothing counts as sent before the server has said that it has it, and nothing as drained before its acknowledgement
  has been sent, and answered where the protocol answers.
- Whatever goes wrong is raised: a figure over lost messages is none.

Modules must import without their client library: import it in `client`, and say in `missing` that it isn't there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

IN_FLIGHT: Final = 1_000
IN_FLIGHT_MANY: Final = 8_192
"""Messages that a sender may have unacknowledged: each peer the one with which it was faster. Some queue or throttle
beyond the smaller, some gather larger batches by it.
"""

MAILBOXES: Final = 1_000
"""Among which messages are spread, one after the other."""

START_S: Final = 60.0
"""A server that isn't ready by then is reported, and skipped. RabbitMQ takes ten seconds when the machine is busy."""

STOP_S: Final = 20.0
"""Then it is killed: its folder goes anyway."""


class Message(NamedTuple):
    """One message to one mailbox."""

    mailbox: int
    body: bytes


class NotOffered(Exception):
    """The peer has no such thing, and the text says what it lacks. The table shows a dash."""


class Server(Protocol):
    """A running server."""

    @property
    def endpoint(self) -> str:
        """All that a client in another process needs to know, as text: for most an URL, JSON where it is more."""

    def pids(self) -> dict[str, int]:
        """Process ids by name, as they are now ("broker", "postgres: backend 2"): for CPU time and memory.

        One that comes later, with a connection, may be in a later answer only.
        """

    def data_bytes(self) -> int:
        """What the messages take on disk, logs included (`benchmarks.processes.folder_bytes` adds up a folder)."""

    def stop(self) -> None:
        """End it and all its processes, within about STOP_S. It is called once, whatever went wrong before."""


class Client(Protocol):
    """A client, or what bundles several connections of one. Used from one thread, but for `stop` of `follow`.

    What a method does not say about time, it bounds itself: none may wait for ever (a minute without an answer is
    an error), for the sake of the next peer's turn.
    """

    def prepare(self, mailboxes: int) -> None:
        """Connect, and make the mailboxes 0 to `mailboxes - 1` where they aren't there yet. Not timed.

        Every client calls it first, several at a time, also on a server that has them.
        """

    def send(self, messages: Sequence[Message]) -> None:
        """Send them, pipelined, with at most IN_FLIGHT or IN_FLIGHT_MANY unacknowledged; return when all are answered.

        Lists come in one call, so a client may batch as its library does. Raises if one isn't acknowledged. Each
        mailbox keeps the order.
        """

    def send_each(self, messages: Sequence[Message]) -> None:
        """The same for a caller who has one message at a time: a call of the library's public function for each.

        As many calls may be on their way. No batching here: only what the library does by itself.
        """

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        """Send each at its time (`time.monotonic()`, seconds, ascending), whatever has become of those before.

        An open loop: answers are taken meanwhile, and one that is late is sent at once, not left out. Returns when all
        are acknowledged. `benchmarks.schedule` waits for each time (`paced`, `paced_async`). There is no
        limit to what is on its way.
        """

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        """Have one body in each of the mailboxes 0 to `mailboxes - 1`; return when the server has said so.

        By what the product has for it (several recipients, an exchange, a shared topic), else one message each,
        pipelined.
        """

    def open_mailboxes(self, mailboxes: int) -> None:
        """Connect and subscribe whatever `drain` needs that may be done before it is timed."""

    def drain(self, mailboxes: int, expected: int) -> int:
        """Take `expected` messages out of the mailboxes 0 to `mailboxes - 1`, acknowledge each, and give their number.

        Returns when the last acknowledgement is through. Fewer than expected, and none for ten seconds, is the end too.
        """

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        """Subscribe to one mailbox, call `ready` when that stands, then `got` with each body as soon as it is there.

        What has come is acknowledged, after `got`. Ends within a second of `stop` being set, which happens in `got`
        or in another thread. One that comes in a few milliseconds must not have waited for a poll's interval: block
        in the library's own wait.
        """

    def newest(self, mailbox: int, count: int) -> int:
        """Look at the newest `count` messages of a mailbox, bodies included, and leave them; give their number.

        Where only the oldest can be looked at, those. Raises NotOffered where nothing can be, without taking it.
        """

    def close(self) -> None:
        """Disconnect, at once; what was acknowledged stays. Called once, also after an error."""


class Peer(Protocol):
    """What can be started and spoken to: a product, in one setting."""

    @property
    def key(self) -> str:
        """Its short name, for the command line, files and colours. Its module's, or begins with it and a dash:
        "rabbitmq-quorum".
        """

    @property
    def name(self) -> str:
        """Its name in tables: "RabbitMQ, quorum queue"."""

    @property
    def promise(self) -> str:
        """What its OK says about the disk, in one sentence, from its documentation."""

    @property
    def durable(self) -> bool:
        """Whether that OK comes after a sync to disk, so that it survives a power cut."""

    def missing(self) -> str | None:
        """Why it can't run here, and how it could: "no redis-server: apt-get install redis-server". None if it can."""

    def version(self) -> str:
        """Of server and client library: "7.0.15, redis-py 7.1.0"."""

    def start(self, folder: Path) -> Server:
        """Start a server with its data in this empty folder, and return when it takes clients.

        Raises with the end of its log if it doesn't in START_S; then nothing is left running.
        """

    def client(self, endpoint: str, number: int) -> Client:
        """A client that connects in `prepare`. `number` tells apart those that run at one time (a client id)."""
