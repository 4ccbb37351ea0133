"""The caller and the attendant take turns at the driver, whoever comes when."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import cast

import pytest

from restante import attendance
from restante.attendance import HANDFUL_BYTES, giving
from restante.driver import Driver
from restante.messages import Outgoing

NEVER = threading.Event()


class Stream:
    active = True


class Session:
    stream = Stream()


class OneAtATime:
    """Stands for the driver: it notices who is in it together with another."""

    session = Session()
    account: int | None = 1
    handful = 64
    away = False

    def __init__(self) -> None:
        self.within = self.drains = 0
        self.met = False
        self.error: Exception | None = None
        self.given: list[list[int]] = []
        """The numbers of the messages given, as they were given together."""

    def drain(self) -> int:
        """What the attendant does."""
        self.drains += 1
        self.enter(1e-4)
        if self.error is not None:
            raise self.error
        return 0

    def enter(self, stay_s: float = 0.0) -> None:
        self.within += 1
        NEVER.wait(stay_s)  # the other comes meanwhile, if it may
        self.met = self.met or self.within > 1
        self.within -= 1

    def give(self, outgoings: list[Outgoing]) -> None:
        self.enter()
        self.given.append([int(each.body) for each in outgoings])

    @property
    def numbers(self) -> list[int]:
        """All that was given."""
        return [number for handful in self.given for number in handful]

    def giving(self, messages: Iterable[Outgoing]) -> Generator[None]:
        """The iteration that is tested."""
        return cast("Generator[None]", giving(messages, cast("Driver", self), self.give))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneAtATime]:
    monkeypatch.setattr(attendance, "BUSY_S", 1e-5)
    monkeypatch.setattr(attendance, "IDLE_S", 1e-5)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that each comes upon the other at every point
    yield OneAtATime()
    sys.setswitchinterval(before)


def messages(count: int, pause_s: float = 0.0, every: int = 7) -> Iterator[Outgoing]:
    """Numbered messages; before each of a few there is a pause."""
    for number in range(count):
        if number % every == 0:
            NEVER.wait(pause_s)
        yield Outgoing("bob", str(number))


def test_nobody_is_in_while_the_caller_is(driver: OneAtATime) -> None:
    for _ in driver.giving(messages(5_000, pause_s=1e-5)):
        driver.enter()
    assert driver.numbers == list(range(5_000))
    assert not driver.met
    assert driver.drains > 0


@pytest.mark.parametrize("known", [True, False])
def test_what_was_taken_does_not_wait_for_what_is_long_in_coming(driver: OneAtATime, known: bool) -> None:
    driver.account = 1 if known else None  # without an account to give may be to wait
    seen = list[list[int]]()

    def slow() -> Iterator[Outgoing]:
        yield from messages(3)
        NEVER.wait(0.2)
        seen.extend(driver.given)
        yield Outgoing("bob", "3")

    list(driver.giving(slow()))
    assert seen == ([[0, 1, 2]] if known else [])
    assert driver.numbers == [0, 1, 2, 3]
    assert driver.drains > 10


def test_nobody_stands_in_for_who_is_there(driver: OneAtATime) -> None:
    for _ in driver.giving(messages(1)):
        before = driver.drains
        NEVER.wait(0.1)
        assert (driver.given, driver.drains) == ([[0]], before)


def test_no_more_is_taken_than_makes_a_handful(driver: OneAtATime) -> None:
    driver.handful = 5
    for given in (messages(12), list(messages(12))):
        driver.given.clear()
        list(driver.giving(given))
        assert driver.numbers == list(range(12))
        assert max(map(len, driver.given)) == 5


@pytest.mark.parametrize("body", ["1", b"1"])
def test_large_ones_are_not_taken_by_the_handful(driver: OneAtATime, body: str | bytes) -> None:
    large = [Outgoing("bob", body * (HANDFUL_BYTES // 2 + 1))] * 4
    sizes = list[int]()

    def give(outgoings: list[Outgoing]) -> None:
        sizes.append(len(outgoings))

    list(giving(iter(large), cast("Driver", driver), give))
    assert (max(sizes), sum(sizes)) == (2, 4)
    sizes.clear()
    list(giving(large, cast("Driver", driver), give))
    assert sizes == [1, 1, 1, 1]


def test_what_its_giver_could_change_is_given_before_it_can(driver: OneAtATime) -> None:
    buffer, to = bytearray(b"0"), ["bob"]

    def reused() -> Iterator[Outgoing]:
        for number in range(1, 3):
            buffer[:] = str(number).encode()
            yield Outgoing("bob", cast("bytes", buffer))
        for number in range(3, 5):
            to[:] = [str(number)]
            yield Outgoing(to, str(number))

    found = list[tuple[str, str]]()

    def give(outgoings: list[Outgoing]) -> None:
        for each in outgoings:
            found.append(("".join(each.to), each.body if isinstance(each.body, str) else bytes(each.body).decode()))

    list(giving(reused(), cast("Driver", driver), give))
    assert found == [("bob", "1"), ("bob", "2"), ("3", "3"), ("4", "4")]


def test_what_goes_wrong_meanwhile_is_the_callers(driver: OneAtATime) -> None:
    driver.error = RuntimeError("the socket is gone")
    with pytest.raises(RuntimeError, match="the socket is gone"):
        list(driver.giving(messages(2, pause_s=0.2)))


def test_what_can_t_be_given_meanwhile_keeps_nobody_else_waiting(driver: OneAtATime) -> None:
    drains = list[int]()

    def slow() -> Iterator[Outgoing]:
        yield from messages(1)
        NEVER.wait(0.1)
        drains.append(driver.drains)
        NEVER.wait(0.1)
        drains.append(driver.drains)
        yield from messages(1)

    def refuse(outgoings: list[Outgoing]) -> None:
        raise TypeError("that is no message")

    with pytest.raises(TypeError, match="no message"):
        list(giving(slow(), cast("Driver", driver), refuse))
    assert drains[1] > drains[0] > 0


class Rows:
    """Has a length, and makes each message as it is asked for it, in one buffer."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Outgoing]:
        buffer = bytearray(1)
        for number in range(len(self)):
            buffer[:] = str(number).encode()
            yield Outgoing("bob", cast("bytes", buffer))


def test_what_has_a_length_and_makes_its_messages_gives_each_at_once(driver: OneAtATime) -> None:
    list(giving(Rows(), cast("Driver", driver), driver.give))
    assert driver.given == [[0], [1], [2], [3], [4]]


def test_the_thread_ends_with_the_input_however_it_ends(driver: OneAtATime) -> None:
    def broken() -> Iterator[Outgoing]:
        yield from messages(1)
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        list(driver.giving(broken()))
    stopped = driver.giving(messages(5))
    next(stopped)
    stopped.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "restante-attendance"]
