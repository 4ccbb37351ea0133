"""What a message costs the Python client, in CPU: a real session, driver and codec above a link that is no socket.

    python -m benchmarks.client_alone [--messages 100000] [send_many submit asyncio inbox]

Every answer is there as soon as it is waited for, so that nothing but the client is measured, and CPU time rather than
the clock's: it is steady enough to compare two trees in turn on a machine that does other things. Included are what
stands for the broker (packing the answer: 0.02 µs a message sent, 0.3 a message read) and the user's own loop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from restante import AsyncClient, Client, Outgoing, driver
from restante.events import Lost, Received
from restante.wire import codec, envelopes
from restante.wire.address import Address
from restante.wire.envelopes import Credit, Entry, Request, ToClient

ADDRESS: Final = "chat://127.0.0.1:5570/" + "A" * 43
BODY: Final = b"x" * 256
MAILBOXES: Final = 1_000
TASKS: Final = 1_000
NOW_US: Final = 1_764_000_000_000_000


class NoSocket:
    """A link to a broker that has read, stored and answered a request when it is waited for, or at the next look."""

    mail = 0
    """Messages in the mailbox."""
    waits = True
    """Whether `sent` comes only when it is waited for, as from a broker that is slower than the client."""

    def __init__(self, address: Address, closing: Callable[[], None] | None = None, **_: object) -> None:
        self.descriptors: tuple[int, ...] = ()
        self._connection = 0
        self._stored = 0
        self._late: deque[list[bytes]] = deque()
        self._there: deque[list[bytes]] = deque()

    def open(self, connection: int) -> Lost | None:
        self._connection = connection
        return None

    def send(self, header: Request | Credit, body: bytes) -> Lost | None:
        codec.client_frames(header, body)
        late = self.waits and isinstance(header, envelopes.Send)
        (self._late if late else self._there).append(self._answer(header))
        return None

    def drain(self) -> list[Received | Lost]:
        found: list[Received | Lost] = []
        while self._there:
            header, body = codec.from_broker.read(self._there.popleft())
            found.append(Received(self._connection, header, body))
        return found

    @property
    def stirred(self) -> bool:
        return bool(self._there)

    def wait(self, timeout_s: float | None) -> None:
        if self._late:
            self._there.append(self._late.popleft())

    def close(self) -> None:
        pass

    def end(self) -> None:
        pass

    def _answer(self, header: Request | Credit) -> list[bytes]:
        answer: ToClient
        if isinstance(header, envelopes.Send):
            first, self._stored = self._stored, self._stored + len(header.ids)
            seqs = list(range(first + 1, self._stored + 1))
            answer = envelopes.Sent(id=header.id, seqs=seqs, stored_at_us=NOW_US)
        elif isinstance(header, envelopes.Fetch):
            return self._page(header)
        elif isinstance(header, envelopes.Hello):
            answer = envelopes.Welcome(id=header.id, version=1, server="none", heartbeat_ms=30_000)
        elif isinstance(header, envelopes.Ack):
            answer = envelopes.Acked(id=header.id, changed=len(header.seqs))
        else:
            assert isinstance(header, envelopes.Resume), "nothing else is asked here"
            answer = envelopes.LoggedIn(id=header.id, account=1, name="a", expires_at_us=1)
        return codec.client_frames(answer)

    def _page(self, fetch: envelopes.Fetch) -> list[bytes]:
        through = min(self.mail, fetch.after + fetch.limit)
        entries = [
            Entry(seq=seq, id=b"i" * 16, sender="a", to=["b"], size=len(BODY), stored_at_us=NOW_US, sent_at_us=NOW_US)
            for seq in range(fetch.after + 1, through + 1)
        ]
        more = through < self.mail
        page = envelopes.Page(id=fetch.id, history=b"h" * 16, through=through, more=more, messages=entries)
        return codec.client_frames(page, BODY * len(entries))


def send_many(messages: list[Outgoing]) -> None:
    """One caller, one call."""
    with Client(ADDRESS, token=bytes(32)) as client:
        assert all(outcome.receipt is not None for outcome in client.send_many(messages))


def submit(messages: list[Outgoing]) -> None:
    """One caller, a call each, receipts at the end."""
    with Client(ADDRESS, token=bytes(32)) as client:
        for message in messages:
            client.submit(message.to, message.body)


def asyncio_send(messages: list[Outgoing]) -> None:
    """A thousand tasks, each awaiting every send."""
    NoSocket.waits = False

    async def task(client: AsyncClient, mine: list[Outgoing]) -> None:
        for message in mine:
            await client.send(message.to, message.body)

    async def main() -> None:
        async with AsyncClient(ADDRESS, token=bytes(32)) as client:
            await asyncio.gather(*(task(client, messages[n::TASKS]) for n in range(TASKS)))

    asyncio.run(main())


def inbox(messages: list[Outgoing]) -> None:
    """A mailbox of as many read, and acknowledged by five hundred."""
    NoSocket.mail = len(messages)
    lot = []
    with Client(ADDRESS, token=bytes(32)) as client:
        for message in client.inbox():
            lot.append(message)
            if len(lot) == 500:
                client.ack(lot)
                lot.clear()


KINDS: Final = {"send_many": send_many, "submit": submit, "asyncio": asyncio_send, "inbox": inbox}


def main() -> None:
    """Measure what the command line names, each once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all, if none is named")
    arguments = parser.parse_args()
    for kind in set(arguments.kinds) - set(KINDS):
        parser.error(f"there is no {kind}")
    vars(driver)["Link"] = NoSocket
    messages = [Outgoing(f"user{n % MAILBOXES}", BODY) for n in range(arguments.messages)]
    gc.collect()
    gc.freeze()  # what is to be sent was the user's before
    for kind in arguments.kinds or KINDS:
        begin_s = time.process_time()
        KINDS[kind](messages)
        print(f"{kind:10} {(time.process_time() - begin_s) / len(messages) * 1e6:6.2f} µs a message")


if __name__ == "__main__":
    main()
