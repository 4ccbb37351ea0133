"""What does a message's size cost?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.player import WARM_MESSAGES
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage

WARM_BYTES_MAX: Final = 16 << 20


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    for size in sizes.bodies:
        warm = min(WARM_MESSAGES, WARM_BYTES_MAX // size)
        report = stage.alone(
            stage.role("send", body_bytes=size, seconds=sizes.seconds / 2, count=sizes.count, warm=warm),
            seconds=sizes.seconds,
        )
        stage.stored += report.warm + report.count
        rate = report.count / report.seconds
        yield Sample(
            question="bodies", peer=stage.peer.key, point=str(size), values={"rate": rate, "bytes": rate * size}
        )


QUESTION = Question(
    key="bodies",
    title="Bodies from 16 bytes to 1 MiB",
    method="As the first question, with other sizes; no more than 64 MiB are unacknowledged.",
    axis="bytes",
    columns=(
        Column(key="rate", header="messages a second", unit="/s"),
        Column(key="bytes", header="bytes a second", unit="bytes", plotted=False),
    ),
    ask=ask,
)
