"""An open loop's times."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from benchmarks.schedule import due, paced, paced_async, precise_loop


def test_messages_are_due_evenly_and_no_error_adds_up() -> None:
    times = list(due(3_000, 2.0, 100.0))
    assert len(times) == 6_000
    assert times[0] == 100.0
    assert times[-1] == pytest.approx(102.0 - 1 / 3_000)
    assert times[3_000] == 101.0


def test_none_comes_before_its_time() -> None:
    start = time.monotonic() + 0.01
    early = [at - time.monotonic() for at in paced((at, at) for at in due(500, 0.1, start))]
    assert len(early) == 50
    assert max(early) <= 0.0001


def test_what_is_late_is_given_at_once_and_none_is_left_out() -> None:
    began = time.monotonic()
    assert list(paced((began - 60 + n, n) for n in range(50))) == list(range(50))
    assert time.monotonic() - began < 5


def test_an_event_loop_keeps_the_times_too_and_turns_meanwhile() -> None:
    turned = 0

    async def play() -> list[float]:
        start = time.monotonic() + 0.01
        other = asyncio.create_task(count(paced_async((at, at) for at in due(1_000, 0.1, start))))
        early = [at - time.monotonic() async for at in paced_async((at, at) for at in due(500, 0.1, start))]
        await other
        return early

    async def count(turns: AsyncIterator[float]) -> None:
        nonlocal turned
        async for _ in turns:
            turned += 1

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        early = runner.run(play())
    assert (len(early), turned) == (50, 100)
    assert max(early) <= 0.0001
