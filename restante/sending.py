"""The one stream of sends of a session: batching, order, retry.

    Submitted ─▶ backlog ─▶ envelope n ─▶ in flight ─▶ sent: settled
                               ▲              │
                               └── rewinding ◀┴ refused `busy`, `gap`; connection lost

What waits becomes an envelope whenever the window has room: an idle session sends one message at once, a busy one
hundreds together. Two envelopes may be out whatever they hold, so that nothing waits for an answer as long as answers
come as fast as messages; more, up to the window, only full ones. So who sends faster than answers come sends fewer
envelopes with more in them: each costs three processes as much as fifty of the messages that it holds.

Envelopes are numbered; the broker takes only the next number (RULES 10). If one is refused as a whole, or the
connection is lost, the stream *rewinds*: it transmits nothing more until every envelope that is out has its answer,
waits as long as it was told, then numbers what is unanswered anew from the lowest and transmits it in order, before
anything new. A message keeps its place and its id in all this, so nothing is stored twice or out of order.

Invariants: `flight` is in the order of submission, and its envelopes that are out are in the order of their numbers;
nothing in the backlog was ever transmitted; nothing new is transmitted while rewinding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, TypeVar

from restante.backlog import ENVELOPE_BYTES, Backlog, soonest
from restante.events import Action, Return, Settle, Submission, Transmit, Withdrawn
from restante.wire.columns import fits
from restante.wire.envelopes import TEXT, ApartResult, Error, Limits, Send, Sent
from restante.wire.errors import CODES, ChatError, OutcomeUnknown, RefusedError
from restante.wire.ids import show_id

T = TypeVar("T")

WINDOW_ENVELOPES: Final = 8
"""Envelopes in flight. Enough to keep the broker and the store busy while answers travel."""

EAGER_ENVELOPES: Final = 2
"""Envelopes in flight up to which one goes that is not full; past it, what waits makes the next one larger. With one, a
message would wait for the answer to the one before; with more, 5,000 messages a second are as many envelopes."""

WINDOW_BYTES: Final = 8 << 20
"""Contents in flight: a quarter of what the broker holds for one session."""

SPLIT_CODES: Final = frozenset({"bad_request", "too_large", "internal"})
"""Final refusals of an envelope that one of its messages may be the cause of: the others are not to suffer for it."""

DOUBTFUL_CODES: Final = frozenset({"unavailable", "internal"})
"""Refusals after which it isn't known whether something was stored."""


class Envelope:
    """Submissions that travel together."""

    __slots__ = ("doubtful", "expiry", "n", "refusal", "request_id", "sent_at", "size", "submissions")

    def __init__(self, submissions: list[Submission]) -> None:
        self.submissions = submissions
        self.size = sum([each.size for each in submissions])
        """Bytes of the contents."""
        self.expiry = soonest(submissions)
        """Nothing of it that waits has its deadline before this."""
        self.n = 0
        self.request_id = 0
        """Of its transmission that is not answered yet; 0: none is."""
        self.sent_at = 0.0
        self.doubtful = False
        """Some transmission of it was never answered: it may be stored."""
        self.refusal: RefusedError | None = None
        """Why the last transmission was refused, if it was."""

    @property
    def unsettled(self) -> list[Submission]:
        """What of it still waits."""
        return [each for each in self.submissions if not each.settled]


class Stream:
    """Messages from their submission to their end."""

    def __init__(self, stream_id: bytes, new_request_id: Callable[[], int]) -> None:
        self._id = stream_id
        self._new_request_id = new_request_id
        self._backlog = Backlog()
        self._flight: list[Envelope] = []
        self._next_n = 1
        self._rewinding = False
        self._go_back: int | None = None
        """While rewinding: the number to go on from, if it is not that of the first in flight."""
        self._hold_until = 0.0
        self.unsettled = 0
        """Messages that are not settled."""
        self.unsettled_bytes = 0
        """Their contents."""

    @property
    def crowded(self) -> bool:
        """Whether one more message would not go now: others are out and it fills no envelope, or the stream rewinds."""
        return self._rewinding or len(self._flight) >= EAGER_ENVELOPES

    @property
    def active(self) -> bool:
        """Whether there is anything to do on a connection."""
        return self.unsettled > 0

    def submit(self, submissions: list[Submission]) -> None:
        """Take messages, in order."""
        self._backlog.add(submissions)
        self.unsettled += sum(map(len, submissions))
        self.unsettled_bytes += sum([each.size for each in submissions])

    def refuse(self, submissions: list[Submission], error: ChatError, actions: list[Action]) -> None:
        """Return messages that are not even taken."""
        for submission in submissions:
            submission.settled = True
            actions.append(Return(submission, [error] * len(submission)))

    # --- transmitting -------------------------------------------------------------------------------------

    def transmit(self, limits: Limits, now: float, actions: list[Action]) -> None:
        """Send what there is room for."""
        if self._rewinding and not self._rewound(now):
            return
        for envelope in self._flight:
            if not envelope.request_id:
                self._send(envelope, now, actions)
        while self._backlog and self._room(limits):
            self._form(limits, now, actions)

    def expiry(self) -> float:
        """Until when no message is past its deadline; inf if none waits."""
        return min([self._backlog.expiry, *[envelope.expiry for envelope in self._flight]])

    def next_transmission(self) -> float:
        """When a wait that the broker asked for is over; inf if there is none. Of meaning only on a connection."""
        return self._hold_until if self._rewinding and self._flight and not self._any_out() else math.inf

    def oldest_sent_at(self) -> float:
        """When the transmission was made that has waited longest for its answer; inf if none waits."""
        return min((envelope.sent_at for envelope in self._flight if envelope.request_id), default=math.inf)

    def _room(self, limits: Limits) -> bool:
        out, size = len(self._flight), sum(envelope.size for envelope in self._flight)
        if out >= WINDOW_ENVELOPES or size >= WINDOW_BYTES:
            return False
        fills_one = self._backlog.messages >= limits.messages_per_send or self.unsettled_bytes - size >= ENVELOPE_BYTES
        return out < EAGER_ENVELOPES or fills_one

    def _any_out(self) -> bool:
        return any(envelope.request_id for envelope in self._flight)

    def _rewound(self, now: float) -> bool:
        """Try to end the rewinding: whether sending may go on."""
        if self._any_out() or now < self._hold_until:
            return False
        if self._go_back is not None:
            self._next_n = self._go_back
        elif self._flight:
            self._next_n = self._flight[0].n
        for envelope in self._flight:
            envelope.submissions = envelope.unsettled
            envelope.size = sum([each.size for each in envelope.submissions])
        self._flight = [envelope for envelope in self._flight if envelope.submissions]
        self._rewinding, self._go_back = False, None
        return True

    def _form(self, limits: Limits, now: float, actions: list[Action]) -> None:
        """Make an envelope of what waits, as much as the limits let in, and send it."""
        taken, unfit = self._backlog.take(limits)
        for message, why in unfit:
            self._fail(message, why, actions)
        if taken:
            envelope = Envelope(taken)
            self._flight.append(envelope)
            self._send(envelope, now, actions)

    def _send(self, envelope: Envelope, now: float, actions: list[Action]) -> None:
        envelope.n = self._next_n
        self._next_n += 1
        envelope.request_id = self._new_request_id()
        envelope.sent_at = now
        actions.append(_transmission(envelope, self._id))

    # --- answers ------------------------------------------------------------------------------------------

    def answered(self, answer: Sent, actions: list[Action]) -> bool:
        """Settle an envelope's messages. False if it is no answer to what was sent."""
        envelope = self._take(answer.id)
        if envelope is None:
            return True
        if not fits(answer.seqs, answer.apart, sum(map(len, envelope.submissions))):
            envelope.doubtful = True
            return False
        self._flight.remove(envelope)
        if self._go_back is not None:  # what was expected then is no more, if this was accepted since
            self._go_back = max(self._go_back, envelope.n + 1)
        stop = 0
        for submission in envelope.submissions:
            start, stop = stop, stop + len(submission)
            if not submission.settled:  # else its time was up meanwhile, or nobody waits any more
                apart = _apart_between(answer.apart, start, stop)
                actions.append(Settle(submission, answer.seqs[start:stop], answer.stored_at_us, apart))
                self._settled(submission)
        return True

    def refused(self, error: Error, wait_s: float, now: float, actions: list[Action]) -> None:
        """An envelope was refused as a whole. `wait_s` is how long to wait if it may pass."""
        envelope = self._take(error.id or 0)
        if envelope is None:
            return
        refusal = RefusedError.of(error.code, error.text, error.retry_after_ms)
        if error.code == "gap" and error.expected is not None and error.expected != envelope.n:
            envelope.refusal = next((e.refusal for e in self._flight if e.refusal), refusal)
            self._rewind(error.expected)
            return
        envelope.refusal = refusal
        envelope.doubtful = envelope.doubtful or error.code in DOUBTFUL_CODES
        self._rewind(envelope.n if self._go_back is None else min(self._go_back, envelope.n))
        if error.code in CODES and CODES[error.code].passes:
            self._hold_until = max(self._hold_until, now + wait_s)
            self._give_up(envelope, self._hold_until, actions)
        elif error.code in SPLIT_CODES and sum(map(len, envelope.submissions)) > 1:
            self._split(envelope)
        else:
            for submission in envelope.unsettled:
                self._fail(submission, refusal, actions)

    def lost(self) -> None:
        """The connection is gone, and with it the answers."""
        for envelope in self._flight:
            if envelope.request_id:
                envelope.request_id, envelope.doubtful, envelope.refusal = 0, True, None
        self._rewinding, self._go_back, self._hold_until = bool(self._flight), None, 0.0

    def waits_for(self, request_id: int) -> bool:
        """Whether this request is one of this stream's that are out."""
        return any(envelope.request_id == request_id for envelope in self._flight)

    def _take(self, request_id: int) -> Envelope | None:
        for envelope in self._flight:
            if envelope.request_id == request_id:
                envelope.request_id = 0
                return envelope
        return None

    def _rewind(self, n: int) -> None:
        if not self._rewinding:
            self._rewinding, self._hold_until = True, 0.0
        self._go_back = n

    def _split(self, envelope: Envelope) -> None:
        """Two halves in its place, each to be tried by itself."""
        at = self._flight.index(envelope)
        halves = [Envelope(part) for part in _halves(envelope.unsettled) if part]
        for half in halves:
            half.n, half.doubtful = envelope.n, envelope.doubtful
        self._flight[at : at + 1] = halves

    # --- endings ------------------------------------------------------------------------------------------

    def expire(self, now: float, untold: Callable[[], ChatError], actions: list[Action]) -> None:
        """End what is past its deadline. `untold` makes the error for what was never transmitted."""
        for submission in self._backlog.expire(now):
            self._settled(submission)
            actions.append(Return(submission, [untold() for _ in submission.ids]))
        for envelope in self._flight:
            if envelope.expiry <= now:
                self._give_up(envelope, now, actions)

    def fail_all(self, error: ChatError, actions: list[Action]) -> None:
        """End all that is unsettled: with the error, or in doubt where something was transmitted."""
        for envelope in self._flight:
            in_doubt = envelope.doubtful or envelope.request_id
            for submission in envelope.unsettled:
                if in_doubt:
                    self._doubt(submission, str(error), actions)
                else:
                    self._fail(submission, error, actions)
        for submission in self._backlog.clear():
            self._fail(submission, error, actions)
        self._flight = [envelope for envelope in self._flight if envelope.request_id]

    def withdraw(self, withdrawn: Withdrawn) -> None:
        """Forget who asked for these."""
        for submission in self._backlog.withdraw(withdrawn):
            self._settled(submission)
        for envelope in self._flight:
            envelope.submissions = [part for each in envelope.submissions for part in withdrawn.lay_open(each)]
            for submission in filter(withdrawn.means, envelope.unsettled):
                self._settled(submission)

    def _give_up(self, envelope: Envelope, time: float, actions: list[Action]) -> None:
        """End what an envelope holds that is past its deadline at a time: now, or when it could go again."""
        refusal = envelope.refusal
        for submission in envelope.unsettled:
            if submission.deadline > time:
                continue
            if refusal is not None and not envelope.doubtful and not envelope.request_id:
                self._fail(submission, refusal, actions)
            else:
                last = f" (last answer: {refusal.text})" if refusal is not None else ""
                self._doubt(submission, "no answer came in the time allowed" + last, actions)
        envelope.expiry = soonest(envelope.unsettled)

    def _fail(self, submission: Submission, error: ChatError, actions: list[Action]) -> None:
        """End messages of which none is stored."""
        self._settled(submission)
        actions.append(Return(submission, [error] * len(submission)))

    def _doubt(self, submission: Submission, why: str, actions: list[Action]) -> None:
        """End messages that may be stored."""
        self._settled(submission)
        actions.append(Return(submission, [in_doubt(message_id, why) for message_id in submission.ids]))

    def _settled(self, submission: Submission) -> None:
        submission.settled = True
        self.unsettled -= len(submission)
        self.unsettled_bytes -= submission.size
        submission.bodies = []  # they go nowhere any more, and the envelope may keep the rest for a while


def _transmission(envelope: Envelope, stream: bytes) -> Transmit:
    """An envelope as it travels."""
    submissions = envelope.submissions
    types = _joined([each.content_types for each in submissions])
    answered = _joined([each.reply_to for each in submissions])
    header = Send(
        id=envelope.request_id,
        stream=stream,
        n=envelope.n,
        ids=_joined([each.ids for each in submissions]),
        to=_joined([each.to for each in submissions]),
        sizes=_joined([each.sizes for each in submissions]),
        content_types=types if types.count(TEXT) < len(types) else [],
        sent_at_us=_joined([[each.sent_at_us] * len(each) for each in submissions]),
        reply_to=answered if any(answered) else [],
    )
    bodies = _joined([each.bodies for each in submissions])
    return Transmit(header, b"".join(bodies))


def _joined(columns: Sequence[list[T]]) -> list[T]:
    """One column of several."""
    return columns[0] if len(columns) == 1 else list(chain.from_iterable(columns))


def _apart_between(apart: Sequence[ApartResult], start: int, stop: int) -> list[ApartResult]:
    """Those of an answer's results that stand apart in some places, each by its place among them."""
    return [ApartResult(place=e.place - start, result=e.result) for e in apart if start <= e.place < stop]


def _halves(submissions: Sequence[Submission]) -> tuple[list[Submission], list[Submission]]:
    """As many messages in the one as in the other, or one more."""
    first, second = list[Submission](), list[Submission]()
    left = sum(map(len, submissions)) // 2
    for submission in submissions:
        for part in submission.cut(min(left, len(submission))):
            (first if left else second).append(part)
            left -= min(left, len(part))
    return first, second


def in_doubt(message_id: bytes, why: str) -> OutcomeUnknown:
    """Return the error of a message that may be stored."""
    text = f"message {show_id(message_id)} was sent, but it is not known whether it was stored: {why}. "
    return OutcomeUnknown(text + "Send it again with the same id: it is never stored twice", message_id=message_id)
