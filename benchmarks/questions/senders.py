"""How many do four senders get through at the same time?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage, rates

SENDERS: Final = 4


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    if not stage.rate:
        report = stage.alone(stage.role("send", seconds=sizes.seconds / 2, count=sizes.count))
        stage.stored += report.warm + report.count
        stage.rate = report.count / report.seconds
    count = sizes.count or max(100, round(stage.rate * sizes.seconds / SENDERS))
    roles = [stage.role("send", number=number, count=count, warm=min(count, 500)) for number in range(SENDERS)]
    try:
        reports = stage.play(*roles, seconds=sizes.seconds)
    finally:
        stage.dismiss()
    stage.stored += sum(report.warm + report.count for report in reports)
    yield Sample(question="senders", peer=stage.peer.key, values={"rate": rates(reports)})


QUESTION = Question(
    key="senders",
    title="Four senders at the same time",
    method="Four client processes send equal shares to the same 1,000 mailboxes, each with as many messages"
    " unacknowledged. Counted from the first send to the last acknowledgement.",
    columns=(Column(key="rate", header="messages a second, all", unit="/s"),),
    ask=ask,
)
