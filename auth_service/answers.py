"""What each question of the broker is answered: the service's rules.

`Answers.answer` is a plain function of the question, the accounts, the time and some dice. It blocks, on a password
hash and on the disk, so the shell calls it in a thread; with accounts in memory and a cheap hash it runs in a
simulation.

The two questions about repeats (RULES 21):

*Is it a repeat?* The operation key says so: the client's id, the kind of question, and whom it is about. Another
account's id, or the same id for another question, gives another key, and the request is an ordinary one.

*May he have the answer?* The id is no secret, so it proves nothing. Who repeats must show again what the first request
had to show, now that it is done:

    make_account      the password is the account's
    log_in            the password is the account's
    change_password   the *new* password is the account's (the old one is wrong by now, and isn't looked at)
    end_token         nothing: the answer says nothing that the session didn't know

If he can't, he is refused as if nothing had been done before; and what is remembered is never done a second time, so a
worker that wakes late can't bring back an older password.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from auth_service import names
from auth_service.accounts import (
    Account,
    Accounts,
    AccountsError,
    Grant,
    Operation,
    operation_key,
    secret_hash,
    token_secret,
)
from auth_service.passwords import Passwords
from restante.wire import auth_link
from restante.wire.auth_link import Outcome, Refused
from restante.wire.envelopes import TokenInfo
from restante.wire.errors import CODES

TRIES_MAX: Final = 3
"""How often a question is begun anew because the password was changed while it was verified. Each time costs a hash."""

RETRY_MS: Final = 1_000
"""When to ask again after what may pass: a lock, a full disk."""

READS: Final = (auth_link.UseToken, auth_link.ListTokens, auth_link.ResolveNames, auth_link.CheckTokens)
"""Questions that neither hash nor change: they are never to wait behind those that do."""

_US_PER_DAY: Final = 86_400 * 1_000_000


class Policy(Struct, frozen=True):
    """What an operator may choose."""

    token_days: int = 365
    """How long a token lasts: a cron job should not have to log in twice a year."""


class Answers:
    """Answers questions. `entropy(n)` gives n random bytes, unguessable."""

    def __init__(
        self, accounts: Accounts, passwords: Passwords, entropy: Callable[[int], bytes], policy: Policy
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._entropy = entropy
        self._policy = policy

    def answer(self, question: auth_link.Question, now_us: int) -> Outcome:
        """The answer; also to what can't be answered now. `now_us` is wall time. Raises only what is a bug of ours."""
        try:
            return self._answer(question, now_us)
        except AccountsError as error:
            return Refused(code=error.code, text=str(error), retry_after_ms=RETRY_MS)

    def _answer(self, question: auth_link.Question, now_us: int) -> Outcome:
        match question:
            case auth_link.UseToken():
                return self._use_token(question, now_us)
            case auth_link.ResolveNames():
                return self._resolve(question)
            case auth_link.CheckTokens():
                return auth_link.TokensEnded(ended=self._accounts.ended_among(question.token_ids, now_us))
            case auth_link.ListTokens():
                return self._list_tokens(question, now_us)
            case auth_link.LogIn():
                return self._log_in(question, now_us)
            case auth_link.MakeAccount():
                return self._make_account(question, now_us)
            case auth_link.ChangePassword():
                return self._change_password(question, now_us)
            case auth_link.EndToken():
                return self._end_token(question, now_us)

    # --- accounts -----------------------------------------------------------------------------------------

    def _make_account(self, question: auth_link.MakeAccount, now_us: int) -> Outcome:
        name, password = names.account_name(question.name), names.normal(question.password)
        if name is None:
            return _refused("bad_name")
        if not names.password_fits(password):
            return _refused("bad_password")
        op = operation_key(question.op, "make_account", name, question.display_name)
        if not self._accounts.find([name]):
            digest = self._passwords.hash(password)
            made = self._accounts.register(op, name, question.display_name, digest, now_us)
            if made and not made.again:
                return auth_link.AccountMade(account=made.account, name=name)
        return self._make_account_again(op, name, password)

    def _make_account_again(self, op: bytes, name: str, password: str) -> Outcome:
        account, done = self._find(name), self._accounts.recall(op)
        if account and done and self._passwords.check(password, account.password_hash).right:
            return auth_link.AccountMade(account=account.account, name=name)
        return _refused("name_taken")

    def _find(self, who: str | int | None) -> Account | None:
        """The active account of that name or number."""
        found = self._accounts.find([who] if isinstance(who, int) else [who or ""])
        return found[0] if found and found[0].active else None

    def _resolve(self, question: auth_link.ResolveNames) -> Outcome:
        folded = {name: fold for name in question.names if (fold := names.account_name(name)) is not None}
        numbers = {a.name: a.account for a in self._accounts.find([*set(folded.values())]) if a.active}
        found = {name: numbers[fold] for name, fold in folded.items() if fold in numbers}
        return auth_link.NamesResolved(accounts=found)

    # --- passwords ----------------------------------------------------------------------------------------

    def _log_in(self, question: auth_link.LogIn, now_us: int) -> Outcome:
        name, password = names.account_name(question.name), names.normal(question.password)
        for _ in range(TRIES_MAX):
            account = self._find(name)
            checked = self._passwords.check(password, account.password_hash if account else None)
            if account is None or not checked.right:
                return _refused("wrong_credentials")
            op = operation_key(question.op, "log_in", account.account, question.device)
            grant = self._grant(question.op, account, checked.rehashed, question.device, now_us)
            if done := self._accounts.grant(op, grant, now_us):
                return self._token_made(question.op, done, now_us)
        return _refused("unavailable", RETRY_MS)

    def _change_password(self, question: auth_link.ChangePassword, now_us: int) -> Outcome:
        old, new = names.normal(question.old), names.normal(question.new)
        if not names.password_fits(new):
            return _refused("bad_password")
        op = operation_key(question.op, "change_password", question.account)
        for _ in range(TRIES_MAX):
            account, done = self._find(question.account), self._accounts.recall(op)
            if done is None:
                if account is None or not self._passwords.check(old, account.password_hash).right:
                    return _refused("wrong_credentials")
                grant = self._change(question, account, new, now_us)
                done = self._accounts.grant(op, grant, now_us)
            if done and not done.again:
                return self._token_made(question.op, done, now_us)
            if done:
                return self._change_password_again(question, done, new, now_us)
        return _refused("unavailable", RETRY_MS)

    def _change_password_again(
        self, question: auth_link.ChangePassword, done: Operation, new: str, now_us: int
    ) -> Outcome:
        account = self._find(question.account)
        if account is None or not self._passwords.check(new, account.password_hash).right:
            return _refused("wrong_credentials")
        return self._token_made(question.op, done, now_us)

    def _change(self, question: auth_link.ChangePassword, account: Account, new: str, now_us: int) -> Grant:
        tokens = self._accounts.tokens_of(account.account, now_us)
        device = question.device or next((t.device for t in tokens if t.token == question.token_id), "")
        digest = self._passwords.hash(new)
        return self._grant(question.op, account, digest, device, now_us, ends_others=True)

    def _grant(
        self,
        op: bytes,
        account: Account,
        new_hash: str,
        device: str,
        now_us: int,
        *,
        ends_others: bool = False,
    ) -> Grant:
        salt = self._entropy(32)
        return Grant(
            account=account.account,
            verified=account.password_hash,
            password_hash=new_hash or account.password_hash,
            salt=salt,
            secret_hash=secret_hash(token_secret(salt, op)),
            device=device,
            expires_at_us=now_us + self._policy.token_days * _US_PER_DAY,
            ends_others=ends_others,
        )

    # --- tokens -------------------------------------------------------------------------------------------

    def _token_made(self, op: bytes, done: Operation, now_us: int) -> Outcome:
        """The operation's token with its secret, unless it has been ended since: it is not brought back."""
        secret = token_secret(done.salt, op)
        token = self._accounts.use_token(secret_hash(secret), now_us)
        if token is None:
            return _refused("bad_token")
        return auth_link.TokenMade(
            account=token.account,
            name=token.name,
            token_id=token.token,
            token=secret,
            expires_at_us=token.expires_at_us,
            ended=done.ended,
        )

    def _use_token(self, question: auth_link.UseToken, now_us: int) -> Outcome:
        token = self._accounts.use_token(secret_hash(question.token), now_us)
        if token is None:
            return _refused("bad_token")
        return auth_link.TokenValid(
            account=token.account, name=token.name, token_id=token.token, expires_at_us=token.expires_at_us
        )

    def _end_token(self, question: auth_link.EndToken, now_us: int) -> Outcome:
        op = operation_key(question.op, "end_token", question.account, question.token_id)
        done = self._accounts.end_token(op, question.account, question.token_id, now_us)
        return auth_link.TokensEnded(ended=done.ended) if done else _refused("unknown_token")

    def _list_tokens(self, question: auth_link.ListTokens, now_us: int) -> Outcome:
        tokens = [
            TokenInfo(
                token=token.token,
                device=token.device,
                created_at_us=token.created_at_us,
                last_used_at_us=token.last_used_at_us,
                expires_at_us=token.expires_at_us,
                current=token.token == question.token_id,
            )
            for token in self._accounts.tokens_of(question.account, now_us)
        ]
        return auth_link.TokensListed(tokens=tokens)


def _refused(code: str, retry_after_ms: int | None = None) -> Refused:
    return Refused(code=code, text=CODES[code].meaning, retry_after_ms=retry_after_ms)
