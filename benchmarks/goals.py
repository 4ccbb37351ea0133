"""What this product has to reach beside the others, in one run, and whether it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from benchmarks.figures import short
from benchmarks.results import Results, points
from benchmarks.tables import table

OURS: Final = "restante"
LIMITS: Final = frozenset({"zeromq", "sqlite", "sqlite-append"})

CLIENT_BYTES_MAX: Final = 48_000
"""Of which libzmq's CURVE alone takes 39,000."""


class Goal(Struct, frozen=True):
    """A ratio, or another number, and the bound it has to keep."""

    text: str
    found: float | None
    """None: what it needs was not measured in this run."""
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.found is None:
            return None
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def goals(results: Results) -> list[Goal]:
    """All of them, in the order of the questions."""
    send = medians(results, "send", "rate")
    each = medians(results, "each", "rate")
    drain = medians(results, "drain", "rate")
    found = [
        Goal("sends, to Redis Streams", over(send, "redis"), 2.0),
        Goal("sends, to RabbitMQ, durable queue", over(send, "rabbitmq-classic"), 8.0),
        Goal("sends, to JetStream by default", over(send, "jetstream"), 8.0),
        Goal("sends, to SQLite's log alone", over(send, "sqlite-append"), 0.5),
        Goal("each a call of its own, to sends", ratio(each.get(OURS), send.get(OURS)), 0.4),
        Goal("drain, to the best durable peer", ratio(drain.get(OURS), best(results, drain)), 1.0),
    ]
    found += latency(results)
    found += growth(results)
    clients = medians(results, "clients", "each", points(results.samples, "clients")[-1:])
    command = medians(results, "command", "ratio")
    found += [
        Goal("bytes a connected client, at the most clients", clients.get(OURS), CLIENT_BYTES_MAX, at_least=False),
        Goal("`chat send`, to the bare imports", command.get(OURS), 1.5, at_least=False),
    ]
    return found


def latency(results: Results) -> Iterator[Goal]:
    """At 1,000 a second less than every durable peer's; at 5,000 no long tail."""
    for column in ("p50", "p99"):
        ages = medians(results, "latency", column, ["1000"])
        others = [age for key, age in ages.items() if key in durable_peers(results)]
        best_other = min(others, default=None)
        yield Goal(
            f"{column} at 1,000 a second, to the best durable peer",
            ratio(ages.get(OURS), best_other),
            1.0,
            at_least=False,
        )
    p50, p99 = (medians(results, "latency", column, ["5000"]).get(OURS) for column in ("p50", "p99"))
    yield Goal("p99 at 5,000 a second, to p50", ratio(p99, p50), 10.0, at_least=False)


def growth(results: Results) -> Iterator[Goal]:
    """At the last size, to a new server of the first."""
    axis = points(results.samples, "growth")
    for column, what, bound in (("rate", "sends", 0.8), ("page", "a page of the inbox", 1.25)):
        found = medians(results, "growth", f"{column}_beside", axis[-1:]).get(OURS) if len(axis) > 1 else None
        where = f"{int(axis[-1]):,} stored, to {int(axis[0]):,}" if len(axis) > 1 else "10,000,000 stored, to 10,000"
        yield Goal(f"{what} at {where}", found, bound, at_least=column == "rate")


def medians(results: Results, question: str, column: str, at: list[str] | None = None) -> dict[str, float]:
    """By peer: the median at a point, or of a question that has none."""
    wanted = [""] if at is None else at
    return {peer: one.median for (peer, point), one in results.figures(question, column).items() if point in wanted}


def durable_peers(results: Results) -> set[str]:
    """Products other than this one, whose OK comes after a sync."""
    return {
        peer.key
        for peer in results.peers
        if peer.durable and peer.key not in LIMITS and peer.key.partition("-")[0] != OURS
    }


def best(results: Results, rates: dict[str, float]) -> float | None:
    """The greatest of the durable peers'."""
    return max((rate for key, rate in rates.items() if key in durable_peers(results)), default=None)


def over(rates: dict[str, float], other: str) -> float | None:
    """How many times another's rate ours is."""
    return ratio(rates.get(OURS), rates.get(other))


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def report(results: Results) -> str:
    """The goals as a table."""
    rows = []
    for goal in goals(results):
        bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:,g}"
        found = "not measured" if goal.found is None else short(goal.found)
        rows.append([goal.text, bound, found, {None: "", True: "yes", False: "no"}[goal.met]])
    return "## Goals\n\n" + table(["Restante's", "goal", "found", "reached"], rows)
