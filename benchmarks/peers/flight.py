"""How much a sender may have on its way, for peers whose library leaves that to the caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.peers.peer import IN_FLIGHT, Message

ANSWER_S: Final = 60.0
"""Without any answer for so long a peer has failed: the next one's turn must come."""

STOP_LOOK_S: Final = 0.2
"""How often a follower to whom nothing comes looks whether it is to stop."""

NOTHING_S: Final = 10.0
"""A drain to which nothing has come for so long is at its end, whatever was expected."""

IN_FLIGHT_BYTES: Final = 32 << 20
"""A thousand bodies of 1 MiB would be a gigabyte in the client, and again in the server."""


def in_flight(messages: Sequence[Message]) -> int:
    """How many of these may be unacknowledged at a time: IN_FLIGHT, fewer if they are large."""
    largest = max((len(message.body) for message in messages), default=0)
    return max(1, min(IN_FLIGHT, IN_FLIGHT_BYTES // max(1, largest)))


def lots(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in lots of as many as may be unacknowledged."""
    size = in_flight(messages)
    for start in range(0, len(messages), size):
        yield messages[start : start + size]
