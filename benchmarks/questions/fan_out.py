"""How long does one message to a thousand people take?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    report = stage.alone(stage.role("fan_out", times=sizes.fan_outs))
    stage.stored += stage.mailboxes * (report.count + report.warm)
    took = statistics.median(report.values)
    yield Sample(question="fan_out", peer=stage.peer.key, values={"took": took, "rate": stage.mailboxes / took})


QUESTION = Question(
    key="fan_out",
    title="One message to 1,000 recipients",
    method="One body of 256 bytes, in each of 1,000 mailboxes when it is acknowledged; by what the product has for it,"
    " else a message each, pipelined. One after the other; the median.",
    columns=(
        Column(key="took", header="acknowledged after", unit="ms"),
        Column(key="rate", header="recipients a second", unit="/s", plotted=False),
    ),
    ask=ask,
)
