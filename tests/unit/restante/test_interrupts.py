"""Whoever is interrupted, wherever it may be, has a client that works, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
from collections.abc import Iterator
from types import FrameType

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import restante
from restante.driver import BATCHES_MIN, Driver
from restante.events import Lost
from restante.messages import Outgoing
from restante.waiting import Waiter
from restante.wire import envelopes, errors
from restante.wire.envelopes import Account, Credit, Request, Subscribe, Subscribed
from tests.unit.restante import test_batches
from tests.unit.restante.test_batches import Life, ModelBroker
from tests.unit.restante.test_driver import Clock

PACKAGE = restante.__path__[0]


class Interruption:
    """Raises KeyboardInterrupt at one of the points at which Python may call a signal's handler: where a function of
    the library begins, or one that it called in C is over. `points` counts them.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.points = 0

    def __enter__(self) -> Interruption:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _what: object) -> None:
        code = frame.f_code
        usual = not code.co_flags & inspect.CO_GENERATOR  # one that is thrown away raises nothing
        if usual and event in ("call", "c_return") and code.co_filename.startswith(PACKAGE):
            self.points += 1
            if self.points == self.at:
                raise KeyboardInterrupt


class Broker(ModelBroker):
    """The model, which also has an overview, and subscriptions to which nothing comes."""

    def send(self, header: Request | Credit, body: bytes) -> Lost | None:
        if isinstance(header, envelopes.Overview):
            self._say(Account(id=header.id, account=1, name="a", unread=0, total=0))
        elif isinstance(header, Subscribe):
            self._say(Subscribed(id=header.id, sub=header.sub, history=bytes(16)))
        return super().send(header, body)


class InterruptedLife(Life):
    """Some of everything; a driver's life in a few milliseconds."""

    def __init__(self, driver: Driver, broker: ModelBroker, clock: Clock, dice: random.Random) -> None:
        super().__init__(driver, broker, clock, dice)
        self.waiters: list[Waiter] = []

    def live(self) -> None:
        driver = self.driver
        self.submit()
        self.submit_usual()
        driver.drain()
        driver.follow("", 0)
        self.waiters.append(driver.ask(envelopes.Overview(id=1), driver.deadline(5.0)))
        driver.step()
        self.submit_usual()
        self.submit()
        for _ in range(8):
            driver.step(self.clock.now + 1)
        self.withdraw()

    def recover(self) -> None:
        """Until nobody waits any more."""
        driver = self.driver
        for _ in range(3_000):
            if not driver.session.stream.unsettled and not driver._given and all(each.done for each in self.waiters):
                break
            driver.step(self.clock.now + 1)

    def check(self) -> None:
        self.check_counts()
        for waiter in self.waiters:
            assert waiter.done
            assert waiter.error is None or isinstance(waiter.error, errors.OutcomeUnknown)
        for each in self.given:
            assert len(each.told) <= 1
            if not each.withdrawn:
                assert each.sending.done
                self.check_outcome(each)


def lives(seed: int, clock: Clock) -> Iterator[InterruptedLife]:
    """One, from its beginning to its end."""
    return test_batches.lives(seed, clock, InterruptedLife, Broker)


def points(seed: int, clock: Clock) -> int:
    """How many there are in such a life, if nobody interrupts."""
    counted = Interruption(0)
    for life in lives(seed, clock):
        with counted:
            life.live()
    return counted.points


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 2**32), where=st.floats(0, 1))
@example(seed=0, where=0.0)
def test_who_is_interrupted_has_a_client_that_works(clock: Clock, seed: int, where: float) -> None:
    at = 1 + int(where * points(seed, clock))
    for life in lives(seed, clock):
        with Interruption(at) as interruption:
            try:
                life.live()
            except KeyboardInterrupt:
                assert interruption.points >= at
        life.recover()
        life.check()
        life.broker.loses = life.broker.refuses = 0.0
        last = life.driver.submit(Outgoing("bob", "last"), life.driver.deadline(600.0))
        for _ in range(3_000):
            if last.done:
                break
            life.driver.step()
        assert last.stored(0)
        assert life.driver.session.stream.unsettled == 0


def test_what_was_under_way_is_in_doubt_and_a_subscription_over(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for life in lives(1, clock):
        driver = life.driver
        driver.step()
        reading = driver.follow("", 0)
        batch = driver.submit(Outgoing("bob", "1"), driver.deadline(5.0))
        with monkeypatch.context() as patch:
            patch.setattr(driver.session, "handle", interrupted)
            with pytest.raises(KeyboardInterrupt):
                driver.ask(envelopes.Overview(id=1), driver.deadline(5.0))
        assert isinstance(batch.errors[0], errors.OutcomeUnknown)
        assert batch.errors[0].message_id == batch.ids[0]
        assert isinstance(reading.error, errors.UnreachableError)
        assert driver.session.token == bytes(32)
        driver.unfollow(reading)


@pytest.mark.parametrize("what", ["call", "send"])
def test_who_was_to_be_told_when_that_was_interrupted_is_told_all_the_same(clock: Clock, what: str) -> None:
    for life in lives(1, clock):
        driver, told = life.driver, list[str]()

        def notice(told: list[str] = told) -> None:
            told.append(what)
            if len(told) == 1:
                raise KeyboardInterrupt

        life.broker.loses = life.broker.refuses = 0.0
        if what == "call":
            driver.ask(envelopes.Overview(id=1), driver.deadline(5.0)).notify = notice
        else:
            driver.submit(Outgoing("bob", "1"), driver.deadline(5.0)).notify(0, notice)
        for _ in range(100):
            with contextlib.suppress(KeyboardInterrupt):
                driver.step(clock.now + 1)
        assert told == [what, what]


def test_those_that_are_over_are_forgotten_though_one_before_them_is_kept(clock: Clock) -> None:
    for life in lives(1, clock):
        driver = life.driver
        life.broker.loses = life.broker.refuses = 0.0
        driver.link.send = lambda *_: None  # type: ignore[method-assign]
        kept = driver.submit(Outgoing("bob", "kept"), driver.deadline(1e9))
        for _ in range(BATCHES_MIN * 4):
            driver.submit(Outgoing("bob", ""), driver.deadline(1.0))
            driver.submit(Outgoing("bob", "1"), driver.deadline(1.0))
            clock.now += 2.0
            driver.drain()
        assert not kept.done
        assert len(driver._batches) <= BATCHES_MIN
