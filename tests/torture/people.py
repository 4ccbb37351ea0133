"""The people of a torture run, each a process with a script that a SIGKILL does not end: started again, it reads its
journal and goes on where it was, with the same ids.

    python -m tests.torture.people PART.json

A *sender* uses `Client.send_many`, ids of its own, and gives whatever has no final answer again, before anything new. A
*follower* reads by `inbox(follow=True)` and acknowledges by seq, a *poller* by `fetch`, also by id. Both leave some
messages unread on purpose. A file `quiet` in the folder ends the sending, a file `drained` the reading, once all is
done.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from restante import Client, Message, Outgoing
from restante.wire.envelopes import Entry
from restante.wire.errors import CODES, ChatError, OutcomeUnknown, RefusedError, UnreachableError
from restante.wire.ids import uuid7
from tests.torture.journal import Acked, Asked, Began, Failed, Given, Got, Journal, Paged, Told, lines_of

NOBODY: Final = "nobody"
"""A name that no account has."""

LEFT_UNREAD_OF: Final = 100
"""One in so many messages is not acknowledged, ever."""

IDLE_S: Final = 3.0
"""A follower begins anew if nothing comes for so long: longer than most outages, which it has to get over itself."""


class Part(Struct, frozen=True, kw_only=True):
    """Who one is, and what one does."""

    role: str
    name: str
    account: str
    address: str
    token: bytes
    folder: str
    seed: int
    readers: list[str] = []
    timeout_s: float = 60.0

    @property
    def journal(self) -> Path:
        return Path(self.folder) / f"{self.name}.journal"

    def told(self, what: str) -> bool:
        """Whether the torturer has said `quiet`, or `drained`."""
        return (Path(self.folder) / what).exists()


def keeps(message_id: bytes) -> bool:
    """Whether a message is one of those that its readers leave unread."""
    return int.from_bytes(message_id[-4:], "big") % LEFT_UNREAD_OF == 0


def failure_of(error: ChatError) -> str:
    """A code, or the name of an exception to which no server gave an answer."""
    if isinstance(error, RefusedError):
        return error.refused_code
    if isinstance(error, UnreachableError):
        return UnreachableError.__name__
    return type(error).__name__


def is_final(failure: str) -> bool:
    """Whether giving the same message again makes no sense."""
    return failure in CODES and not CODES[failure].passes and failure not in ("internal", "no_session")


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)  # nothing is waited for: people are slow


# --- sending ------------------------------------------------------------------------------------------------


class Sent(Struct):
    """What a sender knows of its past."""

    count: int = 0
    open: dict[bytes, Given] = {}
    """Messages given and without a final answer, in their order."""
    lives: int = 0


def recall(path: Path) -> Sent:
    """A sender's past, from its journal."""
    past = Sent()
    for line in lines_of(path):
        if isinstance(line, Began):
            past.lives += 1
        elif isinstance(line, Given):
            past.count += line.id not in past.open
            past.open.setdefault(line.id, line)
        elif isinstance(line, Told) and not line.failure:
            past.open.pop(line.id, None)
    return past


class Sender:
    """Gives lots of messages to be sent, until it is told to be quiet and has its answers."""

    def __init__(self, part: Part, journal: Journal, past: Sent) -> None:
        self._part, self._journal, self._past = part, journal, past
        self._dice = Random(part.seed * 1_000 + past.lives)

    def run(self) -> None:
        with Client(self._part.address, token=self._part.token, timeout_s=self._part.timeout_s) as client:
            while self._past.open or not self._part.told("quiet"):
                self._send(client, list(self._past.open.values()) or self._new_lot())
                pause(self._dice.uniform(0.0, 0.5))

    def _new_lot(self) -> list[Given]:
        # A large one is several envelopes: only then is there an order to be lost between them.
        size = self._dice.randrange(300, 1_500) if self._dice.random() < 0.08 else self._dice.randrange(1, 60)
        return [self._message(self._past.count + n) for n in range(size)]

    def _message(self, n: int) -> Given:
        dice = self._dice
        to = dice.sample(self._part.readers, dice.randrange(1, len(self._part.readers) + 1))
        if dice.random() < 0.003:
            to.append(NOBODY)
        filler = "." * (8_000 if dice.random() < 0.01 else dice.randrange(40))
        return Given(id=uuid7(time.time_ns() // 1000, os.urandom(10)), to=to, body=f"{self._part.account} {n} {filler}")

    def _taken(self, lot: list[Given]) -> Iterator[Outgoing]:
        """Each message, entered in the journal when it is taken to be sent."""
        for given in lot:
            self._past.count += given.id not in self._past.open
            self._past.open.setdefault(given.id, given)
            self._journal.write(Given(id=given.id, to=given.to, body=given.body))
            yield Outgoing(given.to, given.body, id=given.id)

    def _send(self, client: Client, lot: list[Given]) -> None:
        for outcome in client.send_many(self._taken(lot)):
            if outcome.receipt is not None:
                receipt = outcome.receipt
                line = Told(
                    id=outcome.id, seq=receipt.seq, stored_at_us=receipt.stored_at_us, again=receipt.again
                )  # fmt: skip
            else:
                assert outcome.error is not None
                failure = failure_of(outcome.error)
                final = is_final(failure)
                line = Told(id=outcome.id, code=failure if final else "", failure="" if final else failure)
            self._journal.write(line)
            if not line.failure:
                del self._past.open[line.id]


# --- reading ------------------------------------------------------------------------------------------------


def entry_of(message: Message) -> Entry:
    """A message as the wire had it."""
    return Entry(
        seq=message.seq,
        id=message.id,
        sender=message.sender,
        to=message.to,
        size=len(message.body),
        stored_at_us=message.stored_at_us,
        content_type=message.content_type,
        sent_at_us=message.sent_at_us,
        reply_to=message.reply_to,
        state="read" if message.state == "read" else "delivered" if message.state == "delivered" else "stored",
    )


class Reader(ABC):
    """What followers and pollers have in common."""

    def __init__(self, part: Part, journal: Journal) -> None:
        self._part, self._journal = part, journal
        lives = sum(isinstance(line, Began) for line in lines_of(part.journal))
        self._dice = Random(part.seed * 1_000 + lives)
        self._acks = 0

    def run(self) -> None:
        """Read until all is read that is to be, and nothing more will come."""
        going_on = True
        with Client(self._part.address, token=self._part.token, timeout_s=self._part.timeout_s) as client:
            while going_on:
                drained = self._part.told("drained")
                try:
                    going_on = bool(self._read(client)) or not drained
                except (RefusedError, UnreachableError, OutcomeUnknown) as error:
                    self._journal.write(Failed(what="reading", failure=failure_of(error)))
                    going_on = True
                    pause(0.2)

    @abstractmethod
    def _read(self, client: Client) -> int:
        """Read for a while; how many messages there were that are to be acknowledged."""

    def _ack(self, client: Client, seqs: Iterable[int] = (), ids: Iterable[bytes] = ()) -> None:
        marks: list[int | bytes] = [*seqs, *ids]
        if marks:
            self._acks += 1
            self._journal.write(Asked(n=self._acks, seqs=list(seqs), ids=list(ids)))
            answer = client.ack(marks)
            assert not answer.unknown_seqs, f"what was read isn't there: {answer}"
            assert not answer.unknown_ids, f"what was read isn't there: {answer}"
            self._journal.write(Acked(n=self._acks))


class Follower(Reader):
    """Follows its inbox, and acknowledges by seq, a few at a time."""

    def _read(self, client: Client) -> int:
        self._journal.write(Began(following=True))
        idle_s = 0.5 if self._part.told("drained") else IDLE_S
        stop_at = self._dice.choice([100, 1_000, 10_000])
        found, pending = 0, list[int]()
        for count, message in enumerate(client.inbox(follow=True, wait_s=idle_s)):
            self._journal.write(Got(entry=entry_of(message), body=message.text))
            if not keeps(message.id):
                found += 1
                pending.append(message.seq)
            if len(pending) >= self._dice.randrange(1, 20):
                self._ack(client, pending)
                pending = []
            if count >= stop_at:
                break
        self._ack(client, pending)
        return found


class Poller(Reader):
    """Asks for page after page, and acknowledges by seq and by id."""

    def _read(self, client: Client) -> int:
        after, found, more, history = 0, 0, True, None
        for _ in range(self._dice.choice([5, 50, 200])):
            at, limit = time.monotonic(), self._dice.randrange(1, 80)
            page = client.fetch(after, limit=limit, history=history)
            self._journal.write(
                Paged(
                    at=at,
                    ended_at=time.monotonic(),
                    after=after,
                    limit=limit,
                    through=page.through,
                    more=page.more,
                    entries=[entry_of(message) for message in page.messages],
                    bodies=[message.text for message in page.messages],
                )
            )
            mine = [message for message in page.messages if not keeps(message.id)]
            by_id = self._dice.randrange(len(mine) + 1)
            self._ack(client, [each.seq for each in mine[by_id:]], [each.id for each in mine[:by_id]])
            found, after, more, history = found + len(mine), page.through, page.more, page.history
            if not more:
                if self._part.told("drained"):
                    break
                pause(self._dice.uniform(0.02, 0.4))
        return found + more


def play(part: Part) -> None:
    """Be somebody, until it is over."""
    if part.role == "sender":
        past = recall(part.journal)
        with Journal(part.journal) as journal:
            journal.write(Began())
            Sender(part, journal, past).run()
        return
    with Journal(part.journal) as journal:
        reader = Follower(part, journal) if part.role == "follower" else Poller(part, journal)
        journal.write(Began())
        reader.run()


if __name__ == "__main__":
    play(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Part))
