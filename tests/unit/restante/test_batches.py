"""Whatever happens, each message given to a driver is told once what became of it, and that is what the broker did."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct, field

from restante import driver as driver_module
from restante.driver import Driver
from restante.events import Lost, Received
from restante.messages import Outgoing
from restante.settings import read_settings
from restante.waiting import Batch, Sending
from restante.wire import codec, envelopes, errors
from restante.wire.envelopes import Credit, Error, Request, Result, Send, Sent, ToClient
from tests.unit.restante.test_driver import ADDRESS, Clock

NOBODY = "nobody"


class ModelBroker:
    """A link to a broker that is in the same process, fickle and correct; `log` is what it stored, by id."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.log: dict[bytes, tuple[int, bytes, list[str]]] = {}
        self.limits = envelopes.Limits(messages_per_send=dice.choice([1, 3, 8, 1_000]), message_bytes=1 << 16)
        self.loses, self.refuses = dice.choice([0.0, 0.0, 0.03]), dice.choice([0.0, 0.2])
        self._connection = 0
        self._open = False
        self._expected: dict[bytes, int] = {}
        self._unsaid: list[ToClient] = []
        self._inbox: list[Received | Lost] = []

    def open(self, connection: int) -> Lost | None:
        self._connection, self._open = connection, True
        self._expected.clear()
        self._unsaid.clear()
        self._inbox.clear()
        return None

    def send(self, header: Request | Credit, body: bytes) -> Lost | None:
        if not self._open:
            return Lost(self._connection, "closed")
        if self.dice.random() < self.loses:
            self._open = False
            self._inbox.append(Lost(self._connection, "lost"))
        elif isinstance(header, envelopes.Hello):
            self._say(envelopes.Welcome(id=header.id, version=1, server="s", heartbeat_ms=30_000, limits=self.limits))
        elif isinstance(header, envelopes.Resume):
            self._say(envelopes.LoggedIn(id=header.id, account=1, name="a", expires_at_us=1))
        elif isinstance(header, Send):
            codec.request_frames(header, body)  # it would be taken
            self._unsaid.append(self._answer(header, body))
        return None

    def _answer(self, send: Send, body: bytes) -> ToClient:
        expected = self._expected.setdefault(send.stream, send.n)
        if send.n != expected:
            return Error(id=send.id, code="gap", expected=expected, retry_after_ms=0)
        if self.dice.random() < self.refuses:
            code = self.dice.choice(["busy", "busy", "unavailable", "internal"])
            return Error(id=send.id, code=code, retry_after_ms=self.dice.choice([0, 50, 400]))
        self._expected[send.stream] += 1
        assert len(send.ids) <= self.limits.messages_per_send
        contents = codec.cut(body, send.sizes)
        results = [self._store(item, content) for item, content in zip(send.messages, contents, strict=True)]
        return Sent.of(send.id, results)

    def _store(self, item: envelopes.Item, content: bytes) -> Result:
        if item.id in self.log:
            seq, *rest = self.log[item.id]
            assert rest == [content, item.to], "a repetition repeats all of it"
            return Result(seq=seq, stored_at_us=1, again=True)
        if item.to == [NOBODY]:
            return Result(code="unknown_recipient")
        self.log[item.id] = len(self.log) + 1, content, item.to
        return Result(seq=len(self.log), stored_at_us=1)

    def speak(self) -> None:
        """Say what was not said yet, in any order."""
        self.dice.shuffle(self._unsaid)
        while self._unsaid:
            self._say(self._unsaid.pop())

    def _say(self, header: ToClient) -> None:
        self._inbox.append(Received(self._connection, header))

    def drain(self) -> list[Received | Lost]:
        if self.dice.random() < 0.5:
            self.speak()
        cut = self.dice.randint(0, len(self._inbox))
        found, self._inbox = self._inbox[:cut], self._inbox[cut:]
        return found

    stirred = False

    def wait(self, timeout_s: float | None) -> None:
        if self._unsaid:
            self.speak()
        elif not self._inbox and timeout_s is not None:
            self.clock.now += timeout_s

    clock: Clock

    def close(self) -> None:
        self._open = False

    def end(self) -> None:
        self._open = False


class Given(Struct, eq=False):
    """One message that was given."""

    sending: Sending
    outgoing: Outgoing
    told: list[None] = field(default_factory=list)
    withdrawn: bool = False

    def watch(self) -> None:
        """Note whenever it is told what became of it."""
        if self.sending.done:
            self.told.append(None)
        else:
            self.sending.batch.notify(self.sending.place, lambda: self.told.append(None))


class Life:
    """A driver's life, by dice."""

    def __init__(self, driver: Driver, broker: ModelBroker, clock: Clock, dice: random.Random) -> None:
        self.driver, self.broker, self.clock, self.dice = driver, broker, clock, dice
        self.given: list[Given] = []

    def live(self) -> None:
        for _ in range(self.dice.randint(20, 80)):
            act = [self.submit, self.submit, self.submit_usual, self.withdraw, self.look, self.look, self.sleep]
            self.dice.choice(act)()
            self.check_counts()
        for _ in range(3_000):
            if not self.driver.session.stream.unsettled and not self.driver._given:
                break
            self.driver.step()
        self.check_counts()

    def submit(self) -> None:
        for _ in range(self.dice.choice([1, 1, 5, 20])):
            body = self.dice.choice(["", str(len(self.given)), str(len(self.given)).ljust(70, ".")])
            outgoing = Outgoing(self.dice.choice(["bob", "bob", NOBODY, ["bob", "carol"]]), body)
            timeout_s, asker = self.dice.choice([1.0, 1.0, 5.0]), self.dice.choice([None, None, "asker"])
            batch = self.driver.submit(outgoing, self.driver.deadline(timeout_s), asker)
            self.note(batch, batch.last, outgoing)
            self.clock.now += self.dice.choice([0.0, 0.0, 0.001, 0.02])

    def submit_usual(self) -> None:
        many = self.dice.choice([1, 3, 30])
        outgoings = [Outgoing(self.dice.choice(["bob", NOBODY]), str(len(self.given) + n)) for n in range(many)]
        batch = self.driver.submit_usual(outgoings, self.driver.deadline(self.dice.choice([1.0, 5.0])), "asker")
        assert batch is not None
        for place, outgoing in enumerate(outgoings):
            self.note(batch, place, outgoing)

    def note(self, batch: Batch, place: int, outgoing: Outgoing) -> None:
        self.given.append(Given(Sending(batch, place), outgoing))
        self.given[-1].watch()

    def withdraw(self) -> None:
        if not self.given:
            return
        one = self.dice.choice(self.given[-9:])
        places = self.dice.choice([None, {one.sending.place}, {one.sending.place, one.sending.place + 2}])
        for each in self.given:
            sending = each.sending
            mine = sending.batch is one.sending.batch and (places is None or sending.place in places)
            if mine and not sending.done:
                sending.batch.forget(sending.place)
                each.withdrawn = True
        self.driver.withdraw({one.sending.batch: places})

    def look(self) -> None:
        self.driver.drain()

    def sleep(self) -> None:
        self.clock.now += self.dice.choice([0.001, 0.1, 0.6, 3.0])

    def check_counts(self) -> None:
        """What is counted is what is there."""
        stream = self.driver.session.stream
        waiting = [*stream._backlog._waiting, *(each for envelope in stream._flight for each in envelope.unsettled)]
        assert stream.unsettled == sum(map(len, waiting))
        assert stream.unsettled_bytes == sum(each.size for each in waiting)
        assert stream.expiry() <= min((each.deadline for each in waiting), default=float("inf"))

    def check_outcomes(self) -> None:
        """Each was told once, and the truth; those that were stored lie in the order in which they were given."""
        for each in self.given:
            assert len(each.told) == (0 if each.withdrawn else 1)
            if not each.withdrawn:
                self.check_outcome(each)
        order = [self.broker.log[each.sending.id][0] for each in self.given if each.sending.id in self.broker.log]
        assert order == sorted(order)

    def check_outcome(self, each: Given) -> None:
        sending, stored = each.sending, self.broker.log.get(each.sending.id)
        if stored is not None:
            _, content, to = stored
            assert (content.decode(), to) == (each.outgoing.body, names_of(each.outgoing))
        if sending.error is None:
            assert stored is not None
            assert (sending.stored().id, sending.stored().seq) == (sending.id, stored[0])
        elif isinstance(sending.error, errors.OutcomeUnknown):
            assert sending.error.message_id == sending.id
        elif not isinstance(sending.error, errors.Internal):  # of that nobody knows what was done
            assert stored is None
        if not each.outgoing.body:
            assert isinstance(sending.error, errors.EmptyBody)
        if sending.batch.asker is not None:
            assert sending.batch.outgoings[sending.place] is each.outgoing


AnyLife = TypeVar("AnyLife", bound=Life)


def names_of(outgoing: Outgoing) -> list[str]:
    return [outgoing.to] if isinstance(outgoing.to, str) else list(outgoing.to)


def lives(
    seed: int, clock: Clock, kind: type[AnyLife], model: Callable[[random.Random], ModelBroker] = ModelBroker
) -> Iterator[AnyLife]:
    """One of this kind, from its beginning to its end."""
    dice = random.Random(seed)
    broker = model(dice)
    broker.clock = clock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_module, "Link", lambda *_: broker)
        driver = Driver(read_settings(ADDRESS, token=bytes(32)), "test", looks_soon=dice.random() < 0.5)
    yield kind(driver, broker, clock, dice)
    driver.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_each_message_is_told_once_what_became_of_it(clock: Clock, seed: int) -> None:
    for life in lives(seed, clock, Life):
        life.live()
        life.check_outcomes()


def test_the_lives_are_not_all_the_same(clock: Clock) -> None:
    """All ways to end come up: a test of the test."""
    ends: Counter[Any] = Counter()
    for seed in range(60):
        for life in lives(seed, clock, Life):
            life.live()
            ends.update(type(each.sending.error) for each in life.given if not each.withdrawn)
            ends.update({"withdrawn": sum(each.withdrawn for each in life.given)})
    for end in (type(None), "withdrawn", errors.UnknownRecipient, errors.OutcomeUnknown, errors.EmptyBody, errors.Busy):
        assert ends[end] > 0, end
