"""What the driver does between the session and the socket: nobody waits for what has already come."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from restante import driver as driver_module
from restante.driver import Driver
from restante.events import Lost, Received
from restante.messages import Outgoing
from restante.settings import read_settings
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
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(driver_module, "time", clock)
    return clock


@pytest.fixture
def driver(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setattr(driver_module, "Link", lambda address, closing: NoLink())
    driver = Driver(read_settings(ADDRESS, token=bytes(32)), "test")
    yield driver
    driver.close()


def test_a_message_whose_time_is_up_as_one_begins_to_wait_is_not_waited_for(driver: Driver, clock: Clock) -> None:
    sending = driver.submit(Outgoing("bob", "hi"), 0, driver.deadline(4.0))
    clock.now += 4.0  # between two steps, as on a busy machine; nothing else is to come after that
    driver.step()
    assert isinstance(sending.error, UnreachableError)


def test_what_fails_as_it_is_told_is_not_waited_for(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.session._membership.left()  # nobody is logged in, which the session says at once
    with monkeypatch.context() as crowded:
        crowded.setattr(driver, "_tell_given", lambda: None)
        sending = driver.submit(Outgoing("bob", "hi"), 0, driver.deadline(4.0))
    assert not sending.done
    driver.step()
    assert isinstance(sending.error, NotLoggedIn)
