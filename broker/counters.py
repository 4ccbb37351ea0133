"""What the broker refused and threw away, counted by kind, for its log. Pure.

An attack or a broken client shows itself here and nowhere else: nothing of what a peer sent is ever logged.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.events import Action, Reply
from restante.wire.envelopes import Error
from restante.wire.errors import CODES

REPORT_S = 60.0
"""Between two lines of the log: an attack must not fill the disk that it could not fill otherwise."""

OTHER = "other"
"""The name of every code that is not in the table: a worker newer than this broker may have some, and what counts must
stay bounded."""


class Counters:
    """Counts since the last report: `refused_CODE`, `violations`, `dropped`, `unreachable`, `expired`,
    `cut_off`.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._report_at: float | None = None

    def count(self, what: str, times: int = 1) -> None:
        """Something happened."""
        self._counts[what] = self._counts.get(what, 0) + times

    def refusals(self, actions: Iterable[Action]) -> None:
        """Count the errors among what is about to be sent."""
        for action in actions:
            if type(action) is Reply and type(action.envelope) is Error:
                code = action.envelope.code
                self.count(f"refused_{code if code in CODES else OTHER}")

    def due(self, now: float) -> dict[str, int]:
        """The counts to report, once a minute, where there are any; they begin at nothing again."""
        if self._report_at is None:
            self._report_at = now + REPORT_S
        if now < self._report_at:
            return {}
        self._report_at = now + REPORT_S
        return self.take()

    def take(self) -> dict[str, int]:
        """The counts, which begin at nothing again."""
        counts, self._counts = self._counts, {}
        return counts
