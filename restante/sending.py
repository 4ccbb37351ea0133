"""The one stream of sends of a session: batching, order, retry.

    Submitted ─▶ queue ─▶ envelope n ─▶ in flight ─▶ sent: settled
                             ▲              │
                             └── rewinding ◀┴ refused `busy`, `gap`; connection lost

What waits becomes an envelope whenever the window has room: an idle session sends one message at once, a busy one
hundreds together. Envelopes are numbered; the broker takes only the next number (RULES 10). If one is refused as a
whole, or the connection is lost, the stream *rewinds*: it transmits nothing more until every envelope that is out has
its answer, waits as long as it was told, then numbers what is unanswered anew from the lowest and transmits it in
order, before anything new. A message keeps its place and its id in all this, so nothing is stored twice or out of
order.

Invariants: `flight` is in the order of submission, and its envelopes that are out are in the order of their numbers;
nothing in `queue` was ever transmitted; nothing new is transmitted while rewinding.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from restante.events import IN_FLIGHT, QUEUED, SETTLED, Action, Fail, Settle, Submission, Transmit
from restante.wire.envelopes import Error, Item, Limits, Send, Sent
from restante.wire.errors import CODES, BodyTooLarge, ChatError, OutcomeUnknown, RefusedError, TooLarge
from restante.wire.ids import show_id

WINDOW_ENVELOPES: Final = 8
"""Envelopes in flight. Enough to keep the broker and the store busy while answers travel; what waits meanwhile makes
the next envelope larger, which costs everybody less than more of them."""

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


class Envelope:
    """Messages that travel together."""

    __slots__ = ("bytes", "doubtful", "messages", "n", "refusal", "request_id", "sent_at")

    def __init__(self, messages: list[Submission], size: int) -> None:
        self.messages = messages
        self.bytes = size
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
        self._by_ticket: dict[int, Submission] = {}
        self._timers: list[tuple[float, int, Submission]] = []
        self._timer_count = itertools.count()
        self._next_n = 1
        self._rewinding = False
        self._go_back: int | None = None
        """While rewinding: the number to go on from, if it is not that of the first in flight."""
        self._hold_until = 0.0
        self.unsettled_bytes = 0
        """Contents of all messages that are not settled."""

    @property
    def unsettled(self) -> int:
        """Messages that are not settled."""
        return len(self._by_ticket)

    @property
    def queued(self) -> int:
        """Messages that were never transmitted, settled ones not yet cleared away included."""
        return len(self._queue)

    @property
    def crowded(self) -> bool:
        """Whether nothing new would go now: the window is full, or the stream rewinds."""
        return self._rewinding or len(self._flight) >= WINDOW_ENVELOPES

    @property
    def active(self) -> bool:
        """Whether there is anything to do on a connection."""
        return bool(self._by_ticket)

    def submit(self, messages: list[Submission]) -> None:
        """Take messages, in order."""
        self._queue.extend(messages)
        for message in messages:
            self._by_ticket[message.ticket] = message
            self.unsettled_bytes += len(message.body)
            heapq.heappush(self._timers, (message.deadline, next(self._timer_count), message))

    # --- transmitting -------------------------------------------------------------------------------------

    def transmit(self, limits: Limits, now: float, actions: list[Action]) -> None:
        """Send what there is room for."""
        if self._rewinding and not self._rewound(now):
            return
        for envelope in self._flight:
            if not envelope.request_id:
                self._send(envelope, now, actions)
        while self._queue and self._room():
            self._form(limits, now, actions)

    def expiry(self) -> float:
        """When the next message is past its deadline; inf if none waits."""
        while self._timers and self._timers[0][2].state == SETTLED:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else math.inf

    def next_transmission(self) -> float:
        """When a wait that the broker asked for is over; inf if there is none. Of meaning only on a connection."""
        return self._hold_until if self._rewinding and self._flight and not self._any_out() else math.inf

    def oldest_sent_at(self) -> float:
        """When the transmission was made that has waited longest for its answer; inf if none waits."""
        return min((envelope.sent_at for envelope in self._flight if envelope.request_id), default=math.inf)

    def _room(self) -> bool:
        return len(self._flight) < WINDOW_ENVELOPES and sum(envelope.bytes for envelope in self._flight) < WINDOW_BYTES

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
            envelope.messages = [message for message in envelope.messages if message.state != SETTLED]
            envelope.bytes = sum(len(message.body) for message in envelope.messages)
        self._flight = [envelope for envelope in self._flight if envelope.messages]
        self._rewinding, self._go_back = False, None
        return True

    def _form(self, limits: Limits, now: float, actions: list[Action]) -> None:
        """Make an envelope of what waits, as much as the limits let in, and send it."""
        bytes_max, header_max = min(ENVELOPE_BYTES, limits.body_bytes), limits.header_bytes - SEND_HEADER_BYTES
        queue, messages = self._queue, list[Submission]()
        size = recipients = header = 0
        while queue and len(messages) < limits.messages_per_send:
            message = queue[0]
            item = message.item
            if message.state == SETTLED or self._unfit(message, item, limits, actions):
                queue.popleft()
                continue
            readers = len(item.to)
            size += item.size
            recipients += readers
            header += ENTRY_HEADER_BYTES + len(item.content_type) + RECIPIENT_HEADER_BYTES * readers
            if messages and (size > bytes_max or recipients > limits.recipients_per_send or header > header_max):
                size -= item.size
                break
            queue.popleft()
            message.state = IN_FLIGHT
            messages.append(message)
        if messages:
            envelope = Envelope(messages, size)
            self._flight.append(envelope)
            self._send(envelope, now, actions)

    def _unfit(self, message: Submission, item: Item, limits: Limits, actions: list[Action]) -> bool:
        """Refuse by itself what this server would refuse, with the envelope around it."""
        if item.size > limits.message_bytes or item.size > limits.body_bytes:
            text = f"the message has {item.size} bytes, this server takes {limits.message_bytes}"
            self._fail(message, BodyTooLarge(text), actions)
        elif len(item.to) > limits.recipients_per_message or len(item.to) > limits.recipients_per_send:
            text = f"{len(item.to)} recipients, this server takes {limits.recipients_per_message} a message"
            self._fail(message, TooLarge(text), actions)
        else:
            return False
        return True

    def _send(self, envelope: Envelope, now: float, actions: list[Action]) -> None:
        envelope.n = self._next_n
        self._next_n += 1
        envelope.request_id = self._new_request_id()
        envelope.sent_at = now
        header = Send(
            id=envelope.request_id,
            stream=self._id,
            n=envelope.n,
            messages=[message.item for message in envelope.messages],
        )
        actions.append(Transmit(header, b"".join([message.body for message in envelope.messages])))

    # --- answers ------------------------------------------------------------------------------------------

    def answered(self, answer: Sent, actions: list[Action]) -> bool:
        """Settle an envelope's messages. False if it is no answer to what was sent."""
        envelope = self._take(answer.id)
        if envelope is None:
            return True
        if len(answer.results) != len(envelope.messages):
            envelope.doubtful = True
            return False
        self._flight.remove(envelope)
        tickets, results = [], []
        for message, result in zip(envelope.messages, answer.results, strict=True):
            if message.state != SETTLED:
                self._settled(message)
                tickets.append(message.ticket)
                results.append(result)
        if tickets:
            actions.append(Settle(tickets, results))
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
        transmitted = False
        while self._timers and (self._timers[0][2].state == SETTLED or self._timers[0][0] <= now):
            message = heapq.heappop(self._timers)[2]
            if message.state == QUEUED:
                self._fail(message, untold(), actions)
            transmitted = transmitted or message.state == IN_FLIGHT
        if transmitted:
            for envelope in self._flight:
                self._give_up(envelope, now, actions)
        self._clear_queue()

    def fail_all(self, error: ChatError, actions: list[Action]) -> None:
        """End all that is unsettled: with the error, or in doubt where something was transmitted."""
        for envelope in self._flight:
            for message in envelope.messages:
                in_doubt = envelope.doubtful or envelope.request_id
                self._fail(message, _in_doubt(message, str(error)) if in_doubt else error, actions)
        for message in list(self._by_ticket.values()):
            self._fail(message, error, actions)
        self._clear_queue()
        self._flight = [envelope for envelope in self._flight if envelope.request_id]

    def abandon(self, ticket: int) -> bool:
        """Forget a message's asker; whether there was such a message."""
        message = self._by_ticket.get(ticket)
        if message is None:
            return False
        self._settled(message)
        self._clear_queue()
        return True

    def _give_up(self, envelope: Envelope, time: float, actions: list[Action]) -> None:
        """End what an envelope holds that is past its deadline at a time: now, or when it could go again."""
        for message in envelope.messages:
            if message.deadline <= time and message.state != SETTLED:
                self._fail(message, self._expired(message, envelope), actions)

    def _expired(self, message: Submission, envelope: Envelope) -> ChatError:
        """Why a message that was transmitted is at its end."""
        if envelope.refusal is not None and not envelope.doubtful and not envelope.request_id:
            return envelope.refusal
        last = f" (last answer: {envelope.refusal.text})" if envelope.refusal is not None else ""
        return _in_doubt(message, "no answer came in the time allowed" + last)

    def _fail(self, message: Submission, error: ChatError, actions: list[Action]) -> None:
        if message.state != SETTLED:
            self._settled(message)
            actions.append(Fail(message.ticket, error))

    def _settled(self, message: Submission) -> None:
        message.state = SETTLED
        self.unsettled_bytes -= len(message.body)
        message.body = b""  # it goes nowhere any more, and a timer may keep the rest for a while
        del self._by_ticket[message.ticket]

    def _clear_queue(self) -> None:
        while self._queue and self._queue[0].state == SETTLED:
            self._queue.popleft()


def _in_doubt(message: Submission, why: str) -> OutcomeUnknown:
    text = f"message {show_id(message.item.id)} was sent, but it is not known whether it was stored: {why}. "
    return OutcomeUnknown(text + "Send it again with the same id: it is never stored twice", message_id=message.item.id)
