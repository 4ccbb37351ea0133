"""What the broker and an authentication worker say to each other: `[b"AUTH/1", header]`.

The worker's DEALER connects to the broker's ROUTER and says `ready`; from then on it is asked. A question is asked of
one worker at a time, and of another if that one dies, so every change carries the operation id (`op`) that its client
made, and the worker stores it with the result in one transaction: whoever is asked again answers the same (RULES 21).
"""

from __future__ import annotations

from msgspec import Struct

from restante.wire.envelopes import TokenInfo
from restante.wire.fields import Count, Id16, Name, Password, Text, TimeUs, Token


class Link(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type"):
    """What all headers of this link have in common."""


# --- questions --------------------------------------------------------------------------------------------


class MakeAccount(Link, frozen=True, omit_defaults=True, kw_only=True, tag="make_account"):
    """→ `AccountMade`, or refused `bad_name`, `bad_password`, `name_taken`."""

    op: Id16
    name: Name
    password: Password
    display_name: str = ""


class LogIn(Link, frozen=True, omit_defaults=True, kw_only=True, tag="log_in"):
    """→ `TokenMade`, or refused `wrong_credentials`.

    A retry with the same op gets the same token, or `bad_token` if it was ended since.
    """

    op: Id16
    name: Name
    password: Password
    device: str = ""


class UseToken(Link, frozen=True, omit_defaults=True, kw_only=True, tag="use_token"):
    """→ `TokenValid`, or refused `bad_token`."""

    token: Token


class EndToken(Link, frozen=True, omit_defaults=True, kw_only=True, tag="end_token"):
    """Log out, or revoke. → `TokensEnded`, or refused `unknown_token`."""

    op: Id16
    account: Count
    token_id: Count


class ChangePassword(Link, frozen=True, omit_defaults=True, kw_only=True, tag="change_password"):
    """→ `TokenMade`, or refused `wrong_credentials`, `bad_password`. Every other token of the account is in `ended`."""

    op: Id16
    account: Count
    old: Password
    new: Password
    device: str = ""
    token_id: Count = 0
    """The token of the session that asks; the new one takes its device's name."""


class ListTokens(Link, frozen=True, omit_defaults=True, kw_only=True, tag="list_tokens"):
    """→ `TokensListed`, the one with `token_id` as current."""

    account: Count
    token_id: Count


class ResolveNames(Link, frozen=True, omit_defaults=True, kw_only=True, tag="resolve_names"):
    """→ `NamesResolved`: only the names of accounts that can receive."""

    names: list[Name]


class CheckTokens(Link, frozen=True, omit_defaults=True, kw_only=True, tag="check_tokens"):
    """Sessions are checked again in bulk. → `TokensEnded`: those of the given that are no longer valid."""

    token_ids: list[Count]


Question = MakeAccount | LogIn | UseToken | EndToken | ChangePassword | ListTokens | ResolveNames | CheckTokens


# --- results ----------------------------------------------------------------------------------------------


class AccountMade(Link, frozen=True, omit_defaults=True, kw_only=True, tag="account_made"):
    """The account exists."""

    account: Count
    name: Name


class TokenMade(Link, frozen=True, omit_defaults=True, kw_only=True, tag="token_made"):
    """A token exists; its secret is in no other place."""

    account: Count
    name: Name
    token_id: Count
    token: Token
    expires_at_us: TimeUs
    ended: list[Count] = []
    """Tokens that are over with it: the broker ends their sessions before it passes the answer on (RULES 20)."""


class TokenValid(Link, frozen=True, omit_defaults=True, kw_only=True, tag="token_valid"):
    """The token is good."""

    account: Count
    name: Name
    token_id: Count
    expires_at_us: TimeUs


class TokensEnded(Link, frozen=True, omit_defaults=True, kw_only=True, tag="tokens_ended"):
    """These tokens are over."""

    ended: list[Count] = []


class TokensListed(Link, frozen=True, omit_defaults=True, kw_only=True, tag="tokens_listed"):
    """An account's tokens, oldest first."""

    tokens: list[TokenInfo]


class NamesResolved(Link, frozen=True, omit_defaults=True, kw_only=True, tag="names_resolved"):
    """The account numbers of the names that have one."""

    accounts: dict[str, int]


class Refused(Link, frozen=True, omit_defaults=True, kw_only=True, tag="refused"):
    """No, with a code of the table of codes."""

    code: str
    text: Text = ""
    retry_after_ms: Count | None = None


Outcome = AccountMade | TokenMade | TokenValid | TokensEnded | TokensListed | NamesResolved | Refused


# --- the link's own words ---------------------------------------------------------------------------------


class Ready(Link, frozen=True, omit_defaults=True, kw_only=True, tag="ready"):
    """A worker's first word, and its answer to `who`: ask me, up to `capacity` at once; I hold nothing yet."""

    worker: Id16
    """Made at the worker's start: a restarted one is another worker."""
    capacity: Count


class Beat(Link, frozen=True, omit_defaults=True, kw_only=True, tag="beat"):
    """A sign of life, either way, when nothing else was said for a second."""


class Who(Link, frozen=True, omit_defaults=True, kw_only=True, tag="who"):
    """The broker to a worker it does not know: say `ready`. What it was asked before is not to be answered."""


class Leaving(Link, frozen=True, omit_defaults=True, kw_only=True, tag="leaving"):
    """A worker that stops: ask me nothing more; what I hold I still answer."""


class Ask(Link, frozen=True, omit_defaults=True, kw_only=True, tag="ask"):
    """A question, numbered by the broker."""

    n: Count
    question: Question


class Told(Link, frozen=True, omit_defaults=True, kw_only=True, tag="told"):
    """The answer to the question of that number."""

    n: Count
    outcome: Outcome


ToWorker = Ask | Beat | Who
FromWorker = Ready | Beat | Leaving | Told
