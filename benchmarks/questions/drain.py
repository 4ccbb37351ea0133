"""How fast is what was stored fetched and acknowledged?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.player import Report
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Failed, Stage


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    if not stage.stored:
        report = stage.alone(stage.role("send", seconds=sizes.seconds, count=sizes.count))
        stage.stored += report.warm + report.count
    expected = stage.stored
    report = empty(stage)
    if report.count < expected:
        raise Failed(f"of {expected:,} messages {report.count:,} could be fetched")
    yield Sample(question="drain", peer=stage.peer.key, values={"rate": report.count / report.seconds})


def empty(stage: Stage) -> Report:
    """Take out all that is stored."""
    report = stage.alone(stage.role("drain", count=stage.stored))
    stage.stored = 0
    return report


QUESTION = Question(
    key="drain",
    title="Fetch and acknowledge everything",
    method="One client process takes all that the questions before have stored out of the 1,000 mailboxes, 256 bytes"
    " each, and acknowledges every message. Connections and subscriptions stand before the clock starts.",
    columns=(Column(key="rate", header="messages a second", unit="/s"),),
    ask=ask,
)
