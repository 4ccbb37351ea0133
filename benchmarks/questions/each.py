"""How many, if every message is a call of its own, as most programs send?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    report = stage.alone(stage.role("send", seconds=sizes.seconds, count=sizes.count, each=True), seconds=sizes.seconds)
    stage.stored += report.warm + report.count
    yield Sample(question="each", peer=stage.peer.key, values={"rate": report.count / report.seconds})


QUESTION = Question(
    key="each",
    title="One sender, each message a call of its own",
    method="As before, but the caller gives one message at a time to the library's public function, with as many"
    " calls on their way. Whatever batching there is, the library does.",
    columns=(Column(key="rate", header="messages a second", unit="/s"),),
    ask=ask,
)
