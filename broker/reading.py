"""Reading: pages, acknowledgements, states, and subscriptions.

A subscription is one cursor over the store's truth (RULES 17):

                 page without more                 a message of its mailbox is committed, credit left: hand it on
      BEHIND ───────────────────────▶ LIVE ───────────────────────────────────────────────────────────────────▶ LIVE
        ▲  asks for a page behind its cursor,        │ no credit · the link was opened anew · somebody else's
        │  as large as its credit                    ▼ messages lie between
        └────────────────────────────────────── BEHIND

LIVE means that everything through the store's high-water has been handed on; that is known because the store's answers
and confirmations come in one order. So a subscriber gets first the backlog, then what arrives, without a gap, without
a repeat, and never more than its credit. Nothing here acknowledges but `ack`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

from broker.events import Action, Reply
from broker.sessions import Session, answer, refuse
from broker.store_link import Answered, StoreLink, Submitted
from restante.wire import envelopes, limits, store_link
from restante.wire.envelopes import Entry
from restante.wire.names import fold

Arrival = tuple[Entry, bytes]
"""A message and its content."""

COMMAND_COST = 64
SEQ_COST = 40
ID_COST = 56
"""Bytes of a command, and of a seq or an id in one: in memory, where they take more than in a batch."""

NOTE_S = 1.0
"""How long *delivered* may wait for a batch to travel with: it is worth no commit of its own."""


class Subscription:
    """One reader of one mailbox."""

    __slots__ = (
        "asking",
        "credit_bytes",
        "credit_messages",
        "cursor",
        "delivered_bytes",
        "delivered_messages",
        "live",
        "sender",
        "session",
        "sub",
    )  # fmt: skip

    def __init__(self, session: Session, request: envelopes.Subscribe) -> None:
        self.session = session
        self.sub = request.sub
        self.sender = fold(request.sender)
        self.cursor = request.after
        """Everything through here has been handed on; while live, everything through the high-water."""
        self.live = False
        self.asking = False
        self.credit_messages = min(request.messages, limits.CREDIT_MESSAGES_MAX)
        self.credit_bytes = min(request.bytes, limits.CREDIT_BYTES_MAX)
        self.delivered_messages = 0
        self.delivered_bytes = 0

    @property
    def messages_left(self) -> int:
        """Messages that may still be delivered."""
        return self.credit_messages - self.delivered_messages

    @property
    def bytes_left(self) -> int:
        """Bytes that may still be delivered; the last message may pass it."""
        return self.credit_bytes - self.delivered_bytes

    @property
    def may_deliver(self) -> bool:
        """True while credit is left."""
        return self.messages_left > 0 and self.bytes_left > 0

    def raise_credit(self, credit: envelopes.Credit) -> None:
        """Totals never shrink, and what is undelivered of them is bounded (G7)."""
        messages = min(credit.messages, self.delivered_messages + limits.CREDIT_MESSAGES_MAX)
        size = min(credit.bytes, self.delivered_bytes + limits.CREDIT_BYTES_MAX)
        self.credit_messages = max(self.credit_messages, messages)
        self.credit_bytes = max(self.credit_bytes, size)

    def fall_behind(self, cursor: int) -> None:
        """No longer live: everything through `cursor` was handed on, and no more is known. A page may have reached
        further than what was heard of by then.
        """
        if self.live:
            self.live = False
            self.cursor = max(self.cursor, cursor)


class Reading:
    """All that reads the store for clients. A `store_link.Listener`: it hears what is committed."""

    def __init__(self) -> None:
        self._link: StoreLink
        self._high = 0
        self._history = b""
        self._by_mailbox: dict[int, list[Subscription]] = {}
        self._delivered: dict[int, int] = {}
        """Delivered high-waters that wait to be noted, by mailbox."""
        self._note_at = 0.0
        self.end: Callable[[Session], None] = self.over
        """What ends a session; the core puts its own in place, which knows what else hangs on one."""

    def use(self, link: StoreLink) -> None:
        """The link and its listener know each other; this closes the ring."""
        self._link = link

    # --- pages, states, counts ----------------------------------------------------------------------------

    def fetch(self, session: Session, request: envelopes.Fetch, now: float, actions: list[Action]) -> None:
        """A page of the session's mailbox."""
        query = store_link.ReadPage(
            mailbox=session.account,
            after=request.after,
            limit=request.limit,
            bytes_max=limits.PAGE_BYTES_MAX,
            unread=request.unread,
            sender=fold(request.sender),
            history=request.history,
        )
        self._ask(session, request.id, query, partial(self._fetched, session, request), now, actions)

    def _fetched(
        self,
        session: Session,
        request: envelopes.Fetch,
        reading: store_link.Reading,
        body: bytes,
        history: bytes,
        now: float,
        actions: list[Action],
    ) -> None:
        if not isinstance(reading, store_link.PageRead):
            _pass_on(session, request.id, reading, actions)
            return
        reading, body = _bounded(reading, body)
        page = envelopes.Page(
            id=request.id, history=history, through=reading.through, more=reading.more, messages=reading.entries
        )
        answer(session, page, actions, body)
        if request.unread and not request.sender and not request.peek and reading.entries:
            self._note_delivered(session.account, reading.entries[-1].seq, now)

    def status(self, session: Session, request: envelopes.Status, now: float, actions: list[Action]) -> None:
        """How far messages have come that the session's account sent."""

        def respond(
            reading: store_link.Reading, body: bytes, history: bytes, now: float, actions: list[Action]
        ) -> None:
            if isinstance(reading, store_link.StatusRead):
                answer(session, envelopes.Statuses(id=request.id, messages=reading.messages), actions)
            else:
                _pass_on(session, request.id, reading, actions)

        query = store_link.ReadStatus(sender=session.account, ids=request.ids)
        self._flush_notes(now, force=True)
        self._ask(session, request.id, query, respond, now, actions)

    def overview(self, session: Session, request: envelopes.Overview, now: float, actions: list[Action]) -> None:
        """The session's account and how much its mailbox holds."""

        def respond(
            reading: store_link.Reading, body: bytes, history: bytes, now: float, actions: list[Action]
        ) -> None:
            if isinstance(reading, store_link.MailboxCounted):
                account = envelopes.Account(
                    id=request.id,
                    account=session.account,
                    name=session.name,
                    unread=reading.unread,
                    total=reading.total,
                )
                answer(session, account, actions)
            else:
                _pass_on(session, request.id, reading, actions)

        self._ask(session, request.id, store_link.CountMailbox(mailbox=session.account), respond, now, actions)

    def _ask(
        self,
        session: Session,
        request_id: int,
        query: store_link.Query,
        then: Answered,
        now: float,
        actions: list[Action],
    ) -> None:
        if self._link.down(now):
            refuse(session, request_id, "unavailable", "the store does not answer", actions)
        elif self._link.queries >= limits.QUERIES_WAITING_MAX:
            refuse(session, request_id, "busy", "too many reads wait for the store", actions)
        else:
            self._link.ask(query, then)

    # --- acknowledging ------------------------------------------------------------------------------------

    def ack(self, session: Session, request: envelopes.Ack, now: float, actions: list[Action]) -> None:
        """Mark messages read or unread; answered when it is on disk."""
        if self._link.down(now):
            refuse(session, request.id, "unavailable", "the store does not answer", actions)
            return
        weight = COMMAND_COST + SEQ_COST * len(request.seqs) + ID_COST * len(request.ids)
        if self._link.weight + weight > limits.BROKER_BYTES_MAX:
            refuse(session, request.id, "busy", "the store is behind; the broker holds as much as it may", actions)
            return
        command = store_link.MarkMessages(
            mailbox=session.account, seqs=request.seqs, ids=request.ids, read=request.read
        )
        self._link.submit(command, b"", partial(self._acked, session, request), weight)

    def _acked(
        self,
        session: Session,
        request: envelopes.Ack,
        outcome: store_link.Outcome | store_link.Failed,
        now: float,
        actions: list[Action],
    ) -> None:
        if isinstance(outcome, store_link.MarkedMessages):
            acked = envelopes.Acked(
                id=request.id,
                changed=len(outcome.changed),
                unknown_seqs=outcome.unknown_seqs,
                unknown_ids=outcome.unknown_ids,
            )
            answer(session, acked, actions)
            self._announce(session, outcome.changed, request.read, actions)
        elif isinstance(outcome, store_link.Failed):
            refuse(session, request.id, outcome.code, outcome.text, actions)
        else:
            refuse(session, request.id, "internal", "the store answered something else", actions)

    def _announce(self, marker: Session, seqs: list[int], read: bool, actions: list[Action]) -> None:
        """Tell the account's other sessions what was marked (RULES 19)."""
        if not seqs:
            return
        for subscription in self._by_mailbox.get(marker.account, ()):
            if subscription.session is not marker:
                marked = envelopes.Marked(sub=subscription.sub, seqs=seqs, read=read)
                actions.append(Reply(subscription.session.routing_id, marked))

    # --- subscriptions ------------------------------------------------------------------------------------

    def subscribe(self, session: Session, request: envelopes.Subscribe, now: float, actions: list[Action]) -> None:
        """Begin a subscription. A number that stands already is begun anew."""
        if self._link.down(now) or not self._history:
            refuse(session, request.id, "unavailable", "the store does not answer", actions)
            return
        if request.history is not None and request.history != self._history:
            text = "the cursor belongs to another history: the server was restored; begin at 0"
            refuse(session, request.id, "history_changed", text, actions)
            return
        old = session.subscriptions.get(request.sub)
        if old is None and len(session.subscriptions) >= limits.SUBSCRIPTIONS_PER_SESSION_MAX:
            text = f"a session has at most {limits.SUBSCRIPTIONS_PER_SESSION_MAX} subscriptions"
            refuse(session, request.id, "too_large", text, actions)
            return
        if old is not None:
            self._drop(old)
        subscription = Subscription(session, request)
        session.subscriptions[request.sub] = subscription
        self._by_mailbox.setdefault(session.account, []).append(subscription)
        answer(session, envelopes.Subscribed(id=request.id, sub=request.sub, history=self._history), actions)
        self._pump(subscription)

    def credit(self, session: Session, credit: envelopes.Credit, actions: list[Action]) -> None:
        """A reader has room for more. Credit for a subscription that is over is late, not wrong."""
        subscription = session.subscriptions.get(credit.sub)
        if subscription is not None:
            subscription.raise_credit(credit)
            self._pump(subscription)

    def unsubscribe(self, session: Session, request: envelopes.Unsubscribe, actions: list[Action]) -> None:
        """End a subscription."""
        subscription = session.subscriptions.pop(request.sub, None)
        if subscription is None:
            text = f"this session has no subscription {request.sub}"
            refuse(session, request.id, "unknown_subscription", text, actions)
            return
        self._drop(subscription)
        answer(session, envelopes.Done(id=request.id), actions)

    def over(self, session: Session) -> None:
        """A session ended, and its subscriptions with it."""
        for subscription in session.subscriptions.values():
            self._drop(subscription)
        session.subscriptions.clear()

    def _drop(self, subscription: Subscription) -> None:
        mailbox = subscription.session.account
        readers = self._by_mailbox[mailbox]
        readers.remove(subscription)
        if not readers:
            del self._by_mailbox[mailbox]

    def _pump(self, subscription: Subscription) -> None:
        """Ask for the next page, if the subscription is behind and has credit."""
        if subscription.live or subscription.asking or not subscription.may_deliver:
            return
        subscription.asking = True
        query = store_link.ReadPage(
            mailbox=subscription.session.account,
            after=subscription.cursor,
            limit=min(subscription.messages_left, limits.PAGE_MESSAGES_MAX),
            bytes_max=min(subscription.bytes_left, limits.PAGE_BYTES_MAX),
            unread=True,
            sender=subscription.sender,
        )
        self._link.ask(query, partial(self._paged, subscription))

    def _paged(
        self,
        subscription: Subscription,
        reading: store_link.Reading,
        body: bytes,
        history: bytes,
        now: float,
        actions: list[Action],
    ) -> None:
        subscription.asking = False
        if not self._stands(subscription):
            return
        if isinstance(reading, store_link.PageRead):
            reading, body = _bounded(reading, body)
            self._deliver(subscription, reading.entries, body, now, actions)
            subscription.cursor = max(subscription.cursor, reading.through)
            subscription.live = not reading.more and reading.through >= self._high
            self._pump(subscription)

    def _stands(self, subscription: Subscription) -> bool:
        return subscription.session.subscriptions.get(subscription.sub) is subscription

    def _deliver(
        self, subscription: Subscription, entries: Sequence[Entry], body: bytes, now: float, actions: list[Action]
    ) -> None:
        if not entries:
            return
        deliver = envelopes.Deliver(
            sub=subscription.sub, first=subscription.delivered_messages + 1, messages=list(entries)
        )
        subscription.delivered_messages += len(entries)
        subscription.delivered_bytes += len(body)
        actions.append(Reply(subscription.session.routing_id, deliver, body))
        if not subscription.sender:
            self._note_delivered(subscription.session.account, entries[-1].seq, now)

    # --- what the store has committed ---------------------------------------------------------------------

    def opened(self, history: bytes, high: int, now: float, actions: list[Action]) -> None:
        """The link was opened anew: somebody else may have stored meanwhile, so every subscription is behind."""
        if self._history and history != self._history:
            self._restored(actions)
        behind = self._high
        self._high = high
        self._history = history
        for readers in self._by_mailbox.values():
            for subscription in readers:
                subscription.fall_behind(behind)
                self._pump(subscription)

    def _restored(self, actions: list[Action]) -> None:
        """A backup took the store's place, and no cursor means anything in it (RULES 14). Readers connect anew; their
        `subscribe` is then answered `history_changed`, and they begin at 0.
        """
        self._delivered.clear()
        text = "the server was restored from a backup: connect anew, and begin at 0"
        error = envelopes.Error(code="history_changed", text=text, fatal=True)
        for session in {reader.session for readers in self._by_mailbox.values() for reader in readers}:
            actions.append(Reply(session.routing_id, error))
            self.end(session)

    def committed(
        self, entries: list[Submitted], confirmed: store_link.Confirmed, now: float, actions: list[Action]
    ) -> None:
        """Hand on, from memory, what live subscriptions wait for."""
        if confirmed.base != self._high:
            self._all_behind(self._high, actions)
        self._high = max(self._high, confirmed.high)
        if not self._by_mailbox:
            return
        fresh = _Fresh()
        for entry, outcome in zip(entries, confirmed.outcomes, strict=True):
            if isinstance(entry.command, store_link.StoreMessages) and isinstance(outcome, store_link.Stored):
                fresh.gather(entry.command, entry.body, outcome.results, self._by_mailbox)
        for mailbox, arrivals in fresh.by_mailbox.items():
            for subscription in self._by_mailbox[mailbox]:
                if subscription.live:
                    self._hand_on(subscription, arrivals, now, actions)

    def _all_behind(self, cursor: int, actions: list[Action]) -> None:
        for readers in self._by_mailbox.values():
            for subscription in readers:
                subscription.fall_behind(cursor)
                self._pump(subscription)

    def _hand_on(self, subscription: Subscription, arrivals: list[Arrival], now: float, actions: list[Action]) -> None:
        """Deliver what a commit brought to one live subscription, as far as its credit reaches."""
        chosen: list[Arrival] = []
        size = 0
        for entry, content in arrivals:
            if entry.seq <= subscription.cursor or (subscription.sender and entry.sender != subscription.sender):
                continue
            if len(chosen) >= subscription.messages_left or size >= subscription.bytes_left:
                subscription.fall_behind(entry.seq - 1)
                break
            chosen.append((entry, content))
            size += len(content)
        for part in _parts(chosen):
            body = b"".join(content for _, content in part)
            self._deliver(subscription, [entry for entry, _ in part], body, now, actions)
        self._pump(subscription)

    # --- delivered ----------------------------------------------------------------------------------------

    def _note_delivered(self, mailbox: int, through: int, now: float) -> None:
        if not self._delivered:
            self._note_at = now + NOTE_S
        self._delivered[mailbox] = max(through, self._delivered.get(mailbox, 0))

    def drained(self, now: float) -> None:
        """Send the delivered marks along if a batch goes anyway."""
        if self._link.has_pending:
            self._flush_notes(now, force=True)

    def due(self, now: float) -> None:
        """Send them by themselves if none went; ask again for pages that could not be had."""
        self._flush_notes(now, force=False)
        if self._link.down(now):
            return
        for readers in self._by_mailbox.values():
            for subscription in readers:
                self._pump(subscription)

    def _flush_notes(self, now: float, *, force: bool) -> None:
        if not self._delivered or not (force or now >= self._note_at) or self._link.down(now):
            return
        notes, self._delivered = self._delivered, {}
        for mailbox, through in notes.items():
            note = store_link.NoteDelivered(mailbox=mailbox, through=through)
            self._link.submit(note, b"", _noted, COMMAND_COST)


class _Fresh:
    """What one commit brought, by mailbox, for the mailboxes that somebody is subscribed to."""

    def __init__(self) -> None:
        self.by_mailbox: dict[int, list[Arrival]] = {}

    def gather(
        self,
        command: store_link.StoreMessages,
        body: bytes,
        results: Sequence[envelopes.Result],
        wanted: dict[int, list[Subscription]],
    ) -> None:
        """Add the messages of one envelope that were stored now; what was stored before was handed on before."""
        starts = accumulate((message.size for message in command.messages), initial=0)
        for message, result, start in zip(command.messages, results, starts, strict=False):
            if not result.seq or result.again:
                continue
            readers = [mailbox for mailbox in message.mailboxes if mailbox in wanted]
            if readers:
                arrival = (_entry(command.sender_name, message, result), body[start : start + message.size])
                for mailbox in readers:
                    self.by_mailbox.setdefault(mailbox, []).append(arrival)


def _entry(sender: str, message: store_link.Message, result: envelopes.Result) -> Entry:
    return Entry(
        seq=result.seq,
        id=message.id,
        sender=sender,
        to=message.to,
        size=message.size,
        stored_at_us=result.stored_at_us,
        content_type=message.content_type,
        sent_at_us=message.sent_at_us,
        reply_to=message.reply_to,
    )


def _bounded(page: store_link.PageRead, body: bytes) -> tuple[store_link.PageRead, bytes]:
    """A page whose header fits a client's frame, whatever the store counts: recipients may be more than contents."""
    size = 0
    for index, entry in enumerate(page.entries):
        size += _header_size(entry)
        if size > limits.PAGE_BYTES_MAX and index:
            kept = page.entries[:index]
            end = sum(one.size for one in kept)
            return store_link.PageRead(entries=kept, through=kept[-1].seq, more=True), body[:end]
    return page, body


def _header_size(entry: Entry) -> int:
    """At most, about: names have up to 32 bytes, and all the rest of an entry 256."""
    return 256 + 34 * len(entry.to)


def _parts(arrivals: list[Arrival]) -> list[list[Arrival]]:
    """Cut deliveries into envelopes that keep a page's limits."""
    parts: list[list[Arrival]] = []
    size = 0
    for arrival in arrivals:
        if not parts or len(parts[-1]) >= limits.PAGE_MESSAGES_MAX or size >= limits.PAGE_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(arrival)
        size += len(arrival[1]) + _header_size(arrival[0])
    return parts


def _noted(outcome: store_link.Outcome | store_link.Failed, now: float, actions: list[Action]) -> None:
    """Nobody waits for a delivered mark; one that fails is made up for by the next."""


def _pass_on(session: Session, request_id: int, reading: store_link.Reading, actions: list[Action]) -> None:
    if isinstance(reading, store_link.Failed):
        refuse(session, request_id, reading.code, reading.text, actions)
    else:
        refuse(session, request_id, "internal", "the store answered something else", actions)
