"""Does it stay so when there are ten million?"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import Final

from benchmarks import quiet
from benchmarks.peers.peer import NotOffered
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage

PAGE: Final = 50
LOOKS: Final = 50


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    first = sizes.growth[0]
    for target in sizes.growth:
        if not fill(stage, target, sizes):
            return  # the table shows how far it came
        values = looked_at(stage, sizes) if target == first else beside_a_young_one(stage, sizes, first)
        yield Sample(question="growth", peer=stage.peer.key, point=str(target), values=values)


def fill(stage: Stage, target: int, sizes: Sizes) -> bool:
    """Send until so many are stored; False if that would take too long."""
    missing = max(0, target - stage.stored)
    if stage.rate and missing / stage.rate > sizes.growth_s:
        return False
    if missing:
        filled = stage.alone(stage.role("send", count=missing, warm=0), seconds=sizes.growth_s * 2)
        stage.stored += filled.count
        stage.rate = filled.count / filled.seconds
    return True


def looked_at(stage: Stage, sizes: Sizes) -> dict[str, float]:
    """The rate of sends, the time of a page if there is such a thing, and the size on disk."""
    quiet.settle(sizes.memory)
    sent = stage.alone(stage.role("send", seconds=sizes.seconds, count=sizes.count), seconds=sizes.seconds)
    stage.stored += sent.warm + sent.count
    values = {"rate": sent.count / sent.seconds, "disk": float(stage.server.data_bytes())}
    with contextlib.suppress(NotOffered):
        values["page"] = statistics.median(stage.alone(stage.role("look", count=PAGE, times=LOOKS)).values)
    return values


def beside_a_young_one(stage: Stage, sizes: Sizes, first: int) -> dict[str, float]:
    """The same, and how it compares with a server of the first size, looked at just before and just after: minutes lie
    between the sizes of one server, and a machine that others share is slower or faster by then.
    """
    with stage.another() as young:
        fill(young, first, sizes)
        before = looked_at(young, sizes)
        values = looked_at(stage, sizes)
    with stage.another() as young:
        fill(young, first, sizes)
        after = looked_at(young, sizes)
    for column in ("rate", "page"):
        if column in values:
            values[f"{column}_beside"] = values[column] / statistics.mean((before[column], after[column]))
    return values


QUESTION = Question(
    key="growth",
    title="From 10 thousand to 10 million stored",
    method="Nothing is read meanwhile. At each size: sends as in the first question, a page of 50 messages of an inbox"
    " (median of 50 looks at ten mailboxes in turn, the newest messages, or the oldest where those are what can be"
    " looked at), and what the data takes on disk. Before and after each size but the first a new server, with as many"
    " as the first size, is asked the same: the columns with × compare with the mean of those two, since a machine may"
    " have become slower or faster in the minutes that lie between sizes. A peer that would take too long to the next"
    " size stops there.",
    axis="messages stored",
    columns=(
        Column(key="rate", header="messages a second", unit="/s"),
        Column(key="rate_beside", header="that, to a new server's", unit="×", plotted=False),
        Column(key="page", header="a page of the inbox", unit="ms"),
        Column(key="page_beside", header="that, to a new server's", unit="×", plotted=False),
        Column(key="disk", header="on disk", unit="bytes", plotted=False),
    ),
    ask=ask,
    fresh=True,
    not_for=("restante-plain", "zeromq"),  # it has the same store; it would only fill memory
)
