"""The caller and the attendant take turns at the driver, whoever comes when."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from restante import attendance
from restante.attendance import attended
from restante.driver import Driver

NEVER = threading.Event()


class Stream:
    active = True


class Session:
    stream = Stream()


class OneAtATime:
    """Stands for the driver: it notices who is in it together with another."""

    session = Session()

    def __init__(self) -> None:
        self.within = self.drains = 0
        self.met = False
        self.error: Exception | None = None

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


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneAtATime]:
    monkeypatch.setattr(attendance, "BUSY_S", 1e-5)
    monkeypatch.setattr(attendance, "IDLE_S", 1e-5)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that each comes upon the other at every point
    yield OneAtATime()
    sys.setswitchinterval(before)


def items(count: int, pause_s: float = 0.0) -> Iterator[int]:
    for item in range(count):
        if item % 7 == 0:
            NEVER.wait(pause_s)
        yield item


def test_nobody_is_in_while_the_caller_is(driver: OneAtATime) -> None:
    taken = 0
    for _ in attended(items(5_000, pause_s=1e-5), cast("Driver", driver)):
        driver.enter()
        taken += 1
    assert (taken, driver.met) == (5_000, False)
    assert driver.drains > 0


def test_who_waits_long_is_stood_in_for(driver: OneAtATime) -> None:
    for item in attended(items(2, pause_s=0.2), cast("Driver", driver)):
        if item == 0:
            assert driver.drains > 10


def test_nobody_stands_in_for_who_is_there(driver: OneAtATime) -> None:
    for item in attended(items(1), cast("Driver", driver)):
        before = driver.drains
        NEVER.wait(0.1)
        assert (item, driver.drains) == (0, before)


def test_what_goes_wrong_meanwhile_is_the_callers(driver: OneAtATime) -> None:
    driver.error = RuntimeError("the socket is gone")
    with pytest.raises(RuntimeError, match="the socket is gone"):
        list(attended(items(2, pause_s=0.2), cast("Driver", driver)))


def test_the_thread_ends_with_the_input_however_it_ends(driver: OneAtATime) -> None:
    def broken() -> Iterator[int]:
        yield 0
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        list(attended(broken(), cast("Driver", driver)))
    stopped = attended(items(5), cast("Driver", driver))
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "restante-attendance"]
