"""An open loop's times: when each message is due, whatever has become of those before.

A sender who waits for an answer before the next message sends less exactly when the server is slow, and so leaves out
the worst latencies ("coordinated omission"). Here messages are due at fixed times, latency counts from then, and a
sender that is late sends at once.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

SPIN_S: Final = 50e-6
"""What a wait may come back late: it is not begun for less."""


def due(rate: float, seconds: float, start: float) -> Iterator[float]:
    """The times, from `start` on, of messages sent evenly at `rate` a second for so many seconds.

    Each is counted from the start, so that no error adds up.
    """
    return (start + n / rate for n in range(round(rate * seconds)))


def paced(schedule: Iterable[tuple[float, T]]) -> Iterator[T]:
    """Each item at its time (`time.monotonic()`), for senders whose library works in threads of its own."""
    for at, item in schedule:
        wait_until(at)
        yield item


def wait_until(at: float) -> None:
    """Wait for a time, to some tens of microseconds. `select` counts in microseconds, `epoll` in milliseconds."""
    while (rest := at - time.monotonic()) > SPIN_S:
        select.select((), (), (), rest)


async def paced_async(schedule: Iterable[tuple[float, T]]) -> AsyncIterator[T]:
    """The same in an event loop, which has a turn before each; make it with `precise_loop`."""
    for at, item in schedule:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        yield item


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are not rounded up to milliseconds, as those over `epoll` are.

    `asyncio.Runner(loop_factory=precise_loop)`. For few descriptors: `select` takes none past 1,023.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
