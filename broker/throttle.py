"""Attempts that are limited: token buckets, one a key, all of one size; and attempts that may turn out to be none.

A key that was never used, or has rested long enough, has no bucket: memory is bounded by who tried lately.
"""

from __future__ import annotations

KEYS_MAX = 100_000
"""Buckets kept; past it the longest unused is forgotten, which gives its owner at most one more burst."""

OUTCOME_S = 1.0
"""How long to wait where the outcome of earlier attempts is about to be known, and most will be given back."""


class Throttle:
    """`burst` attempts at once for each key, one more every `refill_s` seconds."""

    def __init__(self, burst: int, refill_s: float, keys_max: int = KEYS_MAX) -> None:
        self._burst = burst
        self._refill_s = refill_s
        self._keys_max = keys_max
        self._full_at: dict[str, float] = {}
        """When each bucket will be full again: the whole state of a bucket is this one time."""

    def wait_s(self, key: str, now: float, attempts: int = 1) -> float:
        """Seconds until that many attempts are allowed; 0.0: now. It takes nothing."""
        ready_at = self._full_at.get(key, now) - (self._burst - min(attempts, self._burst)) * self._refill_s
        return max(0.0, ready_at - now)

    def take(self, key: str, now: float, attempts: int = 1) -> None:
        """Count attempts, allowed or not."""
        full_at = max(now, self._full_at.pop(key, now)) + attempts * self._refill_s
        self._full_at[key] = full_at
        if len(self._full_at) > self._keys_max:
            del self._full_at[next(iter(self._full_at))]

    def give_back(self, key: str, attempts: int = 1) -> None:
        """An attempt turned out to be none, a right password say."""
        if key in self._full_at:
            self._full_at[key] -= attempts * self._refill_s

    def forget_rested(self, now: float) -> None:
        """Drop the buckets that are full."""
        for key in [key for key, full_at in self._full_at.items() if full_at <= now]:
            del self._full_at[key]


class Guesses:
    """Attempts whose outcome is told later: they count at once, so that many at the same time do too, and those that
    turn out to be none are given back.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._open: dict[str, int] = {}
        """Attempts whose outcome is not known yet."""

    def begin(self, key: str, attempts: int, now: float) -> float:
        """Count attempts, and return 0.0; or count nothing, and return the seconds to wait."""
        wait_s = self._throttle.wait_s(key, now, attempts)
        if wait_s == 0.0:
            self._throttle.take(key, now, attempts)
            self._open[key] = self._open.get(key, 0) + attempts
        elif key in self._open:
            wait_s = min(wait_s, OUTCOME_S)
        return wait_s

    def end(self, key: str, attempts: int, failures: int) -> None:
        """The outcome of attempts is known."""
        self._throttle.give_back(key, attempts - failures)
        self._open[key] -= attempts
        if not self._open[key]:
            del self._open[key]

    def forget_rested(self, now: float) -> None:
        """Drop the buckets that are full."""
        self._throttle.forget_rested(now)
