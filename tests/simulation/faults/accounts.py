"""Faults of accounts and sessions: who is taken for whom, and for how long (G6, and G2 of what accounts are asked)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from auth_service.answers import Answers, _refused
from auth_service.memory import MemoryAccounts
from broker.accounts import Accounts
from broker.core import Broker
from broker.events import Action
from broker.reading import Reading
from broker.sessions import Session, Sessions
from tests.simulation.faults.planting import Patch, fault

# --- sessions -----------------------------------------------------------------------------------------------


@fault
def read_the_neighbours_mail() -> list[Patch]:
    """A page is read from the wrong mailbox."""
    fetch = Reading.fetch

    def nosy(self: Reading, session: Any, request: Any, now: float, actions: list[Action]) -> None:
        own = session.account
        session.account = 1
        fetch(self, session, request, now, actions)
        session.account = own

    return [(Reading, "fetch", nosy)]


@fault
def reuse_a_session() -> list[Patch]:
    """Whoever has the routing id has the session that was there before, whatever key they hold (RULES 1)."""
    of = Sessions.of

    def trusting(self: Sessions, peer: Any, now: float) -> Any:
        session = self._by_id.get(peer.routing_id)
        return of(self, peer if session is None else replace(peer, key=session.key), now)

    return [(Sessions, "of", trusting)]


@fault
def serve_without_a_session() -> list[Patch]:
    """A connection that has not logged in is served like any other."""
    not_now = Broker._not_now

    def open_house(self: Broker, session: Session, request: Any) -> Any:
        no = not_now(self, session, request)
        return None if no is not None and no[0] in ("no_session", "not_logged_in") else no

    return [(Broker, "_not_now", open_house)]


@fault
def resume_as_the_first() -> list[Patch]:
    """Who resumes gets the account of number 1."""
    bind = Accounts._bind

    def confused(self: Accounts, session: Session, request_id: int, outcome: Any, actions: list[Action]) -> None:
        bind(self, session, request_id, outcome, actions)
        session.account = 1

    return [(Accounts, "_bind", confused)]


# --- tokens -------------------------------------------------------------------------------------------------


@fault
def sessions_outlive_their_tokens() -> list[Patch]:
    """When tokens end, the sessions on them go on (RULES 20)."""
    return [(Accounts, "end_tokens", lambda self, token_ids, now, actions, *, asker=None: None)]


@fault
def old_tokens_stay_good() -> list[Patch]:
    """A change of password leaves the account's other tokens as they are."""
    return [(MemoryAccounts, "_surplus", lambda self, grant: [])]


@fault
def revoked_and_still_good() -> list[Patch]:
    """To end a token is to say so, and the broker does not remember either."""
    end_token, logged_in = MemoryAccounts.end_token, Accounts._logged_in

    def forgetful(self: Accounts, *rest: Any) -> None:
        self._ended.clear()
        logged_in(self, *rest)

    def lenient(self: MemoryAccounts, op: bytes, account: int, token: int, now_us: int) -> Any:
        kept = self._tokens.get(token)
        done = end_token(self, op, account, token, now_us)
        if kept is not None:
            self._tokens[token] = kept
        return done

    return [(MemoryAccounts, "end_token", lenient), (Accounts, "_logged_in", forgetful)]


# --- operations ---------------------------------------------------------------------------------------------


@fault
def forget_operations() -> list[Patch]:
    """An authentication worker does not know that it has made this account already."""
    return [(MemoryAccounts, "_done", lambda self, op: None)]


@fault
def forget_the_result_of_an_operation() -> list[Patch]:
    """That a password was changed is remembered, what came of it is not (RULES 21)."""

    def amnesiac(self: Answers, question: Any, done: Any, new: str, now_us: int) -> Any:
        return _refused("wrong_credentials")

    return [(Answers, "_change_password_again", amnesiac)]
