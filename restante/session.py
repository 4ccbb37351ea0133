"""The session: a client's whole mind, without a socket, a clock or dice.

    handle(event, now) -> actions      next_deadline() -> when `Ticked` is due at the latest

A shell (`client`, `aio`) performs the actions in order, and tells what happens. Given the same events, times and
entropy the session does the same, so whole lives of it are tests.

                  something is wanted         socket                welcome             session
    ┌──────┐ ──────────────▶ ┌─────────┐ ──────────▶ ┌──────────┐ ──────────▶ ┌─────────┐ ─────────▶ ┌───────┐
    │ IDLE │                 │ WAITING │             │ GREETING │             │ GREETED │            │ READY │
    └──────┘ ◀────────────── └─────────┘ ◀────────── └──────────┘             └─────────┘            └───────┘
        nothing is wanted     ▲     lost, or no welcome                            │ lost, fatal error   │
                              └────────────────────────────────────────────────────┴─────────────────────┘

One socket is one connection is one session of the broker's (RULES 3). When it is lost, the next is made after a wait
that doubles, with jitter; it says hello, resumes with the token, and then goes on: the stream of sends from its lowest
unanswered envelope before anything new (RULES 10), requests as they were, subscriptions behind the last message handed
on. What runs out of time meanwhile is told so: `UnreachableError` if it was never transmitted, `OutcomeUnknown` if it
was and may have happened, the server's own refusal if that was its last word.

Nothing connects before something is wanted, and a session that was lost while nothing was wanted stays unconnected.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from restante import events
from restante.acking import Acking
from restante.asking import Ask, Asks
from restante.dialling import HANDSHAKE_S, Dialling
from restante.events import Action, Drop, EndFollow, Event, Fail, Open, Resolve, Transmit
from restante.heartbeat import Heartbeat
from restante.membership import Entropy, Membership
from restante.sending import WINDOW_ENVELOPES, Stream
from restante.subscribing import Follows
from restante.wire import envelopes, limits
from restante.wire.envelopes import Error, LoggedIn, ToClient, Welcome
from restante.wire.errors import (
    CODES,
    AlreadyLoggedIn,
    ChatError,
    NotLoggedIn,
    RefusedError,
    RemoteProtocolError,
    UnreachableError,
)  # fmt: skip

ANSWER_S_MAX: Final = limits.REQUEST_S * 1.5
"""An answer that takes longer is not coming: the broker itself waits REQUEST_S for its workers."""

RETRY_S: Final = 0.2
"""How long to wait after a refusal that passes and does not say when."""


class Stage(Enum):
    """How far the connection has come."""

    IDLE = "idle"
    WAITING = "waiting"
    GREETING = "greeting"
    GREETED = "greeted"
    READY = "ready"
    CLOSED = "closed"


class Session:
    """See the module. `where` names the server in errors; `client` is said in `hello`; `entropy` gives dice.

    One that takes another's place is told whose `identity` the token is, and the number of the last `connection`.
    """

    def __init__(
        self,
        *,
        where: str,
        client: str,
        token: bytes | None,
        entropy: Entropy,
        identity: LoggedIn | None = None,
        connection: int = 0,
    ) -> None:
        self._client = client
        self._entropy = entropy
        self.welcome: Welcome | None = None
        """What the server last said of itself."""
        self.stage = Stage.IDLE
        self.connection = connection
        self._last_request_id = 0
        self._asks = Asks(self._new_request_id)
        self._membership = Membership(token, identity, self._asks, entropy)
        self._acking = Acking(self._asks)
        self.stream = Stream(entropy(limits.ID_BYTES), self._new_request_id)
        self._follows = Follows(self._asks)
        self._greeting: list[Ask] = []
        """Who waits for the welcome of a new connection."""
        self._dialling = Dialling(where)
        self._due_at = math.inf
        """WAITING: when to try again. GREETING: when to give up."""
        self._hello_id = 0
        self._resuming = False
        self._heartbeat = Heartbeat(self._asks)

    @property
    def token(self) -> bytes | None:
        """What the session logs in with."""
        return self._membership.token

    @property
    def identity(self) -> LoggedIn | None:
        """Who its account is, once that is known; kept over a loss of connection."""
        return self._membership.identity

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event at a time; gives what is to be done, in order. Raises nothing."""
        actions: list[Action] = []
        if self.stage is Stage.CLOSED:
            return actions
        if isinstance(event, events.Ticked):
            self._ticked(now, actions)
        else:
            self._take(event, now, actions)
        self._advance(now, actions)
        if any(isinstance(action, Transmit) for action in actions):
            self._heartbeat.transmitted(now)
        return actions

    def next_deadline(self) -> float | None:
        """When `Ticked` is due at the latest; None if time alone changes nothing."""
        if self.stage is Stage.CLOSED:
            return None
        deadline = min(self.stream.expiry(), self._asks.expiry(), self._acking.expiry())
        if self.stage in (Stage.WAITING, Stage.GREETING):
            deadline = min(deadline, self._due_at)
        elif self.stage is not Stage.IDLE:
            deadline = min(deadline, self._asks.next_transmission(), self._overdue_at())
        if self.stage is Stage.READY:
            deadline = min(deadline, self.stream.next_transmission(), self._heartbeat.due_at())
        return None if deadline == math.inf else deadline

    # --- what is wanted -----------------------------------------------------------------------------------

    def _take(self, event: Event, now: float, actions: list[Action]) -> None:
        if isinstance(event, events.Submitted):
            self._submitted(event, actions)
        elif isinstance(event, events.Received):
            self._received(event, now, actions)
        elif isinstance(event, events.Lost):
            if event.connection == self.connection and self._connected:
                self._lose(event.reason, now, actions, handshake=event.handshake)
        elif isinstance(event, events.Closed):
            self._close(now, actions)
        else:
            self._want(event, now, actions)

    def _want(self, event: Event, now: float, actions: list[Action]) -> None:
        """Something is wanted, or no longer."""
        if isinstance(event, events.Requested):
            self._requested(event, now, actions)
        elif isinstance(event, events.AckRequested):
            self._ack_requested(event, actions)
        elif isinstance(event, events.Followed):
            self._followed(event, actions)
        elif isinstance(event, events.Consumed):
            self._follows.consumed(event, actions)
        elif isinstance(event, events.Unfollowed):
            self._follows.remove(event.follow)
        elif isinstance(event, events.Withdrawn):
            self.stream.withdraw(event)
        elif isinstance(event, events.Abandoned):
            self._abandoned(event)

    def _submitted(self, event: events.Submitted, actions: list[Action]) -> None:
        error = self._membership.lacking()
        if error is None:
            self.stream.submit(event.submissions)
        else:
            self.stream.refuse(event.submissions, error, actions)

    def _requested(self, event: events.Requested, now: float, actions: list[Action]) -> None:
        header = event.header
        ask = Ask(header=header, settled=self._told, ticket=event.ticket, deadline=event.deadline)
        if isinstance(header, envelopes.Hello):
            self._greeting.append(ask)
            self._asks.add(ask, held=True)
            if self.stage in (Stage.GREETED, Stage.READY):
                self._let_go(actions)  # a connection is greeted once
        elif isinstance(header, envelopes.Resume):
            self._join(ask, actions)
        elif isinstance(header, envelopes.Login) and not self._make_way(actions):
            text = "something is still under way for the account that is logged in: wait for it, then log in"
            actions.append(Fail(event.ticket, AlreadyLoggedIn(text)))
        elif ask.needs_account and (error := self._membership.lacking()) is not None:
            actions.append(Fail(event.ticket, error))
        else:
            self._asks.add(ask)

    def _join(self, ask: Ask, actions: list[Action]) -> None:
        error = self._membership.lacking()
        if error is not None:
            actions.append(Fail(ask.ticket, error))
        elif self.stage is Stage.READY and self.identity is not None:
            actions.append(Resolve(ask.ticket, self.identity))
        else:
            self._membership.wait(ask)

    def _ack_requested(self, event: events.AckRequested, actions: list[Action]) -> None:
        error = self._membership.lacking()
        if error is None:
            self._acking.add(event)
        else:
            actions.append(Fail(event.ticket, error))

    def _followed(self, event: events.Followed, actions: list[Action]) -> None:
        error = self._membership.lacking()
        if error is None:
            self._follows.add(event)
        else:
            actions.append(EndFollow(event.follow, error))

    def _abandoned(self, event: events.Abandoned) -> None:
        if not self._asks.abandon(event.ticket):
            self._acking.abandon(event.ticket)

    def _make_way(self, actions: list[Action]) -> bool:
        """Before a login: leave the account that there is. False if something is under way for it."""
        if self._wanted():
            return self.token is None and self.identity is None
        self._membership.left()
        if self.stage is Stage.READY or self._resuming:
            self._let_go(actions)
        return True

    # --- the connection -----------------------------------------------------------------------------------

    @property
    def _connected(self) -> bool:
        return self.stage in (Stage.GREETING, Stage.GREETED, Stage.READY)

    def _wanted(self) -> bool:
        """Whether there is a reason to be connected."""
        return bool(self.stream.active or self._asks.wanted or self._follows or self._acking.active)

    def _ticked(self, now: float, actions: list[Action]) -> None:
        """Time is up for something. Nothing else ends by time: an answer that has come counts, however late we look
        (RULES 22).
        """
        deaf = self._expire(now, actions) and self._heartbeat.deaf(now)
        if self.stage is Stage.GREETING and now >= self._due_at:
            self._lose("no answer", now, actions)
        elif self.stage in (Stage.GREETED, Stage.READY) and (deaf or now >= self._overdue_at()):
            self._lose("it stopped answering", now, actions)

    def _advance(self, now: float, actions: list[Action]) -> None:
        """Do what can be done now."""
        if self.stage is Stage.IDLE and self._wanted():
            self.stage, self._due_at = Stage.WAITING, now
        if self.stage is Stage.WAITING:
            if not self._wanted():
                self.stage = Stage.IDLE
            elif now >= self._due_at:
                self._open(now, actions)
        elif self.stage in (Stage.GREETED, Stage.READY):
            self._work(now, actions)

    def _open(self, now: float, actions: list[Action]) -> None:
        self.connection += 1
        self.stage, self._due_at = Stage.GREETING, now + HANDSHAKE_S
        self._hello_id = self._new_request_id()
        actions.append(Open(self.connection))
        actions.append(Transmit(envelopes.Hello(id=self._hello_id, client=self._client)))

    def _work(self, now: float, actions: list[Action]) -> None:
        """Use the connection."""
        assert self.welcome is not None, "a connection that was not welcomed is GREETING"
        bounds = self.welcome.limits
        self._acking.advance(bounds.acks_per_request)
        if self.stage is Stage.GREETED:
            self._resume()
        else:
            self._follows.subscribe()
            self._heartbeat.beat(now)
        room = max(1, bounds.requests_in_flight - WINDOW_ENVELOPES)
        self._asks.transmit(logged_in=self.stage is Stage.READY, room=room, now=now, actions=actions)
        if self.stage is Stage.READY:
            self.stream.transmit(bounds, now, actions)

    def _resume(self) -> None:
        if self.token is None or self._resuming:
            return
        if (
            self.stream.active
            or self._follows
            or self._asks.want_account
            or self._membership.awaited
            or self._acking.active
        ):
            self._resuming = True
            header = envelopes.Resume(id=1, token=self.token)
            self._asks.add(Ask(header=header, settled=self._resumed, per_connection=True))

    def _overdue_at(self) -> float:
        """When an answer is so late that the connection can't be sound."""
        asks_at = self._asks.overdue_at(ANSWER_S_MAX, self._heartbeat.answer_s_max)
        return min(self.stream.oldest_sent_at() + ANSWER_S_MAX, asks_at)

    def _let_go(self, actions: list[Action]) -> None:
        """Close the connection. The next begins at once, if anything is wanted."""
        if self._connected:
            actions.append(Drop())
        self.stage = Stage.IDLE
        self._asks.lost()
        self.stream.lost()
        self._follows.lost()
        self._resuming = False
        self._heartbeat.lost()

    def _lose(
        self,
        reason: str,
        now: float,
        actions: list[Action],
        *,
        handshake: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        """The connection is over: try again after a while, unless there is no hope."""
        self._let_go(actions)
        backoff_s = self._dialling.failed(reason, handshake=handshake, chance=self._chance(), now=now)
        self.stage, self._due_at = Stage.WAITING, now + max(wait_s, backoff_s)
        hopeless = self._dialling.wrong_key(now)
        if hopeless is not None:
            self._fail_all(hopeless, now, actions)

    # --- what comes ---------------------------------------------------------------------------------------

    def _received(self, event: events.Received, now: float, actions: list[Action]) -> None:
        if event.connection != self.connection or not self._connected:
            return
        self._heartbeat.heard()
        header = event.header
        if isinstance(header, envelopes.Sent):
            self._dialling.worked()
            if not self.stream.answered(header, actions):
                self._lose("its answer does not fit what was sent", now, actions)
        elif isinstance(header, envelopes.Deliver):
            try:
                self._follows.delivered(header, event.body, actions)
            except RemoteProtocolError as error:
                self._lose(error.text, now, actions)
        elif isinstance(header, envelopes.Marked):
            self._follows.marked(header, actions)
        elif isinstance(header, Error):
            self._error(header, now, actions)
        elif isinstance(header, Welcome):
            self._welcomed(header, now, actions)
        elif isinstance(header, LoggedIn) and self.stage is Stage.GREETED and not self._asks.waits_for(header.id):
            # who asked gave up: to the broker the connection has an account now, and takes no other login
            self._lose("a login came through when nobody waited for it any more", now, actions)
        else:
            self._dialling.worked()
            self._asks.answered(header.id, header, event.body, now, actions)

    def _welcomed(self, welcome: Welcome, now: float, actions: list[Action]) -> None:
        if self.stage is not Stage.GREETING or welcome.id != self._hello_id:
            return
        self.welcome = welcome
        self.stage = Stage.GREETED
        self._heartbeat.agreed(welcome.heartbeat_ms)
        self._dialling.welcomed()
        greeting, self._greeting = self._greeting, []
        for ask in greeting:
            self._asks.end(ask, welcome, b"", now, actions)

    def _error(self, error: Error, now: float, actions: list[Action]) -> None:
        wait_s = self._wait_s(error)
        refusal = RefusedError.of(error.code, error.text, error.retry_after_ms)
        passes = error.code in CODES and CODES[error.code].passes
        if error.code == "unsupported_version" or (error.id == self._hello_id and not (passes or error.fatal)):
            self._let_go(actions)
            self._fail_all(refusal, now, actions)
        elif error.fatal or error.id is None or error.id == self._hello_id:
            self._lose(error.text or error.code, now, actions, wait_s=wait_s)
        elif self.stream.waits_for(error.id):
            self.stream.refused(error, wait_s, now, actions)
        else:
            self._asks.refused(error, wait_s, now, actions)

    def _told(self, ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]) -> None:
        """A user's request is at its end."""
        if isinstance(outcome, ChatError):
            actions.append(Fail(ask.ticket, outcome))
            if isinstance(ask.header, envelopes.Login) and (error := self._membership.lacking()) is not None:
                self._fail_members(error, now, actions)
            return
        actions.append(Resolve(ask.ticket, outcome, body))
        if isinstance(outcome, LoggedIn) and not isinstance(ask.header, envelopes.Resume):
            self._joined(outcome, now, actions)
        elif isinstance(ask.header, envelopes.Logout):
            self._membership.left()
            self._let_go(actions)
            self._fail_members(NotLoggedIn("logged out"), now, actions)

    def _resumed(self, ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]) -> None:
        self._resuming = False
        if isinstance(outcome, LoggedIn):
            self._joined(outcome, now, actions)
        elif isinstance(outcome, ChatError):
            self._membership.refused(outcome, self._told, now, actions)
            self._fail_members(outcome, now, actions)

    def _joined(self, identity: LoggedIn, now: float, actions: list[Action]) -> None:
        self.stage = Stage.READY
        self._membership.joined(identity, now, actions)

    # --- endings ------------------------------------------------------------------------------------------

    def _expire(self, now: float, actions: list[Action]) -> bool:
        """End what is out of time; True if a request that was transmitted is among it."""
        out = False
        untold = self._dialling.untold
        if self.stream.expiry() <= now:
            self.stream.expire(now, untold, actions)
        if self._asks.expiry() <= now:
            out = self._asks.expire(now, untold, actions)
        if self._acking.expiry() <= now:
            self._acking.expire(now, untold(), actions)
        return out

    def _fail_members(self, error: ChatError, now: float, actions: list[Action]) -> None:
        """End all that needs an account."""
        self._asks.fail([ask for ask in self._asks.unanswered() if ask.needs_account], error, now, actions)
        self._membership.fail(error, now, actions)
        self._acking.fail_all(error, actions)
        self.stream.fail_all(error, actions)
        self._follows.end_all(error, actions)

    def _fail_all(self, error: ChatError, now: float, actions: list[Action]) -> None:
        greeting, self._greeting = self._greeting, []
        self._asks.fail([*greeting, *self._asks.unanswered()], error, now, actions)
        self._fail_members(error, now, actions)

    def _close(self, now: float, actions: list[Action]) -> None:
        self._let_go(actions)
        self._fail_all(UnreachableError("the client was closed before this was sent"), now, actions)
        self.stage = Stage.CLOSED

    # --- numbers ------------------------------------------------------------------------------------------

    def _new_request_id(self) -> int:
        self._last_request_id += 1
        return self._last_request_id

    def _chance(self) -> float:
        """From [0, 1)."""
        return int.from_bytes(self._entropy(4), "big") / 2**32

    def _wait_s(self, error: Error) -> float:
        """How long to wait before asking again: what the server said, and some, so that not all come at once."""
        asked_s = RETRY_S if error.retry_after_ms is None else error.retry_after_ms / 1000
        return asked_s * (1 + self._chance() / 4)
