"""How much may be on its way, and how long one waits for it, for peers whose library leaves that to the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from benchmarks.peers.peer import IN_FLIGHT, Message
from benchmarks.schedule import wait_until

ANSWER_S: Final = 60.0
"""Without any answer for so long a peer has failed: the next one's turn must come."""

STOP_LOOK_S: Final = 0.2
"""How often a follower to whom nothing comes looks whether it is to stop."""

NOTHING_S: Final = 10.0
"""A drain to which nothing has come for so long is at its end, whatever was expected."""

IN_FLIGHT_BYTES: Final = 32 << 20
"""A thousand bodies of 1 MiB would be a gigabyte in the client, and again in the server."""


def in_flight(messages: Sequence[Message], most: int = IN_FLIGHT) -> int:
    """How many of these may be unacknowledged at a time: `most`, fewer if they are large."""
    largest = max((len(message.body) for message in messages), default=0)
    return max(1, min(most, IN_FLIGHT_BYTES // max(1, largest)))


def lots(messages: Sequence[Message], most: int = IN_FLIGHT) -> Iterator[Sequence[Message]]:
    """The messages in lots of as many as may be unacknowledged."""
    size = in_flight(messages, most)
    for start in range(0, len(messages), size):
        yield messages[start : start + size]


def due_together(schedule: Iterable[tuple[float, Message]]) -> Iterator[list[Message]]:
    """An open loop for a library that waits for every answer: each time, all that has come due meanwhile."""
    together: list[Message] = []
    for at, message in schedule:
        if together and at > time.monotonic():
            yield together
            together = []
        wait_until(at)
        together.append(message)
    if together:
        yield together


def drained_in_turn(mailboxes: int, at_once: int, expected: int, drain: Callable[[range], int]) -> int:
    """Drain mailboxes, so many at once, again and again: until as much came as was expected, or nothing any more."""
    bounds = [*range(0, mailboxes, at_once), mailboxes]
    drained, last_at, pause = 0, time.monotonic(), threading.Event()
    while drained < expected and time.monotonic() - last_at < NOTHING_S:
        count = sum(drain(range(*bound)) for bound in pairwise(bounds))
        drained += count
        if count:
            last_at = time.monotonic()
        else:
            pause.wait(STOP_LOOK_S)
    return drained
