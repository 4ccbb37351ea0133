"""What people do in a simulated world, and what of it they know after their process was killed.

Every person registers; every device logs in, sends its outbox in batches and singly, reads, now page by page, now by
subscription, acknowledging some of it, and does its chores (`chores`). What failed is sent again by hand with the same
id, sometimes from another device; a batch that was cut off is run again from its beginning. Who loses his token logs
in again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator

from msgspec import Struct, field

from restante.wire import envelopes
from tests.simulation.client import ClientProcess, Outcome, Program, Wait, code_of, ended
from tests.simulation.history import Mailbox, Sending, Span
from tests.simulation.people import Device, Habits, Letter, Person

PASSWORD = "correct horse"

PASSING = frozenset({"unavailable", "busy", "rate_limited", "too_many_requests", "OutcomeUnknown", "UnreachableError"})
"""How a call may fail that was in order: nobody did anything wrong, and it may be repeated."""

OUSTED = frozenset({"bad_token", "session_ended", "not_logged_in", "NotLoggedIn", "already_logged_in"})
"""How a call fails whose session lost its account."""

AGAIN_S = 3.0
"""Before something is tried again that was refused for good."""


class User(Struct):
    """A person: what survives every crash of the processes they use."""

    plan: Person
    dice: random.Random
    op: bytes
    """The operation id of registering."""
    registered: bool = False
    passwords: list[str] = field(default_factory=lambda: [PASSWORD])
    """What the password may be, the most likely first."""

    @property
    def name(self) -> str:
        """The account's."""
        return self.plan.name


class Seat(Struct):
    """A person at one of their devices: what survives the crashes of its process."""

    user: User
    device: Device
    dice: random.Random
    client: ClientProcess = None  # type: ignore[assignment]  # it is made with the seat in hand
    sent: int = 0
    """Batches of the outbox that are done with."""
    refused: list[Sending] = field(default_factory=list)
    """What to give again by hand, though it was refused for good."""
    chores: int = 0
    """Chores that are done."""
    op: bytes = b""
    """The operation id of the login under way."""
    logins: int = 0
    entering: bool = False
    """Some program of the present life is logging in."""

    @property
    def habits(self) -> Habits:
        """The device's."""
        return self.device.habits

    @property
    def done(self) -> bool:
        """Whether all is sent that was to be, and done."""
        return self.sent == len(self.device.outbox) and not self.refused and self.chores == len(self.device.chores)


class Crowd:
    """Everybody, and who is to be waited for."""

    def __init__(self, people: list[Person], dice: random.Random) -> None:
        self.users = [User(person, dice, dice.randbytes(16)) for person in people]
        self.seats = [
            Seat(user, device, random.Random(dice.random())) for user in self.users for device in user.plan.devices
        ]
        self.names = {user.name for user in self.users}

    @property
    def gathered(self) -> bool:
        """Whether all are there who are there from the beginning."""
        return all(user.registered or user.plan.joins_at for user in self.users)

    @property
    def done(self) -> bool:
        """Whether nobody will send anything any more."""
        return all(seat.done for seat in self.seats)

    def others(self, seat: Seat) -> list[Seat]:
        """The person's other devices."""
        return [other for other in self.seats if other.user is seat.user and other is not seat]

    def someone_else(self, seat: Seat) -> str:
        """Somebody whose messages one might look for."""
        return next((user.name for user in self.users if user is not seat.user), seat.user.name)


def sending(seat: Seat, letter: Letter) -> Sending:
    """A letter, to be given to be sent."""
    return Sending(0, 0.0, seat.user.name, 0, letter.id, tuple(letter.to), letter.text.encode(), None)


def again(given: Sending) -> Sending:
    """The same message, to be given once more."""
    return Sending(0, 0.0, given.sender, 0, given.id, given.to, given.content, given.reply_to)


def explain(outcome: Outcome, allowed: frozenset[str]) -> str:
    """How a call failed, "" if it didn't. Whatever nobody did anything to deserve is a fault of the server's."""
    if outcome.error is None:
        return ""
    code = code_of(outcome.error)
    if code not in allowed:
        outcome.call.failure = f"unexpected: {code}"
    return code


# --- having an account ------------------------------------------------------------------------------------


def join(seat: Seat, crowd: Crowd) -> Program:
    """Have an account, and be logged in."""
    user, client = seat.user, seat.client
    if client.world.now < user.plan.joins_at:
        yield user.plan.joins_at - client.world.now
    while not user.registered and seat.device is user.plan.devices[0]:
        joining = client.history.joinings.setdefault(user.name, Span(client.world.now))
        register = envelopes.Register(id=1, op=user.op, name=user.name, password=PASSWORD)
        outcome = client.request(register, seat.habits.joining_s)
        yield ended([outcome])
        if isinstance(outcome.answer, envelopes.Registered):
            user.registered = True
            joining.ended_at = min(joining.ended_at, client.world.now)
        explain(outcome, PASSING)
        yield 0.1
    while not user.registered:
        yield 0.2
    yield from enter(seat)
    while not crowd.gathered:
        yield 0.2


def enter(seat: Seat) -> Program:
    """Be logged in: at once if one is; else one program logs in, and the others wait."""
    client = seat.client
    while client.session.token is None:
        if seat.entering:
            yield 0.1
            continue
        seat.entering = True
        yield from _log_in(seat)
        seat.entering = False


def _log_in(seat: Seat) -> Program:
    """With the first of the passwords that is right, in so many rounds that one must have been."""
    client, user = seat.client, seat.user
    wrong = 0
    while client.session.token is None:
        if not seat.op:
            seat.op, seat.logins = seat.dice.randbytes(16), seat.logins + 1
        candidates = user.passwords
        password = candidates[wrong % len(candidates)]
        login = envelopes.Login(
            id=1, op=seat.op, name=user.name, password=password, device=f"{client.name}#{seat.logins}"
        )
        outcome = client.request(login, seat.habits.joining_s)
        yield ended([outcome])
        doubtful = len(candidates) > 1 or candidates != user.passwords
        failure = explain(outcome, PASSING | OUSTED | {"wrong_credentials"})
        if failure == "wrong_credentials":
            wrong += 1
            if wrong > 2 * len(candidates) and not doubtful:
                outcome.call.failure = f"unexpected: the password of {user.name} is wrong"
                return
        if failure in ("", "wrong_credentials", "bad_token"):
            seat.op = b""
        yield 0.1


# --- sending ----------------------------------------------------------------------------------------------


def send(seat: Seat, crowd: Crowd) -> Program:
    """Work off the outbox, from the first batch that isn't done with."""
    outbox = seat.device.outbox
    if not seat.habits.pipelined:
        while seat.sent < len(outbox):
            outcomes = yield from _give(seat, [sending(seat, letter) for letter in outbox[seat.sent]])
            yield ended(outcomes)
            yield from _settle(seat, crowd, outcomes)
            seat.sent += 1
            yield seat.dice.expovariate(1.0) * seat.habits.pause_s
    else:
        yield from _send_all(seat, crowd)
    while seat.refused:
        yield AGAIN_S
        outcomes = yield from _give(seat, [again(given) for given in seat.refused])
        yield ended(outcomes)
        yield from _settle(seat, crowd, outcomes, insist=False)
        seat.refused = []


def _send_all(seat: Seat, crowd: Crowd) -> Program:
    """Without waiting for answers."""
    batches = []
    for batch in seat.device.outbox[seat.sent :]:
        batches.append((yield from _give(seat, [sending(seat, letter) for letter in batch])))
        yield seat.dice.expovariate(1.0) * seat.habits.pause_s
    for outcomes in batches:
        yield ended(outcomes)
        yield from _settle(seat, crowd, outcomes)
        seat.sent += 1


def _give(seat: Seat, messages: list[Sending]) -> Generator[Wait, None, list[Outcome]]:
    yield from enter(seat)
    return seat.client.send(messages, seat.habits.timeout_s or math.inf)


def _settle(seat: Seat, crowd: Crowd, outcomes: list[Outcome], *, insist: bool = True) -> Program:
    """By hand: send again, with the same ids, what has no answer; and note what to insist on."""
    while True:
        if insist and seat.habits.insists:
            seat.refused += [
                outcome.sending for outcome in outcomes if outcome.sending and _worth_a_try(outcome, crowd)
            ]
        failed = [again(outcome.sending) for outcome in outcomes if outcome.sending and not outcome.result]
        if not failed:
            return
        yield seat.dice.uniform(0.0, 2.0)
        there = _elsewhere(seat, crowd)
        if there is None:
            outcomes = yield from _give(seat, failed)
            yield ended(outcomes)
        else:
            life, outcomes = there.life, there.send(failed, seat.habits.timeout_s or math.inf)
            while there.life == life and there.up and not all(outcome.done for outcome in outcomes):
                yield 0.1


def _elsewhere(seat: Seat, crowd: Crowd) -> ClientProcess | None:
    """Another device of the same person that is logged in, if they would go to it."""
    clients = [other.client for other in crowd.others(seat) if other.client.up and other.client.session.token]
    return seat.dice.choice(clients) if clients and seat.habits.elsewhere else None


def _worth_a_try(outcome: Outcome, crowd: Crowd) -> bool:
    """Whether it was refused, and may be taken another time: the recipient may come, the mailbox may be read."""
    code = outcome.result.code if outcome.result else ""
    to = outcome.sending.to if outcome.sending else ()
    return code == "mailbox_full" or (code == "unknown_recipient" and crowd.names.issuperset(to))


# --- reading ----------------------------------------------------------------------------------------------


def browse(seat: Seat, crowd: Crowd) -> Program:
    """Look through the mailbox, page by page, and acknowledge some."""
    habits, client = seat.habits, seat.client
    while True:
        last = crowd.done
        after, more = 0, True
        while more:
            yield from enter(seat)
            sender = crowd.someone_else(seat) if habits.filters else ""
            query = envelopes.Fetch(id=1, after=after, limit=habits.page, sender=sender, unread=not habits.all_mail)
            reading = yield from client.fetch(query, 60.0)
            if reading is None:
                break
            after, more = reading.through, reading.more
            chosen = [entry for entry in reading.entries if seat.dice.random() < habits.acks]
            yield from acknowledge(seat, chosen)
        if last:
            return
        yield seat.dice.expovariate(1.0) * habits.read_s


def follow(seat: Seat, crowd: Crowd) -> Program:
    """Subscribe, take message by message, acknowledge some; from time to time begin anew."""
    habits, client = seat.habits, seat.client
    while not crowd.done:
        yield from enter(seat)
        sender = crowd.someone_else(seat) if habits.filters else ""
        feed = client.follow(0, sender, habits.window, habits.window_bytes)
        idle = [client.follow(0, "", 1, 1) for _ in range(habits.feeds - 1)]
        turns = seat.dice.randint(5, 60)
        while turns and feed.ended is None and not crowd.done:
            turns -= 1
            yield seat.dice.expovariate(1.0) * min(habits.read_s, 0.5)
            taken = [client.take(feed)[0] for _ in range(min(len(feed.waiting), seat.dice.randint(1, 4)))]
            yield from acknowledge(seat, [e for e in taken if seat.dice.random() < habits.acks])
        for one in (feed, *idle):
            client.unfollow(one)


def acknowledge(seat: Seat, entries: list[envelopes.Entry]) -> Program:
    """Say that they were read: by place, or by id."""
    if not entries:
        return
    if seat.dice.random() < 0.2:
        yield from seat.client.ack([], [entry.id for entry in entries], 30.0)
    else:
        yield from seat.client.ack([entry.seq for entry in entries], [], 30.0)


# --- the end ----------------------------------------------------------------------------------------------


def audit(user: User, mailbox: Mailbox, page: int, client: ClientProcess) -> Program:
    """Read the whole mailbox of a user, who had no part in it: log in anew, all of it, what is unread, how much that
    is; and subscribe, until all that is unread was handed over.
    """
    while client.session.token is None:
        for password in user.passwords:
            login = envelopes.Login(id=1, op=user.dice.randbytes(16), name=user.name, password=password)
            outcome = client.request(login)
            yield ended([outcome])
            if outcome.error is None:
                break
    for entries, contents in (yield from _all_pages(client, page, unread=False)):
        mailbox.entries += entries
        mailbox.contents += contents
    for entries, _ in (yield from _all_pages(client, page, unread=True)):
        mailbox.unread += [entry.seq for entry in entries]
    overview = client.request(envelopes.Overview(id=1))
    yield ended([overview])
    assert isinstance(overview.answer, envelopes.Account), "nothing fails once the faults are over"
    mailbox.overview = overview.answer
    feed = client.follow(0, "", page, 50)
    for _ in mailbox.unread:
        yield lambda: bool(feed.waiting)
        mailbox.followed.append(client.take(feed)[0].seq)


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
