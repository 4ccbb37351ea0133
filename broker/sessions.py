"""Sessions: one connection each, from its first envelope to its end.

        first envelope      hello             register*            login | resume
    ∙ ───────────────▶ NEW ───────▶ GREETED ───────────▶ GREETED ──────────────▶ READY ──▶ over
                        │ anything else: no_session       │ anything else: not_logged_in

A session is bound to its routing id *and* to the key that the connection proved (RULES 1): an envelope with the same
id and another key is somebody else's, and begins a session of its own. Sessions end by silence, by a fatal error, by
the end of their token, or when a reply can't be handed to libzmq. Nothing but memory goes with them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from broker.events import Action, Peer, Reply
from restante.wire import limits
from restante.wire.envelopes import Error, ToClient
from restante.wire.errors import CODES

if TYPE_CHECKING:
    from broker.streams import Stream
    from broker.subscriptions import Subscription

RETRY_MS = 1_000
"""How long to wait where nothing says how long the trouble lasts: a worker's restart takes about that."""


class Stage(Enum):
    """How far a session has come."""

    NEW = "new"
    GREETED = "greeted"
    READY = "ready"
    OVER = "over"


class Session:
    """One connection's state. Small: there may be ten thousand."""

    __slots__ = (
        "account",
        "address",
        "began_at",
        "fetches",
        "heard_at",
        "held_bytes",
        "in_flight",
        "key",
        "name",
        "routing_id",
        "silence_s",
        "stage",
        "streams",
        "subscriptions",
        "token_id",
        "violations",
    )  # fmt: skip

    def __init__(self, peer: Peer, now: float) -> None:
        self.routing_id = peer.routing_id
        self.key = peer.key
        self.address = peer.address
        self.stage = Stage.NEW
        self.began_at = now
        self.heard_at = now
        self.silence_s = limits.HEARTBEAT_S * limits.SILENCES_MAX
        self.account = 0
        self.name = ""
        self.token_id = 0
        self.in_flight = 0
        self.fetches = 0
        """Pages asked for, among them."""
        self.held_bytes = 0
        self.violations = 0
        self.streams: dict[bytes, Stream] = {}
        self.subscriptions: dict[int, Subscription] = {}

    @property
    def over(self) -> bool:
        """True once nothing may be sent to it any more."""
        return self.stage is Stage.OVER

    @property
    def ignored(self) -> bool:
        """True for a peer that broke the protocol too often: it is read and dropped, unanswered."""
        return self.violations >= limits.VIOLATIONS_MAX

    def log_in(self, account: int, name: str, token_id: int) -> None:
        """The session has an account from now on."""
        self.stage = Stage.READY
        self.account = account
        self.name = name
        self.token_id = token_id

    def expired(self, now: float) -> bool:
        """Silent for too long, or waiting too long before its login. A peer is ignored for as long as it goes on."""
        if self.ignored:
            return now - self.heard_at > limits.GREETING_S_MAX
        if self.stage is Stage.READY:
            return now - self.heard_at > self.silence_s
        return self.in_flight == 0 and now - self.began_at > limits.GREETING_S_MAX


class Sessions:
    """All sessions, by routing id."""

    def __init__(self, sessions_max: int = limits.SESSIONS_MAX) -> None:
        self._sessions_max = sessions_max
        self._by_id: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def all(self) -> list[Session]:
        """Every session, in no order that matters."""
        return list(self._by_id.values())

    def get(self, routing_id: bytes) -> Session | None:
        """The session of a routing id, whoever holds it."""
        return self._by_id.get(routing_id)

    def of(self, peer: Peer, now: float) -> tuple[Session, Session | None]:
        """The session of a connection, begun if there is none; and the session that it took the routing id from."""
        session = self._by_id.get(peer.routing_id)
        if session is not None and session.key == peer.key:
            session.heard_at = now
            return session, None
        replaced = session
        session = self._by_id[peer.routing_id] = Session(peer, now)
        return session, replaced

    @property
    def full(self) -> bool:
        """True if no further session is to be begun."""
        return len(self._by_id) > self._sessions_max

    def ignore(self, peer: Peer, now: float) -> None:
        """Remember a peer that broke the protocol too often, in the place of its session."""
        session = self._by_id[peer.routing_id] = Session(peer, now)
        session.violations = limits.VIOLATIONS_MAX

    def remove(self, session: Session) -> None:
        """The session is over; its number may be another's already."""
        session.stage = Stage.OVER
        if self._by_id.get(session.routing_id) is session:
            del self._by_id[session.routing_id]

    def expired(self, now: float) -> list[Session]:
        """Those whose time is up."""
        return [session for session in self._by_id.values() if session.expired(now)]

    def with_tokens(self, token_ids: set[int]) -> list[Session]:
        """Those that are logged in on one of these tokens."""
        return [session for session in self._by_id.values() if session.token_id in token_ids]

    def on_older_tokens(self, account: int, token_id: int) -> list[int]:
        """The account's tokens in use that were made before this one: token numbers grow. A change of password leaves
        none of them, also those which another worker had ended already and whose end is not heard of yet.
        """
        return [s.token_id for s in self._by_id.values() if s.account == account and 0 < s.token_id < token_id]


def answer(session: Session, envelope: ToClient, actions: list[Action], body: bytes = b"") -> None:
    """Give a request its one answer. A session that is over has nobody to give it to."""
    session.in_flight -= 1
    if not session.over:
        actions.append(Reply(session.routing_id, envelope, body))


def refuse(
    session: Session,
    request_id: int | None,
    code: str,
    text: str,
    actions: list[Action],
    *,
    retry_after_ms: int | None = None,
    expected: int | None = None,
) -> None:
    """Give a request its one answer, an error. Codes that pass by waiting get a time to wait for."""
    session.in_flight -= 1
    if session.over:
        return
    row = CODES.get(code)  # a worker newer than this broker may have a code that is not in its table
    if row is not None and row.passes and retry_after_ms is None:
        retry_after_ms = RETRY_MS
    fatal = row is not None and row.fatal
    error = Error(id=request_id, code=code, text=text, retry_after_ms=retry_after_ms, expected=expected, fatal=fatal)
    actions.append(Reply(session.routing_id, error))
