"""Account numbers of the names that were asked for lately.

Only names that exist are remembered: an unknown one may be registered the next moment, and remembering it would let a
stranger fill the memory (RULES 13). Names are never given twice, so an entry can go stale only by its account's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import filterfalse

from restante.wire.limits import NAME_CACHE_MAX
from restante.wire.names import fold


class NameCache:
    """name → account number, bounded; the longest known goes first."""

    def __init__(self, size_max: int = NAME_CACHE_MAX) -> None:
        self._size_max = size_max
        self._accounts: dict[str, int] = {}
        self.accounts: Mapping[str, int] = self._accounts
        """The whole of it, to look at: where names go by the hundred a call for each would be most of the time."""

    def get(self, name: str) -> int | None:
        """The account's number, or None if it is not known here."""
        return self._accounts.get(name)

    def missing(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are not known here."""
        return set(filterfalse(self._accounts.__contains__, names))

    def learn(self, accounts: Mapping[str, int]) -> None:
        """Remember names that exist."""
        self._accounts.update(accounts)
        while len(self._accounts) > self._size_max:
            del self._accounts[next(iter(self._accounts))]

    def forget(self, names: Iterable[str]) -> None:
        """An account of these names may have ended: ask again."""
        for name in names:
            self._accounts.pop(fold(name), None)
