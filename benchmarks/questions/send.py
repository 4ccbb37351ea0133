"""How many messages a second can one sender have stored? And what does one cost, by process?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Stage, Usage

MICRO: Final = 1e6


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    before: list[Usage] = []
    role = stage.role("send", seconds=sizes.seconds, count=sizes.count)
    try:
        report = stage.play(role, seconds=sizes.seconds, before=lambda: before.append(stage.usage()))[0]
        used = stage.usage().since(before[0])  # while the sender is still connected: some servers fork for each
    finally:
        stage.dismiss()
    stage.stored += report.warm + report.count
    stage.rate = report.count / report.seconds
    yield Sample(question="send", peer=stage.peer.key, values={"rate": stage.rate})
    each = {name: seconds / report.count * MICRO for name, seconds in used.items() if seconds}
    client = report.cpu_s / report.count * MICRO
    yield Sample(
        question="cpu", peer=stage.peer.key, values={"all": client + sum(each.values()), "client": client, **each}
    )


QUESTION = Question(
    key="send",
    title="One sender, 256 bytes to 1,000 mailboxes",
    method="One client process sends for some seconds, pipelined, with as many messages unacknowledged as it is fastest"
    " with, in the way its library is fastest, and waits for every acknowledgement.",
    columns=(Column(key="rate", header="messages a second", unit="/s"),),
    ask=ask,
)

CPU = Question(
    key="cpu",
    title="Processor time a message, by process",
    method="User and system time of every process over the sends of the first question, client included; a server's"
    " is counted in hundredths of a second.",
    columns=(
        Column(key="all", header="all", unit="µs"),
        Column(key="client", header="client", unit="µs", plotted=False),
    ),
    ask=ask,
)
