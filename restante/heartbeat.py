"""Whether the other end is still there: a ping when nothing was said for a while, and what silence means."""

from __future__ import annotations

import math
from typing import Final

from restante.asking import Ask, Asks
from restante.events import Action
from restante.wire import limits
from restante.wire.envelopes import Ping, ToClient
from restante.wire.errors import ChatError

DEAF_S: Final = 5.0
"""A request that ran out of time on a connection from which nothing at all has come for so long takes the connection
with it: callers whose time is shorter than the session's own patience would else ask into the void for ever."""


class Heartbeat:
    """One connection's after another: `lost` begins anew."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._beat_s: float = limits.HEARTBEAT_S
        self._pinging = False
        self._sent_at = 0.0
        self._unheard_since = math.inf
        """When the first thing was transmitted of all that nothing has come after."""

    @property
    def answer_s_max(self) -> float:
        """How long the answer to a ping may take: a ping that is out is itself the first silence."""
        return self._beat_s * (limits.SILENCES_MAX - 1)

    def agreed(self, heartbeat_ms: int) -> None:
        """The welcome says how often something must be said."""
        self._beat_s = heartbeat_ms / 1000

    def transmitted(self, now: float) -> None:
        """Something was said."""
        self._sent_at = now
        self._unheard_since = min(self._unheard_since, now)

    def heard(self) -> None:
        """Something came."""
        self._unheard_since = math.inf

    def lost(self) -> None:
        """The connection is gone."""
        self._pinging = False
        self._unheard_since = math.inf

    def due_at(self) -> float:
        """When the next ping is due; inf while one is out."""
        return math.inf if self._pinging else self._sent_at + self._beat_s

    def beat(self, now: float) -> None:
        """Ask for the ping to be sent, if it is due."""
        if now >= self.due_at():
            self._pinging = True
            self._asks.add(Ask(header=Ping(id=1), settled=self._ponged, per_connection=True))

    def deaf(self, now: float) -> bool:
        """Whether so much was said into silence that it is none by chance."""
        return now - self._unheard_since >= DEAF_S

    def _ponged(self, ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]) -> None:
        self._pinging = False
