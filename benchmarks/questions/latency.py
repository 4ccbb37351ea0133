"""How long until the other side has it?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.player import WARM_S
from benchmarks.questions.drain import empty
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    if stage.stored:
        empty(stage)  # a subscriber would get the backlog first
    for rate in sizes.rates:
        seconds = WARM_S + sizes.pace_seconds
        reader = stage.role("follow", count=round(rate * seconds))
        sender = stage.role("pace", number=1, rate=rate, seconds=sizes.pace_seconds)
        try:
            report = stage.play(reader, sender, seconds=seconds)[0]
        finally:
            stage.dismiss()
        yield Sample(question="latency", peer=stage.peer.key, point=str(rate), values=report.percentiles)


QUESTION = Question(
    key="latency",
    title="From send to subscriber",
    method="One process sends 256 bytes to one mailbox at fixed times, whatever has become of the messages before (an"
    " open loop); another subscribes to it and acknowledges. The age of a message counts from when it was due to when"
    " its bytes are there. The first second does not count.",
    axis="messages a second",
    columns=(
        Column(key="p50", header="p50", unit="ms"),
        Column(key="p99", header="p99", unit="ms"),
        Column(key="p99.9", header="p99.9", unit="ms", plotted=False),
    ),
    ask=ask,
)
