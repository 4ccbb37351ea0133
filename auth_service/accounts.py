"""Where accounts, tokens and done operations are kept: the interface that every implementation passes one suite for.

`memory` is the one to read and to test with, `sqlite` the one that lasts.

Every change carries an operation key and is stored with it in one transaction (RULES 21). The key is made by
`operation_key` from the client's operation id *and* from what was asked, by whom: an id that somebody else uses, or
that is used for something else, is another operation, and neither blocks nor repeats this one. What was done is kept
for OPERATION_US; a change that comes again within it changes nothing and gets the `Operation` of the first time, marked
`again`.

A token's secret is kept nowhere. The operation that made the token keeps a random salt, from which and from the
client's operation id the secret is made (`token_secret`). So a retry gets the same secret, and two workers that
execute one log-in (one of them stopped and woken late) don't take each other's token away. When the operation is
forgotten, the salt is too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

OPERATION_US: Final = 24 * 3_600 * 1_000_000
"""How long an operation is remembered: a client that retries after a day has long told its user that it failed."""

TOUCH_US: Final = 60 * 1_000_000
"""*Last used* is this coarse, so that to resume is a read and no write."""


class Account(Struct, frozen=True):
    """An account that exists, or existed: its row is never deleted, so its name is never given again."""

    account: int
    name: str
    password_hash: str
    active: bool = True
    """False: it can neither log in nor receive, and its tokens are over."""


class Token(Struct, frozen=True):
    """A token that is good. Times are microseconds since the epoch."""

    token: int
    account: int
    name: str
    device: str
    created_at_us: int
    expires_at_us: int
    last_used_at_us: int


class Operation(Struct, frozen=True):
    """What a change did."""

    account: int
    token: int = 0
    salt: bytes = b""
    """What the token's secret is made from, with the client's operation id."""
    ended: list[int] = []
    """The tokens that are over with it."""
    again: bool = False
    """True if it had been done before; nothing was changed now."""


class Grant(Struct, frozen=True):
    """A token to be made for somebody who knows the password."""

    account: int
    verified: str
    """The hash that the password was verified against. If it is no longer the account's, nothing is granted."""
    password_hash: str
    """The account's hash from now on: the same, the same password's with newer parameters, or the new password's."""
    salt: bytes
    secret_hash: bytes
    device: str
    expires_at_us: int
    ends_others: bool = False
    """True if the password changes: every other token of the account ends."""


class AccountsError(Exception):
    """The accounts can't be read or written now. `code` is of the table of codes; `str()` is for people.

    A change that met it may have happened nevertheless; done again with the same key, it is done once.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Accounts(Protocol):
    """Eight methods. Each is atomic, may block, may be called from any thread, and raises AccountsError alone.

    Names are given folded (`restante.wire.names`). `now_us` is wall time.
    """

    def find(self, who: Sequence[str] | Sequence[int]) -> list[Account]:
        """The accounts of these names, or of these numbers, also those no longer active; in no order."""

    def recall(self, op: bytes) -> Operation | None:
        """What the operation did, None if it was not done or is forgotten."""

    def register(self, op: bytes, name: str, display_name: str, password_hash: str, now_us: int) -> Operation | None:
        """Make an account. None: the name is taken, or was."""

    def grant(self, op: bytes, grant: Grant, now_us: int) -> Operation | None:
        """Make a token; end the oldest beyond TOKENS_PER_ACCOUNT_MAX. None: the password was changed meanwhile."""

    def end_token(self, op: bytes, account: int, token: int, now_us: int) -> Operation | None:
        """End a token. None: the account has no such token."""

    def use_token(self, secret_hash: bytes, now_us: int) -> Token | None:
        """The good token with that secret; marks it used, at most every TOUCH_US."""

    def tokens_of(self, account: int, now_us: int) -> list[Token]:
        """The account's good tokens, oldest first."""

    def ended_among(self, tokens: Sequence[int], now_us: int) -> list[int]:
        """Those of these token numbers that are not, or no longer, good; in the order given."""


def operation_key(op: bytes, kind: str, *subject: str | int) -> bytes:
    """The 32 bytes under which an operation is kept: SHA-256 of the client's 16, the kind, and whom it is about.

    `subject` is all that was asked but for secrets: those are verified again, never stored. Parts are written with
    their lengths, so that no two lists of parts are the same bytes.
    """
    assert len(op) == 16
    digest = hashlib.sha256(b"restante-operation\0" + op)
    for part in (kind, *subject):
        raw = str(part).encode()
        digest.update(b"%d:" % len(raw) + raw)
    return digest.digest()


def token_secret(salt: bytes, op: bytes) -> bytes:
    """A token's 32 secret bytes: HMAC-SHA256 of the client's operation id under 256 random bits.

    To everybody without the salt they are as random as the salt. Whoever reads the operations of the last day (a stolen
    backup) still lacks the operation id, which is stored nowhere.
    """
    assert len(salt) == 32
    return hmac.digest(salt, b"restante-token\0" + op, "sha256")


def secret_hash(secret: bytes) -> bytes:
    """What is stored of a token's secret. 256 random bits can't be guessed, so the hash need not be slow."""
    return hashlib.sha256(secret).digest()
