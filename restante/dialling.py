"""Connecting again and again: how long to wait, and what to say about it if time runs out."""

from __future__ import annotations

from typing import Final

from restante.wire.errors import UnreachableError, WrongServerKey

HANDSHAKE_S: Final = 10.0
"""From a new socket to the welcome. A server that is alive takes milliseconds; one that restarts is tried again."""

BACKOFF_S: Final = 0.05
"""Before the second attempt; it doubles with each."""

BACKOFF_S_MAX: Final = 5.0
"""Nobody should wait much longer for a server that is back than it took to come back."""

WRONG_KEY_S: Final = 2.0
"""How long handshakes must fail before it is called a wrong key: a port whose server is just starting behind a proxy
looks the same, and passes."""


class Dialling:
    """The attempts to connect to one server. `where` names it in errors."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._attempts = 0
        self._refused_since: float | None = None
        """Since when every attempt has ended in a failed handshake."""
        self._key_was_right = False
        self._trouble = ""

    def welcomed(self) -> None:
        """The server holds the key: from now on a failed handshake is something else."""
        self._key_was_right = True
        self._refused_since = None
        self._trouble = ""

    def worked(self) -> None:
        """A request was answered: the next attempt is a first one again."""
        self._attempts = 0

    def failed(self, reason: str, *, handshake: bool, chance: float, now: float) -> float:
        """A connection is over, or was never made: seconds to wait before the next. `chance` is from [0, 1)."""
        self._trouble = reason
        if not handshake or self._key_was_right:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        wait_s = min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        wait_s *= 0.5 + chance / 2
        if self._refused_since is not None and now < (verdict_at := self._refused_since + WRONG_KEY_S):
            return min(wait_s, verdict_at - now)  # the attempt that decides is not put off
        return wait_s

    def wrong_key(self, now: float) -> WrongServerKey | None:
        """The verdict, once handshakes have failed for long enough."""
        if self._refused_since is None or now - self._refused_since < WRONG_KEY_S:
            return None
        return self._wrong_key()

    def untold(self) -> UnreachableError:
        """The error for what could not be transmitted before its time was up."""
        if self._refused_since is not None:
            return self._wrong_key()
        if not self._trouble:
            return UnreachableError(f"{self._where} did not answer in the time allowed")
        return UnreachableError(f"{self._where} cannot be reached ({self._trouble})")

    def _wrong_key(self) -> WrongServerKey:
        return WrongServerKey(f"{self._where} answers, but does not hold the key that the address names")
