"""Faults of reading: shown twice or never, read without an acknowledgement, beyond credit (G5, G7)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from broker.core import Broker
from broker.delivered import DeliveredMarks
from broker.events import Action
from broker.reading import Reading
from broker.subscriptions import Subscription, Subscriptions
from restante.subscribing import Follow
from restante.wire import limits, store_link
from restante.wire.store_link import MarkMessages
from store_worker.memory import MemoryJournal
from tests.simulation.faults.planting import Patch, fault

# --- G5: kept until read ------------------------------------------------------------------------------------


@fault
def ack_on_delivery() -> list[Patch]:
    """What was handed to a subscriber counts as read."""
    deliver = Subscriptions._deliver

    def eager(
        self: Subscriptions, subscription: Subscription, entries: Any, body: bytes, now: float, actions: Any
    ) -> None:
        deliver(self, subscription, entries, body, now, actions)
        if entries:
            mark = MarkMessages(mailbox=subscription.session.account, seqs=[entry.seq for entry in entries])
            self._link.submit(mark, b"", lambda outcome, now, actions: None, 0)

    return [(Subscriptions, "_deliver", eager)]


@fault
def forget_marks() -> list[Patch]:
    """The journal says that messages are marked, and marks none."""
    return [(MemoryJournal, "_mark_one", lambda self, box, seq, read: True)]


@fault
def skip_at_a_pages_edge() -> list[Patch]:
    """A subscription goes on one place too far behind a page."""
    paged = Subscriptions._paged

    def skipping(self: Subscriptions, subscription: Subscription, reading: Any, *rest: Any) -> None:
        if isinstance(reading, store_link.PageRead) and reading.more:
            reading = replace(reading, through=reading.through + 1)
        paged(self, subscription, reading, *rest)

    return [(Subscriptions, "_paged", skipping)]


@fault
def stay_live_without_credit() -> list[Patch]:
    """A subscription whose credit ran out is not marked behind: what it could not be sent is forgotten."""
    return [(Subscription, "fall_behind", lambda self, cursor: None)]


@fault
def live_at_once() -> list[Patch]:
    """A subscription is live from its beginning: the backlog is left out."""
    begin = Subscription.__init__

    def hasty(self: Subscription, session: Any, request: Any) -> None:
        begin(self, session, request)
        self.live = True

    return [(Subscription, "__init__", hasty)]


@fault
def forget_who_is_behind() -> list[Patch]:
    """After the link is opened anew every subscription goes on as if nothing had happened."""
    return [(Subscriptions, "_all_behind", lambda self, cursor: None)]


@fault
def one_too_far_at_the_stores_edge() -> list[Patch]:
    """A page of the store says that it reaches as far as the first message that is not in it."""
    page = MemoryJournal.page

    def beyond(self: MemoryJournal, query: store_link.ReadPage) -> Any:
        read, body = page(self, query)
        return (replace(read, through=read.through + 1) if read.more else read), body

    return [(MemoryJournal, "page", beyond)]


@fault
def one_too_many_on_a_page() -> list[Patch]:
    """A page has one message more than was asked for."""
    page = MemoryJournal.page
    return [(MemoryJournal, "page", lambda self, query: page(self, replace(query, limit=query.limit + 1)))]


@fault
def begin_at_the_cursor() -> list[Patch]:
    """A page begins with the place that it was to begin behind."""
    page = MemoryJournal.page

    def again(self: MemoryJournal, query: store_link.ReadPage) -> Any:
        one_back = not query.unread and query.limit > 1  # else a page of one would come again for ever
        return page(self, replace(query, after=max(0, query.after - one_back)))

    return [(MemoryJournal, "page", again)]


@fault
def lose_what_was_cut_from_a_page() -> list[Patch]:
    """A page that is cut for its credit says that there is no more."""
    page = MemoryJournal.page

    def whole(self: MemoryJournal, query: store_link.ReadPage) -> Any:
        read, body = page(self, query)
        return (replace(read, more=False, through=self._high) if read.more else read), body

    return [(MemoryJournal, "page", whole)]


@fault
def mark_the_one_before_too() -> list[Patch]:
    """An acknowledgement means everything up to it (RULES 19)."""
    ack = Reading.ack

    def sweeping(self: Reading, session: Any, request: Any, now: float, actions: list[Action]) -> None:
        seqs = sorted({*request.seqs, *(seq - 1 for seq in request.seqs if seq > 1)})
        ack(self, session, replace(request, seqs=seqs), now, actions)

    return [(Reading, "ack", sweeping)]


# --- G7: credit and limits ----------------------------------------------------------------------------------


@fault
def ignore_credit() -> list[Patch]:
    """A subscriber is sent whatever there is."""
    return [
        (Subscription, "may_deliver", property(lambda self: True)),
        (Subscription, "messages_left", property(lambda self: 1_000)),
        (Subscription, "bytes_left", property(lambda self: 1 << 20)),
    ]


@fault
def one_more_than_credit() -> list[Patch]:
    """The last message goes out when no credit is left for it."""
    return [(Subscription, "messages_left", property(lambda self: self.credit_messages - self.delivered_messages + 1))]


@fault
def lose_credit() -> list[Patch]:
    """Credit that is given after the first is not counted."""
    return [(Subscription, "raise_credit", lambda self, credit: None)]


@fault
def never_top_up() -> list[Patch]:
    """The session gives no credit but the first."""
    return [(Follow, "top_up", lambda self, actions: None)]


@fault
def any_number_of_subscriptions() -> list[Patch]:
    """A session may have as many subscriptions as it likes."""
    subscribe = Subscriptions.subscribe

    def generous(self: Subscriptions, session: Any, request: Any, now: float, actions: list[Action]) -> None:
        bound, limits.SUBSCRIPTIONS_PER_SESSION_MAX = limits.SUBSCRIPTIONS_PER_SESSION_MAX, 100  # type: ignore[misc]
        subscribe(self, session, request, now, actions)
        limits.SUBSCRIPTIONS_PER_SESSION_MAX = bound  # type: ignore[misc]

    return [(Subscriptions, "subscribe", generous)]


@fault
def any_number_in_flight() -> list[Patch]:
    """Requests in flight are not counted."""
    not_now = Broker._not_now

    def generous(self: Broker, session: Any, request: Any) -> Any:
        flight, session.in_flight = session.in_flight, 0
        no = not_now(self, session, request)
        session.in_flight = flight
        return no

    return [(Broker, "_not_now", generous)]


@fault
def delivered_is_read() -> list[Patch]:
    """What is noted as delivered is marked as read (G5)."""
    note = DeliveredMarks.note

    def eager(self: DeliveredMarks, mailbox: int, through: int, now: float) -> None:
        note(self, mailbox, through, now)
        self._link.submit(MarkMessages(mailbox=mailbox, seqs=[through]), b"", lambda outcome, now, actions: None, 0)

    return [(DeliveredMarks, "note", eager)]
