"""What a stream has not transmitted yet, in order; and how much of it fits in an envelope.

Deadlines are kept by the submission, and the soonest of all as a bound: `expiry` may be early, when what it stood for
is gone, and never late; whoever then looks finds the true one. A heap of all messages was exact, and a tenth of what a
message cost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from restante.events import Submission, Withdrawn
from restante.wire.envelopes import Limits
from restante.wire.errors import BodyTooLarge, ChatError, TooLarge

ENVELOPE_BYTES: Final = 1 << 20
"""Contents of one envelope, unless a single message is larger: more gains nothing."""

ENTRY_HEADER_BYTES: Final = 112
"""What one message takes of a header, at most, beside its content type and recipients."""

RECIPIENT_HEADER_BYTES: Final = 34
"""What one recipient takes of it: a name of 32 bytes and its length."""

SEND_HEADER_BYTES: Final = 1_024
"""What is left for the rest of the header: far more than it takes."""

Unfit = tuple[Submission, ChatError]
"""A message that fits in no envelope, and why."""


class Backlog:
    """Submissions that wait. None of them is settled: what is, is taken out."""

    def __init__(self) -> None:
        self._waiting: deque[Submission] = deque()
        self.messages = 0
        self.expiry = math.inf
        """Nothing that waits has its deadline before this."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, submissions: Sequence[Submission]) -> None:
        """Take submissions, in order, behind all others."""
        self._waiting.extend(submissions)
        self.messages += sum(map(len, submissions))
        self.expiry = min(self.expiry, soonest(submissions))

    def take(self, limits: Limits) -> tuple[list[Submission], list[Unfit]]:
        """What comes first, as much as an envelope holds by these limits; and what was before it and fits in none."""
        waiting, room = self._waiting, _Room(limits)
        taken, unfit = list[Submission](), list[Unfit]()
        while waiting and room.messages > 0:
            submission = waiting.popleft()
            fitting = room.take(submission)
            if fitting == len(submission):
                taken.append(submission)
            elif fitting:
                head, rest = submission.cut(fitting)
                waiting.appendleft(rest)
                taken.append(head)
            elif (why := _unfit(submission, limits)) is not None:
                first, *rest_of_it = submission.cut(1)
                waiting.extendleft(rest_of_it)
                unfit.append((first, why))
            else:
                waiting.appendleft(submission)
                break
        self.messages -= sum(map(len, taken)) + len(unfit)
        if not waiting:
            self.expiry = math.inf
        return taken, unfit

    def expire(self, now: float) -> list[Submission]:
        """Take out what is past its deadline."""
        return self._remove(lambda each: each.deadline <= now) if self.expiry <= now else []

    def withdraw(self, withdrawn: Withdrawn) -> list[Submission]:
        """Take out what nobody waits for any more."""
        self._waiting = deque(part for each in self._waiting for part in withdrawn.lay_open(each))
        return self._remove(withdrawn.means)

    def clear(self) -> list[Submission]:
        """Take out everything."""
        return self._remove(lambda _: True)

    def _remove(self, goes: Callable[[Submission], bool]) -> list[Submission]:
        gone = [each for each in self._waiting if goes(each)]
        self._waiting = deque(each for each in self._waiting if not goes(each))
        self.messages -= sum(map(len, gone))
        self.expiry = soonest(self._waiting)
        return gone


class _Room:
    """What is left of an envelope."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.messages = limits.messages_per_send
        self._recipients = limits.recipients_per_send
        self._bytes = min(ENVELOPE_BYTES, limits.body_bytes)
        self._header = limits.header_bytes - SEND_HEADER_BYTES
        self._empty = True

    def take(self, submission: Submission) -> int:
        """Let in what fits; how many of its messages, from the first on, that are."""
        sizes = submission.sizes
        readers = [1 if isinstance(to, str) else len(to) for to in submission.to]
        types = list(map(len, submission.content_types))
        limits = self._limits
        usual = max(sizes) <= limits.message_bytes and max(readers) <= limits.recipients_per_message
        if usual and self._fits(len(sizes), sum(sizes), sum(readers), sum(types)):
            self._let_in(len(sizes), sum(sizes), sum(readers), sum(types))
            return len(sizes)
        fitting = 0
        for size, recipients, content_type in zip(sizes, readers, types, strict=True):
            alone = self._empty  # to a lone message no bound applies but its own
            if _why_unfit(size, recipients, limits) is not None or not (
                alone or self._fits(1, size, recipients, content_type)
            ):
                break
            self._let_in(1, size, recipients, content_type)
            fitting += 1
        return fitting

    def _fits(self, messages: int, size: int, recipients: int, types: int) -> bool:
        return (
            messages <= self.messages
            and size <= self._bytes
            and recipients <= self._recipients
            and _header_bytes(messages, recipients, types) <= self._header
        )

    def _let_in(self, messages: int, size: int, recipients: int, types: int) -> None:
        self.messages -= messages
        self._bytes -= size
        self._recipients -= recipients
        self._header -= _header_bytes(messages, recipients, types)
        self._empty = False


def _header_bytes(messages: int, recipients: int, types: int) -> int:
    return messages * ENTRY_HEADER_BYTES + recipients * RECIPIENT_HEADER_BYTES + types


def _unfit(submission: Submission, limits: Limits) -> ChatError | None:
    """Why the first of these fits in no envelope that this server takes, if it doesn't."""
    to = submission.to[0]
    return _why_unfit(submission.sizes[0], 1 if isinstance(to, str) else len(to), limits)


def _why_unfit(size: int, recipients: int, limits: Limits) -> ChatError | None:
    if size > min(limits.message_bytes, limits.body_bytes):
        return BodyTooLarge(f"the message has {size} bytes, this server takes {limits.message_bytes}")
    if recipients > min(limits.recipients_per_message, limits.recipients_per_send):
        return TooLarge(f"{recipients} recipients, this server takes {limits.recipients_per_message} a message")
    return None


def soonest(submissions: Iterable[Submission]) -> float:
    """The first of their deadlines; inf if there is none."""
    return min([each.deadline for each in submissions], default=math.inf)
