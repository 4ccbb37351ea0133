"""Whose session it is: the token, the account behind it, and who waits for the session to have one.

    no token ──login──▶ token ──resumed on each connection──▶ account
        ▲                 │
        └── refused, logout

A token that is refused fails everything that needs an account, but for what may itself be the cause: a logout or a
change of password that was done, and whose answer was lost (RULES 21).
"""

from __future__ import annotations

from collections.abc import Callable

from restante.asking import Ask, Asks, Settled
from restante.events import Action
from restante.wire import envelopes, limits
from restante.wire.envelopes import LoggedIn
from restante.wire.errors import BadToken, ChatError, NotLoggedIn

Entropy = Callable[[int], bytes]
"""Gives that many random bytes: `os.urandom`, or in a test something with a seed."""


class Membership:
    """The account of a session."""

    def __init__(self, token: bytes | None, identity: LoggedIn | None, asks: Asks, entropy: Entropy) -> None:
        self.token = token
        self.identity = identity
        """Who the account is; kept over a loss of connection."""
        self._asks = asks
        self._entropy = entropy
        self._joining: list[Ask] = []
        self._refusal: ChatError | None = None
        """Why the last token was not taken."""

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the session to have an account, and for nothing else."""
        return bool(self._joining)

    def lacking(self) -> ChatError | None:
        """Why what needs an account can't be done; None if it can, or there is hope."""
        if self.token is not None or self.identity is not None:
            return None
        if any(isinstance(ask.header, envelopes.Login) for ask in self._asks.unanswered()):
            return None
        return self._refusal or NotLoggedIn(
            "nobody is logged in: log in (`chat login`, `Client.login`), or set CHAT_TOKEN"
        )

    def wait(self, ask: Ask) -> None:
        """Somebody waits for the session to have an account."""
        self._asks.add(ask, held=True)
        self._joining.append(ask)

    def joined(self, identity: LoggedIn, now: float, actions: list[Action]) -> None:
        """The session has an account, on this connection."""
        if identity.token is not None:
            self.token = identity.token  # first: an account that is known always has its token here
        self.identity, self._refusal = identity, None
        joining, self._joining = self._joining, []
        for ask in joining:
            self._asks.end(ask, identity, b"", now, actions)

    def left(self) -> None:
        """The session is nobody's any more."""
        self.token = self.identity = None

    def refused(self, refusal: ChatError, settled: Settled, now: float, actions: list[Action]) -> None:
        """The token is not taken. `settled` is told of a login that finds out whether a password was changed."""
        if isinstance(refusal, BadToken):
            self._salvage(settled, now, actions)
        self.left()
        self._refusal = refusal

    def fail(self, error: ChatError, now: float, actions: list[Action]) -> None:
        """End whoever waits."""
        joining, self._joining = self._joining, []
        self._asks.fail(joining, error, now, actions)

    def _salvage(self, settled: Settled, now: float, actions: list[Action]) -> None:
        """The token is dead. If that is the doing of a request whose answer was lost, then it has happened."""
        for ask in self._asks.unanswered():
            header = ask.header
            if isinstance(header, envelopes.Logout) and ask.doubtful:
                self._asks.end(ask, envelopes.Done(id=1), b"", now, actions)
            elif isinstance(header, envelopes.Passwd) and ask.doubtful and self.identity is not None:
                # whether the new password is the password shows by logging in with it
                op = self._entropy(limits.ID_BYTES)
                login = envelopes.Login(id=1, op=op, name=self.identity.name, password=header.new)
                self._asks.abandon(ask.ticket)
                self._asks.add(Ask(header=login, settled=settled, ticket=ask.ticket, deadline=ask.deadline))
