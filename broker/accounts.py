"""Accounts as the broker sees them: it asks an authentication worker, and binds or ends sessions by the answer.

What bounds guessing stands here, where all workers' answers pass: an attempt is counted when it is asked, and given
back if it was none, so that many at once count too (DESIGN §6). When tokens end, their sessions end before the answer
goes out (RULES 20).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from broker.auth_pool import AuthPool
from broker.events import Action, Reply
from broker.sending import Sending
from broker.sessions import Session, Sessions, Stage, answer, refuse
from broker.throttle import Throttle
from restante.wire import auth_link, envelopes, limits
from restante.wire.errors import CODES
from restante.wire.names import fold

CHECKED_AT_ONCE = 1_000
"""Tokens in one question of the regular check: one read of the accounts."""


class Accounts:
    """Everything about accounts that clients ask for, and the sessions that hang on tokens."""

    def __init__(self, pool: AuthPool, sessions: Sessions, sending: Sending, *, registration_open: bool) -> None:
        self._pool = pool
        self._sessions = sessions
        self._sending = sending
        self._registration_open = registration_open
        self._logins = Throttle(limits.LOGIN_FAILURES_MAX, limits.LOGIN_FAILURE_S)
        self._peer_logins = Throttle(limits.PEER_LOGIN_FAILURES_MAX, limits.PEER_LOGIN_FAILURE_S)
        self._registrations = Throttle(limits.REGISTRATIONS_PER_PEER_MAX, limits.REGISTRATION_S)
        self._ended: dict[int, float] = {}
        """Tokens that ended lately, and when: a worker may have found one good just before another ended it."""
        self._check_at: float | None = None
        self.over: Callable[[Session], None] = self._sessions.remove
        """What ends a session; the core puts its own in place, which knows what else hangs on one."""

    # --- without an account -------------------------------------------------------------------------------

    def register(self, session: Session, request: envelopes.Register, now: float, actions: list[Action]) -> None:
        """Make an account, if newcomers are let in."""
        if not self._registration_open:
            text = "this server does not let newcomers register; ask whoever runs it"
            refuse(session, request.id, "registration_closed", text, actions)
            return
        if self._wait(session, request.id, self._registrations, session.address, now, actions):
            return
        self._registrations.take(session.address, now)
        question = auth_link.MakeAccount(
            op=request.op, name=request.name, password=request.password, display_name=request.display_name
        )
        self._pool.ask(question, partial(self._registered, session, request), now, actions)

    def _registered(
        self,
        session: Session,
        request: envelopes.Register,
        outcome: auth_link.Outcome,
        now: float,
        actions: list[Action],
    ) -> None:
        if getattr(outcome, "code", "") in ("busy", "unavailable"):
            self._registrations.give_back(session.address)
        if isinstance(outcome, auth_link.AccountMade):
            made = envelopes.Registered(id=request.id, account=outcome.account, name=outcome.name)
            answer(session, made, actions)
        else:
            self._pass_on(session, request.id, outcome, actions)

    def login(self, session: Session, request: envelopes.Login, now: float, actions: list[Action]) -> None:
        """Log in with a password."""
        name = fold(request.name)
        if self._wait(session, request.id, self._logins, name, now, actions):
            return
        if self._wait(session, request.id, self._peer_logins, session.address, now, actions):
            return
        self._logins.take(name, now)
        self._peer_logins.take(session.address, now)
        question = auth_link.LogIn(op=request.op, name=name, password=request.password, device=request.device)
        self._pool.ask(question, partial(self._logged_in, session, request.id, name), now, actions)

    def resume(self, session: Session, request: envelopes.Resume, now: float, actions: list[Action]) -> None:
        """Log in with a token. Not limited by account: 256 bits can't be guessed."""
        question = auth_link.UseToken(token=request.token)
        self._pool.ask(question, partial(self._logged_in, session, request.id, ""), now, actions)

    def _logged_in(
        self,
        session: Session,
        request_id: int,
        guessed: str,
        outcome: auth_link.Outcome,
        now: float,
        actions: list[Action],
    ) -> None:
        if guessed and getattr(outcome, "code", "") != "wrong_credentials":
            self._logins.give_back(guessed)
            self._peer_logins.give_back(session.address)
        if not isinstance(outcome, auth_link.TokenMade | auth_link.TokenValid):
            self._pass_on(session, request_id, outcome, actions)
        elif outcome.token_id in self._ended:
            refuse(session, request_id, "bad_token", "the token was revoked", actions)
        elif session.stage is Stage.READY:
            refuse(session, request_id, "already_logged_in", "another login of this session came first", actions)
        else:
            self._bind(session, request_id, outcome, actions)

    def _bind(
        self,
        session: Session,
        request_id: int,
        outcome: auth_link.TokenMade | auth_link.TokenValid,
        actions: list[Action],
    ) -> None:
        if session.over:
            return
        session.log_in(outcome.account, outcome.name, outcome.token_id)
        token = outcome.token if isinstance(outcome, auth_link.TokenMade) else None
        logged_in = envelopes.LoggedIn(
            id=request_id,
            account=outcome.account,
            name=outcome.name,
            expires_at_us=outcome.expires_at_us,
            token=token,
        )
        answer(session, logged_in, actions)

    # --- with an account ----------------------------------------------------------------------------------

    def logout(self, session: Session, request: envelopes.Logout, now: float, actions: list[Action]) -> None:
        """Revoke the session's own token."""
        self._end_token(session, request.id, request.op, session.token_id, now, actions)

    def revoke(self, session: Session, request: envelopes.Revoke, now: float, actions: list[Action]) -> None:
        """Revoke one of the account's tokens."""
        self._end_token(session, request.id, request.op, request.token, now, actions)

    def _end_token(
        self, session: Session, request_id: int, op: bytes, token_id: int, now: float, actions: list[Action]
    ) -> None:
        question = auth_link.EndToken(op=op, account=session.account, token_id=token_id)

        def respond(outcome: auth_link.Outcome, now: float, actions: list[Action]) -> None:
            if not isinstance(outcome, auth_link.TokensEnded):
                self._pass_on(session, request_id, outcome, actions)
                return
            self.end_tokens(outcome.ended, now, actions, asker=session)
            own = session.token_id in outcome.ended
            answer(session, envelopes.Done(id=request_id), actions)
            if own and not session.over:
                self.over(session)

        self._pool.ask(question, respond, now, actions)

    def passwd(self, session: Session, request: envelopes.Passwd, now: float, actions: list[Action]) -> None:
        """Change the password; the session gets a new token, all others of the account end."""
        if self._wait(session, request.id, self._logins, session.name, now, actions):
            return
        self._logins.take(session.name, now)
        question = auth_link.ChangePassword(
            op=request.op, account=session.account, old=request.old, new=request.new, token_id=session.token_id
        )

        def respond(outcome: auth_link.Outcome, now: float, actions: list[Action]) -> None:
            if getattr(outcome, "code", "") != "wrong_credentials":
                self._logins.give_back(session.name)
            if isinstance(outcome, auth_link.TokenMade):
                older = self._sessions.on_older_tokens(outcome.account, outcome.token_id)
                self.end_tokens([*outcome.ended, *older], now, actions, asker=session)
                if outcome.token_id in self._ended:  # by a change that came after this one, and was answered before it
                    refuse(session, request.id, "bad_token", "the password was changed again", actions)
                else:
                    self._bind(session, request.id, outcome, actions)
            else:
                self._pass_on(session, request.id, outcome, actions)

        self._pool.ask(question, respond, now, actions)

    def tokens(self, session: Session, request: envelopes.Tokens, now: float, actions: list[Action]) -> None:
        """List the account's tokens."""

        def respond(outcome: auth_link.Outcome, now: float, actions: list[Action]) -> None:
            if isinstance(outcome, auth_link.TokensListed):
                answer(session, envelopes.TokenList(id=request.id, tokens=outcome.tokens), actions)
            else:
                self._pass_on(session, request.id, outcome, actions)

        question = auth_link.ListTokens(account=session.account, token_id=session.token_id)
        self._pool.ask(question, respond, now, actions)

    def lookup(self, session: Session, request: envelopes.Lookup, now: float, actions: list[Action]) -> None:
        """Which names have an account? Unknown ones count as attempts."""
        names = [fold(name) for name in request.names]
        guesses = self._sending.guesses
        attempts = len(set(names))
        wait_s = guesses.begin(session.name, attempts, now)
        if wait_s > 0:
            _rate_limited(session, request.id, wait_s, actions)
            return

        def respond(outcome: auth_link.Outcome, now: float, actions: list[Action]) -> None:
            if isinstance(outcome, auth_link.NamesResolved):
                found = [name for name in names if name in outcome.accounts]
                guesses.end(session.name, attempts, attempts - len(set(found)))
                answer(session, envelopes.Found(id=request.id, names=found), actions)
            else:
                guesses.end(session.name, attempts, 0)
                self._pass_on(session, request.id, outcome, actions)

        self._pool.ask(auth_link.ResolveNames(names=sorted(set(names))), respond, now, actions)

    # --- sessions and their tokens ------------------------------------------------------------------------

    def end_tokens(
        self, token_ids: list[int], now: float, actions: list[Action], *, asker: Session | None = None
    ) -> None:
        """Tell and end every session on these tokens, but for the one that asked for it."""
        if not token_ids:
            return
        self._ended.update(dict.fromkeys(token_ids, now))
        for session in self._sessions.with_tokens(set(token_ids)):
            if session is asker:
                continue
            text = "the token of this session was revoked, or the password was changed: log in again"
            error = envelopes.Error(code="session_ended", text=text, fatal=True)
            actions.append(Reply(session.routing_id, error))
            self.over(session)

    def due(self, now: float, actions: list[Action]) -> None:
        """Hold open sessions against the accounts again, every minute; forget what no longer matters."""
        if self._check_at is None:
            self._check_at = now + limits.SESSION_CHECK_S
        if now < self._check_at:
            return
        self._check_at = now + limits.SESSION_CHECK_S
        for throttle in (self._logins, self._peer_logins, self._registrations):
            throttle.forget_rested(now)
        self._sending.guesses.forget_rested(now)
        horizon = now - 2 * limits.SESSION_CHECK_S
        self._ended = {token: at for token, at in self._ended.items() if at > horizon}
        tokens = sorted({session.token_id for session in self._sessions.all() if session.token_id})
        for start in range(0, len(tokens), CHECKED_AT_ONCE):
            question = auth_link.CheckTokens(token_ids=tokens[start : start + CHECKED_AT_ONCE])
            self._pool.ask(question, self._checked, now, actions)

    def _checked(self, outcome: auth_link.Outcome, now: float, actions: list[Action]) -> None:
        if isinstance(outcome, auth_link.TokensEnded):
            self.end_tokens(outcome.ended, now, actions)

    def _wait(
        self, session: Session, request_id: int, throttle: Throttle, key: str, now: float, actions: list[Action]
    ) -> bool:
        """Refuse the request if its key must wait; True if it was refused."""
        wait_s = throttle.wait_s(key, now)
        if wait_s > 0:
            _rate_limited(session, request_id, wait_s, actions)
        return wait_s > 0

    def _pass_on(self, session: Session, request_id: int, outcome: auth_link.Outcome, actions: list[Action]) -> None:
        """A worker's refusal becomes the client's; an outcome of another kind is a fault of ours."""
        if isinstance(outcome, auth_link.Refused):
            refuse(session, request_id, outcome.code, outcome.text, actions, retry_after_ms=outcome.retry_after_ms)
            if outcome.code in CODES and CODES[outcome.code].fatal and not session.over:
                self.over(session)
        else:
            refuse(session, request_id, "internal", "the authentication worker answered something else", actions)


def _rate_limited(session: Session, request_id: int, wait_s: float, actions: list[Action]) -> None:
    text = f"too many attempts; try again in {wait_s:.0f} s"
    refuse(session, request_id, "rate_limited", text, actions, retry_after_ms=int(wait_s * 1000) + 1)
