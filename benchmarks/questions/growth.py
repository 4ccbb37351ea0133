"""Does it stay so when there are ten million?"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import Final

from benchmarks.peers.peer import NotOffered
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage

PAGE: Final = 50
LOOKS: Final = 50


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    for target in sizes.growth:
        missing = max(0, target - stage.stored)
        if stage.rate and missing / stage.rate > sizes.growth_s:
            return  # the table shows how far it came
        if missing:
            filled = stage.alone(stage.role("send", count=missing, warm=0), seconds=sizes.growth_s * 2)
            stage.stored += filled.count
            stage.rate = filled.count / filled.seconds
        sent = stage.alone(stage.role("send", seconds=sizes.seconds, count=sizes.count), seconds=sizes.seconds)
        stage.stored += sent.warm + sent.count
        values = {"rate": sent.count / sent.seconds, "disk": float(stage.server.data_bytes())}
        with contextlib.suppress(NotOffered):
            values["page"] = statistics.median(stage.alone(stage.role("look", count=PAGE, times=LOOKS)).values)
        yield Sample(question="growth", peer=stage.peer.key, point=str(target), values=values)


QUESTION = Question(
    key="growth",
    title="From 10 thousand to 10 million stored",
    method="Nothing is read meanwhile. At each size: sends as in the first question, a page of 50 messages of an inbox"
    " (median of 50 looks at ten mailboxes in turn, the newest messages, or the oldest where those are what can be"
    " looked at), and what the data takes on disk. A peer that would take too long to the next size stops there.",
    axis="messages stored",
    columns=(
        Column(key="rate", header="messages a second", unit="/s"),
        Column(key="page", header="a page of the inbox", unit="ms"),
        Column(key="disk", header="on disk", unit="bytes", plotted=False),
    ),
    ask=ask,
    fresh=True,
    not_for=("restante-plain", "zeromq"),  # it has the same store; it would only fill memory
)
