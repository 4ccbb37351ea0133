"""What is asked of every peer: a module a question."""

from __future__ import annotations

from typing import Final

from benchmarks.questions import (
    bodies,
    clients,
    command,
    drain,
    each,
    fan_out,
    growth,
    latency,
    send,
    senders,
)
from benchmarks.questions.question import Question

QUESTIONS: Final[tuple[Question, ...]] = (
    send.QUESTION,
    each.QUESTION,
    senders.QUESTION,
    drain.QUESTION,
    latency.QUESTION,
    fan_out.QUESTION,
    growth.QUESTION,
    clients.QUESTION,
    bodies.QUESTION,
    command.QUESTION,
    send.CPU,
)
"""In the order of the report. One server is asked those that are not `fresh` in this order too: what the first ones
have stored, `drain` takes out."""


def chosen(keys: list[str]) -> list[Question]:
    """Those of these keys; all, if none is given. Raises ValueError."""
    known = {question.key for question in QUESTIONS}
    unknown = sorted(set(keys) - known)
    if unknown:
        raise ValueError(f"there is no question {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return [question for question in QUESTIONS if not keys or question.key in keys]
