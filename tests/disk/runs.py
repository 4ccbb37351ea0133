"""What the store's and the accounts' power cuts have in common: a run with its calls, a cut, a failure's report.

A run does a random workload on a `Disk` and notes, for each call, where the disk's log stood when it was made and when
it was answered, and what the database held after it. A cut at op i must leave what the last call answered before i
had left; the call under way at i may be there wholly or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Generic, TypeVar

from msgspec import Struct

from tests.disk.platter import LOSSES, Loss, Platter, describe
from tests.disk.vfs import Op

Rows = Mapping[str, Sequence[tuple[object, ...]]]
"""A database's rows, by table."""

C = TypeVar("C")


class Violation(AssertionError):
    """A guarantee was broken. The text says which, where, and how to see it again."""


class Call(Struct, Generic[C], frozen=True):
    """One call that was answered."""

    what: C
    begun: int
    """Ops in the log when it was made."""
    ended: int
    """Ops in the log when it was answered."""
    rows: Rows
    """What the database holds after it."""


class Run(Struct, Generic[C], frozen=True):
    """A workload that was done while the power was on."""

    kind: str
    seed: int
    log: Sequence[Op]
    calls: Sequence[Call[C]]
    synchronous: str = "full"

    def replay(self, cut: int, loss: Loss) -> str:
        """The command that makes this cut again."""
        command = f"python -m tests.disk.cuts --only {self.kind} --seed {self.seed} --cut {cut} --loss '{loss}'"
        return command if self.synchronous == "full" else f"{command} --synchronous {self.synchronous}"


class Cut(Struct, Generic[C], frozen=True):
    """What a power cut at op `at` left, and what must be in it."""

    at: int
    loss: Loss
    image: Mapping[str, bytes]
    answered: Sequence[Call[C]]
    under_way: Call[C] | None
    dice: Random

    def may_hold(self) -> list[Rows]:
        """The contents that the database may have."""
        return [call.rows for call in (*self.answered[-1:], self.under_way) if call is not None]


def cuts(run: Run[C], count: int) -> Iterator[Cut[C]]:
    """`count` cuts (at least one an op, if there are fewer ops), spread evenly over all that was done to the disk.

    How much is lost goes round: each op is cut in another way from one round, and from one seed, to the next.
    """
    total = len(run.log)
    places: dict[int, list[Loss]] = {}
    for n in range(count):
        at = n * total // count
        places.setdefault(at, []).append(LOSSES[(n + run.seed) % len(LOSSES)])
    platter = Platter()
    for at, op in enumerate(run.log):
        if op.kind not in ("sync", "sync_directory"):
            platter.feed(op)  # the power goes while it is being done: any part of it may be there
        for loss in places.get(at, ()):
            yield cut_at(run, at, loss, platter)
        if op.kind in ("sync", "sync_directory"):
            platter.feed(op)  # the power went before it had ended


def one_cut(run: Run[C], at: int, loss: Loss) -> Cut[C]:
    """One cut of those, to look at."""
    platter = Platter()
    for op in run.log[:at]:
        platter.feed(op)
    if run.log[at].kind not in ("sync", "sync_directory"):
        platter.feed(run.log[at])
    return cut_at(run, at, loss, platter)


def cut_at(run: Run[C], at: int, loss: Loss, platter: Platter) -> Cut[C]:
    """Cut the power while op `at` is done, which the platter holds as far as it may."""
    dice = Random(f"{run.seed} {at} {loss}")
    answered = [call for call in run.calls if call.ended <= at]
    under_way = run.calls[len(answered)] if len(answered) < len(run.calls) else None
    return Cut(at, loss, platter.cut(loss, dice), answered, under_way, dice)


def blame(run: Run[C], cut: Cut[C], what: str) -> Violation:
    """What to raise when a cut broke a promise."""
    return Violation(
        f"{what}\n"
        f"  {run.kind}, seed {run.seed}: the power was cut at op {cut.at} of {len(run.log)} "
        f"({run.log[cut.at].kind} {run.log[cut.at].file}), {cut.loss};\n"
        f"  {len(cut.answered)} calls had been answered; found: {describe(cut.image)}\n"
        f"  again: {run.replay(cut.at, cut.loss)}"
    )


def differences(found: Rows, wanted: Sequence[Rows]) -> str:
    """Where the rows found are none of those wanted; empty if they are one of them."""
    if any(found == one for one in wanted):
        return ""
    nearest = min(wanted, key=lambda one: sum(found[table] != one[table] for table in one))
    lines = []
    for table, rows in nearest.items():
        lost = [row for row in rows if row not in found[table]]
        extra = [row for row in found[table] if row not in rows]
        if lost or extra:
            lines.append(f"{table}: {len(lost)} lost {lost[:2]}, {len(extra)} too many {extra[:2]}")
    return "; ".join(lines) or "the same rows in another order"
