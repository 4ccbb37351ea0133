"""What users do in a simulated world, and what of it they know after their process was killed.

Every user registers, logs in, sends its outbox in batches and singly, and reads, now page by page, now by subscription,
acknowledging some of it. What failed is sent again by hand with the same id; a batch that was cut off is run again from
its beginning.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator

from msgspec import Struct, field

from restante.wire import envelopes
from tests.simulation.client import ClientProcess, Outcome, Program, Wait, code_of, ended
from tests.simulation.history import Mailbox, Sending

GHOST = "ghost"
"""A name that nobody ever registers."""

PASSWORD = "correct horse"


class Habits(Struct, frozen=True):
    """How one user goes about it."""

    batches: int
    batch_max: int
    """Messages of the largest batch."""
    pause_s: float
    """Between two batches, on average."""
    timeout_s: float
    """Of a send; inf for a patient user."""
    joining_s: float
    """Of registering and logging in."""
    pipelined: bool
    """Whether the next batch is given before the last is answered."""
    read_s: float
    """Between two looks at the mailbox."""
    page: int
    """Messages of a page."""
    follows: bool
    """Whether it subscribes, or looks from time to time."""
    window: int
    """Messages of credit."""
    window_bytes: int
    filters: bool
    """Whether it reads one sender's messages only."""
    acks: float
    """The share of messages that it acknowledges."""


def draw_habits(dice: random.Random) -> Habits:
    """Somebody's habits."""
    return Habits(
        batches=dice.randint(2, 14),
        batch_max=dice.choice([1, 3, 12]),
        pause_s=dice.choice([0.0, 0.05, 0.2, 1.0]),
        timeout_s=dice.choice([math.inf, math.inf, 60.0, 4.0]),
        joining_s=dice.choice([60.0, 60.0, 3.0]),
        pipelined=dice.random() < 0.5,
        read_s=dice.choice([0.1, 1.0, 4.0]),
        page=dice.choice([1, 2, 5, 100]),
        follows=dice.random() < 0.6,
        window=dice.choice([1, 2, 7, 1000]),
        window_bytes=dice.choice([1, 60, 1 << 20]),
        filters=dice.random() < 0.2,
        acks=dice.choice([0.0, 0.5, 1.0]),
    )


class User(Struct):
    """A person: what survives every crash of the process they use."""

    name: str
    others: list[str]
    habits: Habits
    dice: random.Random
    outbox: list[list[Sending]] = field(default_factory=list)
    sent: int = 0
    """Batches of the outbox that are done with."""
    registered: bool = False
    logged_in: bool = False
    ops: tuple[bytes, bytes] = (b"", b"")
    """The operation ids of registering and logging in."""


def meet(names: list[str], dice: random.Random) -> list[User]:
    """Users, and what they have to say to each other."""
    users = []
    for name in names:
        others = [other for other in names if other != name]
        user = User(name, others, draw_habits(dice), dice, ops=(dice.randbytes(16), dice.randbytes(16)))
        user.outbox = [_batch(user, at) for at in range(user.habits.batches)]
        users.append(user)
    return users


def _batch(user: User, at: int) -> list[Sending]:
    size = user.dice.randint(1, user.habits.batch_max)
    return [_message(user, f"{user.name}'s {at + 1}.{n + 1}") for n in range(size)]


def _message(user: User, text: str) -> Sending:
    """Most go to one other; some to several, to oneself, or to nobody at all."""
    dice = user.dice
    chance = dice.random()
    to = [dice.choice(user.others)]
    if chance < 0.1:
        to = [*user.others, user.name]
    elif chance < 0.14:
        to = [GHOST]
    elif chance < 0.18:
        to.append(GHOST)
    content = f"{text} to {','.join(to)}".encode()
    return Sending(0, 0.0, user.name, 0, dice.randbytes(16), tuple(to), content, None)


def again(sending: Sending) -> Sending:
    """The same message, to be given once more."""
    return Sending(0, 0.0, sending.sender, 0, sending.id, sending.to, sending.content, sending.reply_to)


# --- programs ---------------------------------------------------------------------------------------------


def programs(user: User, users: list[User], client: ClientProcess) -> list[Program]:
    """What a user runs at every start of their process."""
    return [_live(user, users, client)]


def _live(user: User, users: list[User], client: ClientProcess) -> Program:
    """Have an account, then send and read side by side."""
    yield from _join(user, client)
    while not all(other.registered for other in users):
        yield 0.2
    client.begin(_send(user, client))
    client.begin(_follow(user, users, client) if user.habits.follows else _browse(user, users, client))


def _join(user: User, client: ClientProcess) -> Program:
    timeout_s = user.habits.joining_s
    while not user.registered:
        register = envelopes.Register(id=1, op=user.ops[0], name=user.name, password=PASSWORD)
        outcome = client.request(register, timeout_s)
        yield ended([outcome])
        user.registered = isinstance(outcome.answer, envelopes.Registered)
        _only_passing(outcome)
        yield 0.1
    while not user.logged_in:
        login = envelopes.Login(id=1, op=user.ops[1], name=user.name, password=PASSWORD)
        outcome = client.request(login, timeout_s)
        yield ended([outcome])
        user.logged_in = isinstance(outcome.answer, envelopes.LoggedIn)
        _only_passing(outcome)
        yield 0.1


def _only_passing(outcome: Outcome) -> None:
    """Nothing that a user did was wrong: what is refused for good is a fault of the server's."""
    if outcome.error is not None:
        code = code_of(outcome.error)
        allowed = ("unavailable", "busy", "rate_limited", "OutcomeUnknown", "UnreachableError")
        if code not in allowed:
            outcome.call.failure = f"unexpected: {code}"


def _send(user: User, client: ClientProcess) -> Program:
    """Work off the outbox, from the first batch that isn't done with."""
    if not user.habits.pipelined:
        while user.sent < len(user.outbox):
            yield from _until_settled(user, client, user.outbox[user.sent])
            user.sent += 1
            yield user.dice.expovariate(1.0) * user.habits.pause_s
        return
    first = user.sent
    outcomes = []
    for batch in user.outbox[first:]:
        outcomes.append(client.send([again(each) for each in batch], user.habits.timeout_s))
        yield user.dice.expovariate(1.0) * user.habits.pause_s
    for batch_outcomes in outcomes:
        yield ended(batch_outcomes)
        yield from _repeat_failed(user, client, batch_outcomes)
        user.sent += 1


def _until_settled(user: User, client: ClientProcess, batch: list[Sending]) -> Program:
    outcomes = client.send([again(each) for each in batch], user.habits.timeout_s)
    yield ended(outcomes)
    yield from _repeat_failed(user, client, outcomes)


def _repeat_failed(user: User, client: ClientProcess, outcomes: list[Outcome]) -> Program:
    """By hand: send again, with the same ids, what has no answer."""
    while True:
        failed = [outcome.sending for outcome in outcomes if outcome.error is not None and outcome.sending]
        if not failed:
            return
        yield user.dice.uniform(0.0, 2.0)
        outcomes = client.send([again(each) for each in failed], user.habits.timeout_s)
        yield ended(outcomes)


def _browse(user: User, users: list[User], client: ClientProcess) -> Program:
    """Look through what is unread, page by page, and acknowledge some."""
    habits = user.habits
    while True:
        last = _everybody_is_done(users)
        after, more = 0, True
        while more:
            sender = user.others[0] if habits.filters else ""
            query = envelopes.Fetch(id=1, after=after, limit=habits.page, sender=sender)
            reading = yield from client.fetch(query, 60.0)
            if reading is None:
                break
            after, more = reading.through, reading.more
            chosen = [entry for entry in reading.entries if user.dice.random() < habits.acks]
            yield from _acknowledge(user, client, chosen)
        if last:
            return
        yield user.dice.expovariate(1.0) * habits.read_s


def _follow(user: User, users: list[User], client: ClientProcess) -> Program:
    """Subscribe, take message by message, acknowledge some; from time to time begin anew."""
    habits = user.habits
    while not _everybody_is_done(users):
        sender = user.others[0] if habits.filters else ""
        feed = client.follow(0, sender, habits.window, habits.window_bytes)
        turns = user.dice.randint(5, 60)
        while turns and feed.ended is None and not _everybody_is_done(users):
            turns -= 1
            yield user.dice.expovariate(1.0) * min(habits.read_s, 0.5)
            taken = [client.take(feed)[0] for _ in range(min(len(feed.waiting), user.dice.randint(1, 4)))]
            yield from _acknowledge(user, client, [e for e in taken if user.dice.random() < habits.acks])
        client.unfollow(feed)


def _acknowledge(user: User, client: ClientProcess, entries: list[envelopes.Entry]) -> Program:
    if not entries:
        return
    if user.dice.random() < 0.2:
        yield from client.ack([], [entry.id for entry in entries], 30.0)
    else:
        yield from client.ack([entry.seq for entry in entries], [], 30.0)


def _everybody_is_done(users: list[User]) -> bool:
    return all(user.sent == len(user.outbox) for user in users)


# --- the end ----------------------------------------------------------------------------------------------


def audit(user: User, mailbox: Mailbox, page: int, client: ClientProcess) -> Program:
    """Read the whole mailbox of a user, who had no part in it: log in anew, all of it, then what is unread."""
    login = client.request(envelopes.Login(id=1, op=user.dice.randbytes(16), name=user.name, password=PASSWORD))
    yield ended([login])
    for entries, contents in (yield from _all_pages(client, page, unread=False)):
        mailbox.entries += entries
        mailbox.contents += contents
    for entries, _ in (yield from _all_pages(client, page, unread=True)):
        mailbox.unread += [entry.seq for entry in entries]


def _all_pages(
    client: ClientProcess, page: int, *, unread: bool
) -> Generator[Wait, None, list[tuple[list[envelopes.Entry], list[bytes]]]]:
    pages: list[tuple[list[envelopes.Entry], list[bytes]]] = []
    after, more = 0, True
    while more:
        reading = yield from client.fetch(envelopes.Fetch(id=1, after=after, limit=page, unread=unread, peek=True))
        assert reading is not None, "nothing fails once the faults are over"
        pages.append((reading.entries, reading.contents))
        after, more = reading.through, reading.more
    return pages
