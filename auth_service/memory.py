"""Accounts in memory: the interface at its plainest, for tests and simulation. Nothing survives."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from auth_service.accounts import OPERATION_US, TOUCH_US, Account, Grant, Operation, Token
from restante.wire.limits import TOKENS_PER_ACCOUNT_MAX


class MemoryAccounts:
    """Implements `accounts.Accounts`."""

    def __init__(self, *, tokens_max: int = TOKENS_PER_ACCOUNT_MAX) -> None:
        self._lock = threading.Lock()
        self._tokens_max = tokens_max
        self._accounts: dict[int, Account] = {}
        self._tokens: dict[int, Token] = {}
        self._by_secret: dict[bytes, int] = {}
        self._operations: dict[bytes, tuple[Operation, int]] = {}
        self._last_token = 0

    def find(self, who: Sequence[str] | Sequence[int]) -> list[Account]:
        wanted = set(who)
        with self._lock:
            return [a for a in self._accounts.values() if a.name in wanted or a.account in wanted]

    def recall(self, op: bytes) -> Operation | None:
        with self._lock:
            return self._done(op)

    def register(self, op: bytes, name: str, display_name: str, password_hash: str, now_us: int) -> Operation | None:
        with self._lock:
            if done := self._done(op):
                return done
            if any(account.name == name for account in self._accounts.values()):
                return None
            account = Account(len(self._accounts) + 1, name, password_hash)
            self._accounts[account.account] = account
            return self._do(op, Operation(account.account), now_us)

    def grant(self, op: bytes, grant: Grant, now_us: int) -> Operation | None:
        with self._lock:
            if done := self._done(op):
                return done
            account = self._accounts.get(grant.account)
            if account is None or not account.active or account.password_hash != grant.verified:
                return None
            ended = self._surplus(grant)
            for token in ended:
                del self._tokens[token]
            self._accounts[grant.account] = msgspec.structs.replace(account, password_hash=grant.password_hash)
            token = self._make_token(account, grant, now_us)
            return self._do(op, Operation(grant.account, token, grant.salt, ended), now_us)

    def end_token(self, op: bytes, account: int, token: int, now_us: int) -> Operation | None:
        with self._lock:
            if done := self._done(op):
                return done
            if token not in self._tokens or self._tokens[token].account != account:
                return None
            del self._tokens[token]
            return self._do(op, Operation(account, token, ended=[token]), now_us)

    def use_token(self, secret_hash: bytes, now_us: int) -> Token | None:
        with self._lock:
            token = self._tokens.get(self._by_secret.get(secret_hash, 0))
            if token is None or not self._good(token, now_us):
                return None
            if now_us - token.last_used_at_us >= TOUCH_US:
                self._tokens[token.token] = msgspec.structs.replace(token, last_used_at_us=now_us)
            return token

    def tokens_of(self, account: int, now_us: int) -> list[Token]:
        with self._lock:
            return [t for t in self._tokens.values() if t.account == account and self._good(t, now_us)]

    def ended_among(self, tokens: Sequence[int], now_us: int) -> list[int]:
        with self._lock:
            good = {token.token for token in self._tokens.values() if self._good(token, now_us)}
        return [token for token in tokens if token not in good]

    # --- under the lock -----------------------------------------------------------------------------------

    def _done(self, op: bytes) -> Operation | None:
        done = self._operations.get(op)
        return msgspec.structs.replace(done[0], again=True) if done else None

    def _do(self, op: bytes, operation: Operation, now_us: int) -> Operation:
        old = [key for key, (_, at_us) in self._operations.items() if at_us <= now_us - OPERATION_US]
        for key in old:
            del self._operations[key]
        self._operations[op] = (operation, now_us)
        return operation

    def _surplus(self, grant: Grant) -> list[int]:
        """The account's tokens that one more puts an end to, oldest first."""
        own = [token.token for token in self._tokens.values() if token.account == grant.account]
        return own if grant.ends_others else own[: max(0, len(own) + 1 - self._tokens_max)]

    def _make_token(self, account: Account, grant: Grant, now_us: int) -> int:
        self._last_token += 1
        self._by_secret[grant.secret_hash] = self._last_token
        self._tokens[self._last_token] = Token(
            self._last_token, account.account, account.name, grant.device, now_us, grant.expires_at_us, now_us
        )
        return self._last_token

    def _good(self, token: Token, now_us: int) -> bool:
        return now_us < token.expires_at_us and self._accounts[token.account].active
