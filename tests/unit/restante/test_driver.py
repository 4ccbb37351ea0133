"""What the driver does between the session and the socket: nobody waits for what has already come."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from restante import driver as driver_module
from restante.driver import GIVEN_MAX, Driver
from restante.events import Lost, Received
from restante.messages import Outgoing
from restante.settings import read_settings
from restante.waiting import TOGETHER_S, Batch
from restante.wire.envelopes import Credit, Request
from restante.wire.errors import NotLoggedIn, UnreachableError

ADDRESS = "chat://127.0.0.1:5570/" + "A" * 43


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class NoLink:
    """A socket to nobody. To wait on it is to fail."""

    def open(self, connection: int) -> Lost | None:
        return Lost(connection, "connection refused")

    def send(self, header: Request | Credit, body: bytes) -> Lost | None:
        return None

    def drain(self) -> list[Received | Lost]:
        return []

    @property
    def stirred(self) -> bool:
        return False

    def wait(self, timeout_s: float | None) -> None:
        pytest.fail(f"waited {timeout_s} s, though what was waited for had come")

    def close(self) -> None:
        pass

    def end(self) -> None:
        pass


@pytest.fixture
def driver(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setattr(driver_module, "Link", lambda address, closing: NoLink())
    driver = Driver(read_settings(ADDRESS, token=bytes(32)), "test")
    yield driver
    driver.close()


def test_a_message_whose_time_is_up_as_one_begins_to_wait_is_not_waited_for(driver: Driver, clock: Clock) -> None:
    batch = driver.submit(Outgoing("bob", "hi"), driver.deadline(4.0), None)
    clock.now += 4.0  # between two steps, as on a busy machine; nothing else is to come after that
    driver.step()
    assert isinstance(batch.errors[0], UnreachableError)


def test_what_fails_as_it_is_told_is_not_waited_for(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.session._membership.left()  # nobody is logged in, which the session says at once
    with monkeypatch.context() as crowded:
        crowded.setattr(driver, "feed", lambda: None)
        batch = driver.submit(Outgoing("bob", "hi"), driver.deadline(4.0), None)
    assert not batch.done
    driver.step()
    assert isinstance(batch.errors[0], NotLoggedIn)


class TestBatches:
    """Which messages are given together, while none would go sooner."""

    @pytest.fixture(autouse=True)
    def crowded(self, driver: Driver) -> None:
        driver._given_max = GIVEN_MAX

    def test_what_one_gives_in_quick_succession_is_one(self, driver: Driver, clock: Clock) -> None:
        first = driver.submit(Outgoing("bob", "1"), driver.deadline(4.0), "one")
        clock.now += TOGETHER_S / 2
        assert driver.submit(Outgoing("bob", "2"), driver.deadline(4.0), "one") is first
        assert [first.last, len(first._rows)] == [1, 2]
        assert not first.done

    @pytest.mark.parametrize(
        ("later_s", "timeout_s", "asker"), [(TOGETHER_S * 2, 4.0, "one"), (0, 3.0, "one"), (0, 4.0, "other")]
    )
    def test_what_is_given_later_or_for_another_time_or_by_another_is_another(
        self, driver: Driver, clock: Clock, later_s: float, timeout_s: float, asker: str
    ) -> None:
        first = driver.submit(Outgoing("bob", "1"), driver.deadline(4.0), "one")
        clock.now += later_s
        second = driver.submit(Outgoing("bob", "2"), driver.deadline(timeout_s), asker)
        assert second is not first
        assert [len(first._rows), len(second._rows)] == [1, 1]

    def test_none_is_given_less_time_than_it_was_to_have(self, driver: Driver, clock: Clock) -> None:
        batch = driver.submit(Outgoing("bob", "1"), driver.deadline(1.0), None)
        clock.now += TOGETHER_S / 2
        driver.submit(Outgoing("bob", "2"), driver.deadline(1.0), None)
        clock.now += 1.0 - TOGETHER_S / 4
        driver.drain()
        assert not batch.errors
        clock.now += TOGETHER_S
        driver.drain()
        assert list(batch.errors) == [0, 1]

    def test_what_is_refused_at_once_stands_between_the_others(self, driver: Driver) -> None:
        batches = [driver.submit(Outgoing("bob", body), driver.deadline(4.0), None) for body in ("1", "", "2")]
        assert [batch.done for batch in batches] == [False, True, False]
        assert [len(set(map(id, batches))), driver._given_messages] == [3, 2]

    def test_what_was_begun_for_a_refused_one_is_forgotten(self, driver: Driver) -> None:
        driver.submit(Outgoing("bob", ""), driver.deadline(4.0), None)
        assert driver.submit_usual([Outgoing(["bob"], "x")], driver.deadline(4.0), None) is None
        assert (driver._given, driver._given_messages, driver.unlooked) == ([], 0, 0)

    def test_usual_ones_are_a_batch_of_their_own(self, driver: Driver) -> None:
        one = driver.submit(Outgoing("bob", "1"), driver.deadline(4.0), None)
        three = driver.submit_usual([Outgoing("bob", "2")] * 3, driver.deadline(4.0), None)
        assert three is not None
        assert [driver._given_messages, driver.unlooked, one.open, three.open] == [4, 4, True, False]
        driver.close()
        assert [one.done, three.done, len(one.ids), len(three.ids)] == [True, True, 1, 3]

    def test_what_makes_its_recipients_may_use_the_client(self, driver: Driver) -> None:
        """It does so before the message has a place beside others."""

        def recipients() -> Iterator[str]:
            driver.drain()
            yield "bob"

        first = driver.submit(Outgoing("bob", "1"), driver.deadline(4.0))
        second = driver.submit(Outgoing(recipients(), "2"), driver.deadline(4.0))
        assert second is not first
        driver.drain()
        assert [len(first.ids), len(second.ids), driver.session.stream.unsettled] == [1, 1, 2]

    @pytest.mark.parametrize("where", ["__init__", "add"])
    def test_who_is_interrupted_adds_a_message_or_none(
        self, driver: Driver, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Batch, where, interrupt)
            with pytest.raises(KeyboardInterrupt):
                driver.submit(Outgoing("bob", "1"), driver.deadline(4.0))
        batch = driver.submit(Outgoing("bob", "2"), driver.deadline(4.0))
        driver.drain()
        assert (driver.session.stream.unsettled, batch.last, len(batch.ids)) == (1, 0, 1)

    def test_a_client_that_is_closed_takes_nothing(self, driver: Driver) -> None:
        driver.close()
        with pytest.raises(RuntimeError, match="closed"):
            driver.submit(Outgoing("bob", "1"), driver.deadline(4.0))
        with pytest.raises(RuntimeError, match="closed"):
            driver.submit_usual([Outgoing("bob", "1")], driver.deadline(4.0), None)
        driver.withdraw({Batch(None, 4.0, 0): None})
