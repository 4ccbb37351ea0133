"""Subscriptions: the backlog first, then what arrives, as far as credit reaches.

A subscription is one cursor over the store's truth (RULES 17):

                 page without more                 a message of its mailbox is committed, credit left: hand it on
      BEHIND ───────────────────────▶ LIVE ───────────────────────────────────────────────────────────────────▶ LIVE
        ▲  asks for a page behind its cursor,        │ no credit · the link was opened anew · somebody else's
        │  as large as its credit                    ▼ messages lie between
        └────────────────────────────────────── BEHIND

LIVE means that everything through the store's high-water has been handed on; that is known because the store's answers
and confirmations come in one order. So a subscriber gets first the backlog, then what arrives, without a gap, without
a repeat, and never more than its credit. Being handed a message acknowledges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from broker.delivered import DeliveredMarks
from broker.events import Action, Reply
from broker.pages import Arrival, Fresh, bounded, parts_of
from broker.sessions import Session, answer, refuse
from broker.store_link import StoreLink, Submitted
from restante.wire import envelopes, limits, store_link
from restante.wire.envelopes import Entry
from restante.wire.names import fold


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


class Subscriptions:
    """All subscriptions. A `store_link.Listener`: it hears what is committed."""

    def __init__(self) -> None:
        self._link: StoreLink
        self._marks: DeliveredMarks
        self._high = 0
        self._history = b""
        self._by_mailbox: dict[int, list[Subscription]] = {}
        self.end: Callable[[Session], None] = self.over
        """What ends a session; the core puts its own in place, which knows what else hangs on one."""

    def use(self, link: StoreLink, marks: DeliveredMarks) -> None:
        """The link and its listener know each other; this closes the ring."""
        self._link = link
        self._marks = marks

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

    def announce(self, marker: Session, seqs: list[int], read: bool, actions: list[Action]) -> None:
        """Tell the account's other sessions what was marked (RULES 19)."""
        if not seqs:
            return
        for subscription in self._by_mailbox.get(marker.account, ()):
            if subscription.session is not marker:
                marked = envelopes.Marked(sub=subscription.sub, seqs=seqs, read=read)
                actions.append(Reply(subscription.session.routing_id, marked))

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
            reading, body = bounded(reading, body)
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
            self._marks.note(subscription.session.account, entries[-1].seq, now)

    # --- what the store has committed ---------------------------------------------------------------------

    def opened(self, history: bytes, high: int, now: float, actions: list[Action]) -> None:
        """The link was opened anew: somebody else may have stored meanwhile, so every subscription is behind."""
        if self._history and history != self._history:
            self._restored(actions)
        behind = self._high
        self._high = high
        self._history = history
        self._all_behind(behind)

    def _restored(self, actions: list[Action]) -> None:
        """A backup took the store's place, and no cursor means anything in it (RULES 14). Readers connect anew; their
        `subscribe` is then answered `history_changed`, and they begin at 0.
        """
        self._marks.forget()
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
            self._all_behind(self._high)
        self._high = max(self._high, confirmed.high)
        if not self._by_mailbox:
            return
        fresh = Fresh()
        for entry, outcome in zip(entries, confirmed.outcomes, strict=True):
            if isinstance(entry.command, store_link.StoreMessages) and isinstance(outcome, store_link.Stored):
                fresh.gather(entry.command, entry.body, outcome, self._by_mailbox.keys())
        for mailbox, arrivals in fresh.by_mailbox.items():
            for subscription in self._by_mailbox[mailbox]:
                if subscription.live:
                    self._hand_on(subscription, arrivals, now, actions)

    def _all_behind(self, cursor: int) -> None:
        for readers in self._by_mailbox.values():
            for subscription in readers:
                subscription.fall_behind(cursor)
        self._pump_all()

    def _pump_all(self) -> None:
        for readers in self._by_mailbox.values():
            for subscription in readers:
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
        for part in parts_of(chosen):
            body = b"".join(content for _, content in part)
            self._deliver(subscription, [entry for entry, _ in part], body, now, actions)
        self._pump(subscription)

    # --- time ---------------------------------------------------------------------------------------------

    def due(self, now: float) -> None:
        """Ask again for pages that could not be had."""
        if not self._link.down(now):
            self._pump_all()
