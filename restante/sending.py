"""The one stream of sends of a session: batching, order, retry.

    Submitted ─▶ queue ─▶ envelope n ─▶ in flight ─▶ sent: settled
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
nothing in `queue` was ever transmitted; nothing new is transmitted while rewinding.

Deadlines are kept by the lot: each envelope knows its soonest, the queue a time that none of its own comes before. So
`expiry` may be early, when what it stood for is settled, and never late; whoever then looks finds the true one. A heap
of all messages was exact, and a tenth of what a message cost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from operator import attrgetter
from typing import Final

from restante.events import IN_FLIGHT, SETTLED, Action, Conclude, Return, Settle, Submission, Transmit
from restante.wire.columns import fits
from restante.wire.envelopes import Error, Item, Limits, Result, Send, Sent
from restante.wire.errors import CODES, BodyTooLarge, ChatError, OutcomeUnknown, RefusedError, TooLarge
from restante.wire.ids import show_id

WINDOW_ENVELOPES: Final = 8
"""Envelopes in flight. Enough to keep the broker and the store busy while answers travel."""

EAGER_ENVELOPES: Final = 2
"""Envelopes in flight up to which one goes that is not full; past it, what waits makes the next one larger. With one, a
message would wait for the answer to the one before; with more, 5,000 messages a second are as many envelopes."""

WINDOW_BYTES: Final = 8 << 20
"""Contents in flight: a quarter of what the broker holds for one session."""

ENVELOPE_BYTES: Final = 1 << 20
"""Contents of one envelope, unless a single message is larger: more gains nothing."""

ENTRY_HEADER_BYTES: Final = 112
"""What one message takes of a header, at most, beside its content type and recipients."""

RECIPIENT_HEADER_BYTES: Final = 34
"""What one recipient takes of it: a name of 32 bytes and its length."""

SEND_HEADER_BYTES: Final = 1_024
"""What is left for the rest of the header: far more than it takes."""

SPLIT_CODES: Final = frozenset({"bad_request", "too_large", "internal"})
"""Final refusals of an envelope that one of its messages may be the cause of: the others are not to suffer for it."""

DOUBTFUL_CODES: Final = frozenset({"unavailable", "internal"})
"""Refusals after which it isn't known whether something was stored."""


_STATE: Final = attrgetter("state")


class Envelope:
    """Messages that travel together."""

    __slots__ = ("bytes", "doubtful", "expiry", "messages", "n", "refusal", "request_id", "sent_at")

    def __init__(self, messages: list[Submission], size: int) -> None:
        self.messages = messages
        self.bytes = size
        self.expiry = _soonest(messages)
        """No message that is unsettled has its deadline before this."""
        self.n = 0
        self.request_id = 0
        """Of its transmission that is not answered yet; 0: none is."""
        self.sent_at = 0.0
        self.doubtful = False
        """Some transmission of it was never answered: it may be stored."""
        self.refusal: RefusedError | None = None
        """Why the last transmission was refused, if it was."""


class Stream:
    """Messages from their submission to their end."""

    def __init__(self, stream_id: bytes, new_request_id: Callable[[], int]) -> None:
        self._id = stream_id
        self._new_request_id = new_request_id
        self._queue: deque[Submission] = deque()
        self._flight: list[Envelope] = []
        self._queue_expiry = math.inf
        """No message of the queue that is unsettled has its deadline before this."""
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
    def queued(self) -> int:
        """Messages that were never transmitted, settled ones not yet cleared away included."""
        return len(self._queue)

    @property
    def crowded(self) -> bool:
        """Whether one more message would not go now: others are out and it fills no envelope, or the stream rewinds."""
        return self._rewinding or len(self._flight) >= EAGER_ENVELOPES

    @property
    def active(self) -> bool:
        """Whether there is anything to do on a connection."""
        return self.unsettled > 0

    def submit(self, messages: list[Submission]) -> None:
        """Take messages, in order."""
        self._queue.extend(messages)
        self._queue_expiry = min(self._queue_expiry, _soonest(messages))
        self.unsettled += len(messages)
        self.unsettled_bytes += sum([len(message.body) for message in messages])

    def refuse(self, messages: list[Submission], error: ChatError, actions: list[Action]) -> None:
        """Return messages that are not even taken."""
        for message in messages:
            message.state = SETTLED
            actions.append(Return(message, error))

    # --- transmitting -------------------------------------------------------------------------------------

    def transmit(self, limits: Limits, now: float, actions: list[Action]) -> None:
        """Send what there is room for."""
        if self._rewinding and not self._rewound(now):
            return
        for envelope in self._flight:
            if not envelope.request_id:
                self._send(envelope, now, actions)
        while self._queue and self._room(limits):
            self._form(limits, now, actions)

    def expiry(self) -> float:
        """Until when no message is past its deadline; inf if none waits."""
        return min([self._queue_expiry, *[envelope.expiry for envelope in self._flight]])

    def next_transmission(self) -> float:
        """When a wait that the broker asked for is over; inf if there is none. Of meaning only on a connection."""
        return self._hold_until if self._rewinding and self._flight and not self._any_out() else math.inf

    def oldest_sent_at(self) -> float:
        """When the transmission was made that has waited longest for its answer; inf if none waits."""
        return min((envelope.sent_at for envelope in self._flight if envelope.request_id), default=math.inf)

    def _room(self, limits: Limits) -> bool:
        out, size = len(self._flight), sum(envelope.bytes for envelope in self._flight)
        if out >= WINDOW_ENVELOPES or size >= WINDOW_BYTES:
            return False
        fills_one = len(self._queue) >= limits.messages_per_send or self.unsettled_bytes - size >= ENVELOPE_BYTES
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
            envelope.messages = _unsettled(envelope.messages)
            envelope.bytes = sum(len(message.body) for message in envelope.messages)
        self._flight = [envelope for envelope in self._flight if envelope.messages]
        self._rewinding, self._go_back = False, None
        return True

    def _form(self, limits: Limits, now: float, actions: list[Action]) -> None:
        """Make an envelope of what waits, as much as the limits let in, and send it."""
        messages = self._take_usual(limits) or self._take_fitting(limits, actions)
        if not self._queue:
            self._queue_expiry = math.inf
        if messages:
            for message in messages:
                message.state = IN_FLIGHT
            envelope = Envelope(messages, sum([message.item.size for message in messages]))
            self._flight.append(envelope)
            self._send(envelope, now, actions)

    def _take_usual(self, limits: Limits) -> list[Submission]:
        """The next messages, as many as an envelope holds, if nothing is unusual about them: each waits, is to one
        recipient, and all of them fit. Else none. It takes half the time of looking at one after the other.
        """
        messages = list(islice(self._queue, limits.messages_per_send))
        items = [message.item for message in messages]
        sizes, types = [item.size for item in items], [item.content_type for item in items]
        header = sum(map(len, types)) + len(items) * (ENTRY_HEADER_BYTES + RECIPIENT_HEADER_BYTES)
        if (
            any(map(_STATE, messages))
            or max([len(item.to) for item in items]) > 1
            or max(sizes) > limits.message_bytes
            or sum(sizes) > min(ENVELOPE_BYTES, limits.body_bytes)
            or header > limits.header_bytes - SEND_HEADER_BYTES
            or len(items) > limits.recipients_per_send
        ):
            return []
        for _ in messages:
            self._queue.popleft()
        return messages

    def _take_fitting(self, limits: Limits, actions: list[Action]) -> list[Submission]:
        """The next messages that wait, as far as the limits reach. Those that fit in no envelope fail."""
        bytes_max, header_max = min(ENVELOPE_BYTES, limits.body_bytes), limits.header_bytes - SEND_HEADER_BYTES
        messages_max, recipients_max = limits.messages_per_send, limits.recipients_per_send
        message_bytes_max = min(limits.message_bytes, limits.body_bytes)
        readers_max = min(limits.recipients_per_message, recipients_max)
        queue, messages = self._queue, list[Submission]()
        size = recipients = header = 0
        while queue and len(messages) < messages_max:
            message = queue.popleft()
            item = message.item
            if message.state == SETTLED:
                continue
            readers = len(item.to)
            if item.size > message_bytes_max or readers > readers_max:
                self._fail(message, _unfit(item, limits), actions)
                continue
            size += item.size
            recipients += readers
            header += ENTRY_HEADER_BYTES + len(item.content_type) + RECIPIENT_HEADER_BYTES * readers
            if messages and (size > bytes_max or recipients > recipients_max or header > header_max):
                queue.appendleft(message)
                break
            messages.append(message)
        return messages

    def _send(self, envelope: Envelope, now: float, actions: list[Action]) -> None:
        envelope.n = self._next_n
        self._next_n += 1
        envelope.request_id = self._new_request_id()
        envelope.sent_at = now
        items = [message.item for message in envelope.messages]
        header = Send.of(envelope.request_id, self._id, envelope.n, items)
        actions.append(Transmit(header, b"".join([message.body for message in envelope.messages])))

    # --- answers ------------------------------------------------------------------------------------------

    def answered(self, answer: Sent, actions: list[Action]) -> bool:
        """Settle an envelope's messages. False if it is no answer to what was sent."""
        envelope = self._take(answer.id)
        if envelope is None:
            return True
        messages = envelope.messages
        if not fits(answer.seqs, answer.apart, len(messages)):
            envelope.doubtful = True
            return False
        self._flight.remove(envelope)
        left = _unsettled(messages)
        self.unsettled -= len(left)
        if len(left) == len(messages) and not answer.apart:
            self.unsettled_bytes -= envelope.bytes
            actions.append(Settle(messages, answer.seqs, answer.stored_at_us))
        else:  # some were given up meanwhile, or were not simply stored
            self.unsettled_bytes -= sum([len(message.body) for message in left])
            for message, result in zip(messages, answer.results, strict=True):
                if message.state != SETTLED:
                    actions.append(_conclusion(message, result))
        for message in left:
            message.state = SETTLED
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
        elif error.code in SPLIT_CODES and len(envelope.messages) > 1:
            self._split(envelope)
        else:
            for message in envelope.messages:
                self._fail(message, refusal, actions)

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
        at, middle = self._flight.index(envelope), len(envelope.messages) // 2
        halves = [Envelope(part, 0) for part in (envelope.messages[:middle], envelope.messages[middle:])]
        for half in halves:
            half.n, half.doubtful = envelope.n, envelope.doubtful
        self._flight[at : at + 1] = halves

    # --- endings ------------------------------------------------------------------------------------------

    def expire(self, now: float, untold: Callable[[], ChatError], actions: list[Action]) -> None:
        """End what is past its deadline. `untold` makes the error for what was never transmitted."""
        if self._queue_expiry <= now:
            for message in self._queue:
                if message.deadline <= now:
                    self._fail(message, untold(), actions)
            self._queue = deque(_unsettled(self._queue))
            self._queue_expiry = _soonest(self._queue)
        for envelope in self._flight:
            if envelope.expiry <= now:
                self._give_up(envelope, now, actions)

    def fail_all(self, error: ChatError, actions: list[Action]) -> None:
        """End all that is unsettled: with the error, or in doubt where something was transmitted."""
        for envelope in self._flight:
            for message in envelope.messages:
                in_doubt = envelope.doubtful or envelope.request_id
                self._fail(message, _in_doubt(message, str(error)) if in_doubt else error, actions)
        for message in self._queue:
            self._fail(message, error, actions)
        self._clear_queue()
        self._flight = [envelope for envelope in self._flight if envelope.request_id]

    def withdraw(self, messages: list[Submission]) -> None:
        """Forget who asked for these."""
        for message in _unsettled(messages):
            self._settled(message)
        self._clear_queue()

    def _give_up(self, envelope: Envelope, time: float, actions: list[Action]) -> None:
        """End what an envelope holds that is past its deadline at a time: now, or when it could go again."""
        for message in envelope.messages:
            if message.deadline <= time:
                self._fail(message, self._expired(message, envelope), actions)
        envelope.expiry = _soonest(_unsettled(envelope.messages))

    def _expired(self, message: Submission, envelope: Envelope) -> ChatError:
        """Why a message that was transmitted is at its end."""
        if envelope.refusal is not None and not envelope.doubtful and not envelope.request_id:
            return envelope.refusal
        last = f" (last answer: {envelope.refusal.text})" if envelope.refusal is not None else ""
        return _in_doubt(message, "no answer came in the time allowed" + last)

    def _fail(self, message: Submission, error: ChatError, actions: list[Action]) -> None:
        if message.state != SETTLED:
            self._settled(message)
            actions.append(Return(message, error))

    def _settled(self, message: Submission) -> None:
        message.state = SETTLED
        self.unsettled -= 1
        self.unsettled_bytes -= len(message.body)
        message.body = b""  # it goes nowhere any more, and its envelope may keep the rest for a while

    def _clear_queue(self) -> None:
        while self._queue and self._queue[0].state == SETTLED:
            self._queue.popleft()
        if not self._queue:
            self._queue_expiry = math.inf


def _conclusion(message: Submission, result: Result) -> Action:
    if result.seq and not result.again:
        return Settle([message], [result.seq], result.stored_at_us)
    return Conclude(message, result)


def _unsettled(messages: Iterable[Submission]) -> list[Submission]:
    return [message for message in messages if message.state != SETTLED]


def _soonest(messages: Iterable[Submission]) -> float:
    """The first of their deadlines; inf if there is none."""
    return min([message.deadline for message in messages], default=math.inf)


def _in_doubt(message: Submission, why: str) -> OutcomeUnknown:
    text = f"message {show_id(message.item.id)} was sent, but it is not known whether it was stored: {why}. "
    return OutcomeUnknown(text + "Send it again with the same id: it is never stored twice", message_id=message.item.id)


def _unfit(item: Item, limits: Limits) -> ChatError:
    """Why this server would refuse a message, with the envelope around it."""
    if item.size > limits.message_bytes or item.size > limits.body_bytes:
        return BodyTooLarge(f"the message has {item.size} bytes, this server takes {limits.message_bytes}")
    return TooLarge(f"{len(item.to)} recipients, this server takes {limits.recipients_per_message} a message")
