"""Reading: pages, acknowledgements, and how far messages have come. Nothing here acknowledges but `ack`."""

from __future__ import annotations

from functools import partial

from broker.delivered import DeliveredMarks
from broker.events import Action
from broker.pages import bounded
from broker.sessions import Session, answer, refuse
from broker.store_link import COMMAND_COST, Answered, StoreLink
from broker.subscriptions import Subscriptions
from restante.wire import envelopes, limits, store_link
from restante.wire.names import fold

SEQ_COST = 40
ID_COST = 56
"""Bytes of a seq or an id in an acknowledgement: in memory, where they take more than in a batch."""


class Reading:
    """All that reads the store for clients when they ask."""

    def __init__(self, link: StoreLink, marks: DeliveredMarks, subscriptions: Subscriptions) -> None:
        self._link = link
        self._marks = marks
        self._subscriptions = subscriptions

    # --- pages, states, counts ----------------------------------------------------------------------------

    def fetch(self, session: Session, request: envelopes.Fetch, now: float, actions: list[Action]) -> None:
        """A page of the session's mailbox."""
        if session.fetches >= limits.FETCHES_IN_FLIGHT_MAX:
            text = f"{session.fetches} pages are on their way to this session already"
            refuse(session, request.id, "too_many_requests", text, actions)
            return
        query = store_link.ReadPage(
            mailbox=session.account,
            after=request.after,
            limit=request.limit,
            bytes_max=limits.PAGE_BYTES_MAX,
            unread=request.unread,
            sender=fold(request.sender),
            history=request.history,
        )
        if self._ask(session, request.id, query, partial(self._fetched, session, request), now, actions):
            session.fetches += 1

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
        session.fetches -= 1
        if not isinstance(reading, store_link.PageRead):
            _pass_on(session, request.id, reading, actions)
            return
        reading, body = bounded(reading, body)
        page = envelopes.Page(
            id=request.id, history=history, through=reading.through, more=reading.more, messages=reading.entries
        )
        answer(session, page, actions, body)
        if request.unread and not request.sender and not request.peek and reading.entries:
            self._marks.note(session.account, reading.entries[-1].seq, now)

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
        self._marks.flush(now)
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
    ) -> bool:
        """Ask the store, or refuse; whether it is asked."""
        if self._link.down(now):
            refuse(session, request_id, "unavailable", "the store does not answer", actions)
            return False
        if self._link.queries >= limits.QUERIES_WAITING_MAX:
            refuse(session, request_id, "busy", "too many reads wait for the store", actions)
            return False
        self._link.ask(query, then)
        return True

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
            self._subscriptions.announce(session, outcome.changed, request.read, actions)
        elif isinstance(outcome, store_link.Failed):
            refuse(session, request.id, outcome.code, outcome.text, actions)
        else:
            refuse(session, request.id, "internal", "the store answered something else", actions)


def _pass_on(session: Session, request_id: int, reading: store_link.Reading, actions: list[Action]) -> None:
    if isinstance(reading, store_link.Failed):
        refuse(session, request_id, reading.code, reading.text, actions)
    else:
        refuse(session, request_id, "internal", "the store answered something else", actions)
