"""The table at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

LOST: Final = "G1"
DOUBLED: Final = "G2"
DISORDERED: Final = "G3"

LABEL: Final = 30
FIGURE: Final = 11


class Violation(Struct, frozen=True):
    """A promise that was not kept, as the checker says it, or the judge."""

    guarantee: str
    text: str

    def __str__(self) -> str:
        return f"{self.guarantee}: {self.text}"


class Round(Struct):
    """What became of one round."""

    name: str
    seed: int
    accepted: int = 0
    refused: int = 0
    delivered: int = 0
    """Messages in the mailboxes at the end: one to three people is in three."""
    read: int = 0
    unread: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    net: Counter[str] = field(default_factory=Counter)
    """What the proxy did: connections made by link, mishaps by kind."""
    retries: int = 0
    """Calls that failed in a way that passes, and sends that were started again in doubt."""
    again: int = 0
    reconnects: int = 0
    violations: list[Violation] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What is no broken promise, and should not be: a crash, a client that can't go on."""

    @property
    def sound(self) -> bool:
        return not self.violations and not self.complaints

    def broken_texts(self, most: int = 20) -> list[str]:
        """What there is to complain of, the first of each."""
        return [*map(str, self.violations[:most]), *self.complaints[:most]]

    def broken(self, *guarantees: str) -> int:
        return sum(violation.guarantee in guarantees for violation in self.violations)


def table(rounds: list[Round]) -> str:
    """All rounds, a column each, and their sum."""
    rows: list[tuple[str, list[int]]] = []

    def row(label: str, figures: Iterable[int]) -> None:
        rows.append((label, list(figures)))

    row("messages accepted", (each.accepted for each in rounds))
    row("  refused, as they had to be", (each.refused for each in rounds))
    row("  in mailboxes", (each.delivered for each in rounds))
    row("  read", (each.read for each in rounds))
    row("  left unread on purpose", (each.unread for each in rounds))
    row("kills", (each.kills.total() for each in rounds))
    for name in _names(each.kills for each in rounds):
        row(f"  {name}", (each.kills[name] for each in rounds))
    row("stops and continuations", (each.stops.total() for each in rounds))
    row("restarts in order", (each.restarts.total() for each in rounds))
    for kind in ("cuts", "half-opens", "stalls", "delays", "refusals"):
        row(kind, (each.net[kind] for each in rounds))
    row("retries", (each.retries for each in rounds))
    row("  found stored before", (each.again for each in rounds))
    row("reconnects", (each.reconnects for each in rounds))
    row("lost", (each.broken(LOST) for each in rounds))
    row("doubled", (each.broken(DOUBLED) for each in rounds))
    row("out of order", (each.broken(DISORDERED) for each in rounds))
    row("other promises broken", (len(each.violations) - each.broken(LOST, DOUBLED, DISORDERED) for each in rounds))
    row("complaints", (len(each.complaints) for each in rounds))

    heads = [f"{number} {each.name}" for number, each in enumerate(rounds, 1)]
    lines = [_line("", [*heads, "all"])]
    lines += [_line(label, [*(f"{n:,}" for n in figures), f"{sum(figures):,}"]) for label, figures in rows]
    return "\n".join(lines)


def _names(counters: Iterable[Counter[str]]) -> list[str]:
    return sorted({name for counter in counters for name in counter})


def _line(label: str, figures: list[str]) -> str:
    return label.ljust(LABEL) + "".join(figure.rjust(FIGURE) for figure in figures)
