"""What each question is answered, over either kind of accounts: the rules, repeats, and repeats by somebody else."""

from __future__ import annotations

import pytest

from auth_service.accounts import OPERATION_US, AccountsError
from restante.wire import auth_link
from restante.wire.auth_link import AccountMade, NamesResolved, TokenMade, TokensEnded, TokensListed, TokenValid
from restante.wire.errors import CODES
from tests.unit.auth_service.bench import DAY, NOW, Kind, PlainPasswords, Worker, code, got, op


class TestMakeAccount:
    def test_a_name_is_folded(self, worker: Worker) -> None:
        assert worker.register(1, "Alice.B") == AccountMade(account=1, name="alice.b")

    @pytest.mark.parametrize("name", ["alice", "ALICE", "aLiCe"])
    def test_a_duplicate_is_refused_also_in_other_letters(self, worker: Worker, name: str) -> None:
        worker.register(1, "Alice")
        assert code(worker.register(2, name)) == "name_taken"

    @pytest.mark.parametrize("name", ["", "a", "a" * 33, "-ab", "a b", "a|b", "al\nice", "alice\n", "ſam", "bücher"])
    def test_what_is_no_name_is_refused(self, worker: Worker, name: str) -> None:
        assert code(worker.register(1, name)) == "bad_name"

    @pytest.mark.parametrize("password", ["", "7 chars", "a" * 1_025, "é" * 600])
    def test_what_is_no_password_is_refused(self, worker: Worker, password: str) -> None:
        assert code(worker.register(1, password=password)) == "bad_password"

    @pytest.mark.parametrize("password", ["8 chars!", "a" * 1_024, "é" * 512])
    def test_passwords_at_their_limits_are_taken(self, worker: Worker, password: str) -> None:
        got(AccountMade, worker.register(1, password=password))
        got(TokenMade, worker.log_in(2, password=password))

    def test_a_repeat_is_answered_the_same_also_by_another_worker(self, kind: Kind) -> None:
        first, second = Worker(kind.open()), Worker(kind.open())
        answer = first.register(1)
        assert first.register(1) == second.register(1) == answer
        assert first.register(1, "ALICE") == answer

    def test_a_repeat_with_another_password_is_no_repeat(self, worker: Worker) -> None:
        worker.register(1)
        assert code(worker.register(1, password="guessed password")) == "name_taken"

    def test_the_same_id_for_another_name_is_another_registration(self, worker: Worker) -> None:
        assert worker.register(1, "alice") == AccountMade(account=1, name="alice")
        assert worker.register(1, "mallory") == AccountMade(account=2, name="mallory")

    def test_a_name_that_is_taken_costs_no_hash(self, worker: Worker) -> None:
        worker.register(1)
        worker.register(2)
        assert (worker.passwords.hashed, worker.passwords.checked) == (1, [])

    def test_the_same_registration_made_by_another_worker_meanwhile_is_answered(self, kind: Kind) -> None:
        stopped, other = Worker(kind.open()), Worker(kind.open())
        stopped.passwords.while_hashing = lambda: other.register(1)
        assert stopped.register(1) == other.register(1) == AccountMade(account=1, name="alice")

    def test_the_same_made_meanwhile_with_another_password_is_not_ones_own(self, kind: Kind) -> None:
        late, other = Worker(kind.open()), Worker(kind.open())
        late.passwords.while_hashing = lambda: other.register(1, password="other password")
        assert code(late.register(1)) == "name_taken"

    def test_a_name_taken_by_somebody_else_meanwhile_is_taken(self, kind: Kind) -> None:
        late, other = Worker(kind.open()), Worker(kind.open())
        late.passwords.while_hashing = lambda: other.register(2)
        assert code(late.register(1)) == "name_taken"


class TestLogIn:
    def test_it_makes_a_token_that_works(self, worker: Worker) -> None:
        worker.register(1)
        token = got(TokenMade, worker.log_in(2, "Alice", device="desk"))
        assert worker.use(token.token) == TokenValid(
            account=1, name="alice", token_id=token.token_id, expires_at_us=NOW + 365 * DAY
        )
        assert token.ended == []

    @pytest.mark.parametrize("name", ["nobody", "", "no name!", "n" * 33])
    def test_a_name_that_nobody_has_costs_what_a_wrong_password_costs(self, worker: Worker, name: str) -> None:
        worker.register(1)
        wrong = worker.log_in(2, password="wrong password")
        unknown = worker.log_in(3, name)
        assert wrong == unknown
        assert code(unknown) == "wrong_credentials"
        stored = worker.accounts.find(["alice"])[0].password_hash
        assert worker.passwords.checked == [stored, None]

    def test_a_disabled_account_is_refused_at_the_same_cost(self, kind: Kind) -> None:
        worker = Worker(kind.open())
        worker.register(1)
        kind.disable("alice")
        assert code(worker.log_in(2)) == "wrong_credentials"
        assert len(worker.passwords.checked) == 1

    def test_an_accent_is_the_same_however_the_keyboard_spells_it(self, worker: Worker) -> None:
        worker.register(1, password="caf\u00e9 ol\u00e9")
        got(TokenMade, worker.log_in(2, password="cafe\u0301 ole\u0301"))

    def test_a_repeat_gets_the_same_token_also_from_another_worker(self, kind: Kind) -> None:
        first, second = Worker(kind.open()), Worker(kind.open())
        first.register(1)
        answer = got(TokenMade, first.log_in(2))
        assert second.log_in(2) == first.log_in(2) == answer
        assert got(TokensListed, first.ask(auth_link.ListTokens(account=1, token_id=0))).tokens[1:] == []

    def test_a_worker_that_wakes_late_takes_nobodys_token_away(self, kind: Kind) -> None:
        stopped, other = Worker(kind.open()), Worker(kind.open())
        other.register(1)
        told: list[auth_link.Outcome] = []
        stopped.passwords.while_checking = lambda: told.append(other.log_in(2))
        late = got(TokenMade, stopped.log_in(2))
        token = got(TokenMade, told[0])
        assert late == token
        got(TokenValid, other.use(token.token))

    def test_a_repeat_with_a_wrong_password_gets_nothing(self, worker: Worker) -> None:
        worker.register(1)
        worker.log_in(2)
        assert code(worker.log_in(2, password="guessed password")) == "wrong_credentials"

    def test_somebody_elses_id_gives_ones_own_token_and_leaves_his(self, worker: Worker) -> None:
        worker.register(1)
        worker.register(2, "mallory", "mallory's password")
        alices = got(TokenMade, worker.log_in(3))
        mallorys = got(TokenMade, worker.log_in(3, "mallory", "mallory's password"))
        assert (mallorys.account, mallorys.name) == (2, "mallory")
        assert mallorys.token != alices.token
        assert code(worker.log_in(3, "alice", "mallory's password")) == "wrong_credentials"
        assert worker.log_in(3) == alices

    def test_an_id_used_to_register_is_another_operation(self, worker: Worker) -> None:
        worker.register(1)
        got(TokenMade, worker.log_in(1))

    def test_a_repeat_does_not_bring_back_a_token_that_was_ended(self, worker: Worker) -> None:
        worker.register(1)
        token = got(TokenMade, worker.log_in(2))
        worker.ask(auth_link.EndToken(op=op(3), account=1, token_id=token.token_id))
        assert code(worker.log_in(2)) == "bad_token"
        assert code(worker.use(token.token)) == "bad_token"
        assert got(TokensListed, worker.ask(auth_link.ListTokens(account=1, token_id=0))).tokens == []

    def test_after_a_day_the_same_id_makes_a_new_token(self, worker: Worker) -> None:
        worker.register(1)
        first = got(TokenMade, worker.log_in(2))
        worker.log_in(3, now_us=NOW + OPERATION_US)
        second = got(TokenMade, worker.log_in(2, now_us=NOW + OPERATION_US))
        assert second.token_id != first.token_id
        assert second.token != first.token

    def test_a_password_changed_while_it_is_verified_gives_no_token(self, kind: Kind) -> None:
        slow, other = Worker(kind.open()), Worker(kind.open())
        slow.register(1)
        slow.passwords.while_checking = lambda: other.change(2, "old password", "new password")
        assert code(slow.log_in(3)) == "wrong_credentials"

    def test_a_hash_renewed_while_it_is_verified_is_verified_again(self, kind: Kind) -> None:
        slow, newer = Worker(kind.open()), Worker(kind.open(), PlainPasswords(version=2))
        slow.register(1)
        slow.passwords.while_checking = lambda: newer.log_in(2)
        got(TokenMade, slow.log_in(3))
        assert len(slow.passwords.checked) == 2

    def test_a_hash_with_old_parameters_is_renewed(self, kind: Kind) -> None:
        Worker(kind.open()).register(1)
        newer = Worker(kind.open(), PlainPasswords(version=2))
        got(TokenMade, newer.log_in(2))
        assert newer.accounts.find(["alice"])[0].password_hash.startswith("2:")
        got(TokenMade, newer.log_in(3))
        assert newer.passwords.hashed == 1


class TestChangePassword:
    def test_every_other_token_ends_and_the_session_gets_a_new_one(self, worker: Worker) -> None:
        worker.register(1)
        mine, other = (got(TokenMade, worker.log_in(n, device=d)) for n, d in ((2, "desk"), (3, "phone")))
        new = got(TokenMade, worker.change(4, "old password", "new password", token_id=mine.token_id))
        assert new.ended == [mine.token_id, other.token_id]
        assert [code(worker.use(token.token)) for token in (mine, other)] == ["bad_token"] * 2
        listed = got(TokensListed, worker.ask(auth_link.ListTokens(account=1, token_id=new.token_id)))
        assert [(token.token, token.device, token.current) for token in listed.tokens] == [(new.token_id, "desk", True)]
        assert code(worker.log_in(5)) == "wrong_credentials"
        got(TokenMade, worker.log_in(6, password="new password"))

    def test_a_wrong_old_password_changes_nothing(self, worker: Worker) -> None:
        worker.register(1)
        token = got(TokenMade, worker.log_in(2))
        assert code(worker.change(3, "wrong password", "new password")) == "wrong_credentials"
        got(TokenValid, worker.use(token.token))
        got(TokenMade, worker.log_in(4))

    def test_what_is_no_password_is_refused(self, worker: Worker) -> None:
        worker.register(1)
        assert code(worker.change(2, "old password", "short")) == "bad_password"

    def test_a_repeat_gets_the_first_answer_though_the_old_password_is_wrong_by_now(self, kind: Kind) -> None:
        first, second = Worker(kind.open()), Worker(kind.open())
        first.register(1)
        mine = got(TokenMade, first.log_in(2))
        answer = got(TokenMade, first.change(3, "old password", "new password", token_id=mine.token_id))
        assert second.change(3, "old password", "new password", token_id=mine.token_id) == answer
        assert second.change(3, "old password", "new password", token_id=99) == answer
        assert answer.ended == [mine.token_id]
        got(TokenValid, second.use(answer.token))

    def test_a_repeat_with_another_new_password_is_refused(self, worker: Worker) -> None:
        worker.register(1)
        worker.change(2, "old password", "new password")
        assert code(worker.change(2, "old password", "other password")) == "wrong_credentials"
        assert code(worker.change(2, "new password", "other password")) == "wrong_credentials"

    def test_somebody_elses_id_changes_ones_own_password_only(self, worker: Worker) -> None:
        worker.register(1)
        worker.register(2, "mallory", "mallory's password")
        alices = got(TokenMade, worker.change(3, "old password", "new password"))
        assert code(worker.change(3, "guessed password", "new password", account=2)) == "wrong_credentials"
        mallorys = got(TokenMade, worker.change(3, "mallory's password", "new password", account=2))
        assert mallorys.name == "mallory"
        assert mallorys.token != alices.token
        assert worker.change(3, "old password", "new password") == alices

    def test_a_worker_that_wakes_late_does_not_bring_back_an_older_password(self, worker: Worker) -> None:
        worker.register(1)
        worker.change(2, "old password", "new password")
        got(TokenMade, worker.change(3, "new password", "old password"))
        assert code(worker.change(2, "old password", "new password")) == "wrong_credentials"
        got(TokenMade, worker.log_in(4, password="old password"))

    def test_two_changes_at_once_do_not_both_succeed(self, kind: Kind) -> None:
        slow, other = Worker(kind.open()), Worker(kind.open())
        slow.register(1)
        slow.passwords.while_checking = lambda: other.change(2, "old password", "other password")
        assert code(slow.change(3, "old password", "new password")) == "wrong_credentials"
        got(TokenMade, slow.log_in(4, password="other password"))

    def test_the_same_change_made_by_another_worker_meanwhile_is_answered(self, kind: Kind) -> None:
        slow, other = Worker(kind.open()), Worker(kind.open())
        slow.register(1)
        slow.passwords.while_checking = lambda: other.change(2, "old password", "new password")
        answer = got(TokenMade, slow.change(2, "old password", "new password"))
        assert other.change(2, "old password", "new password") == answer

    def test_an_account_that_is_not_there_is_refused(self, worker: Worker) -> None:
        assert code(worker.change(1, "old password", "new password", account=7)) == "wrong_credentials"


class TestTokens:
    def test_a_token_that_never_was_is_refused(self, worker: Worker) -> None:
        assert code(worker.use(bytes(32))) == "bad_token"

    def test_an_expired_token_is_refused(self, worker: Worker) -> None:
        worker.register(1)
        token = got(TokenMade, worker.log_in(2))
        got(TokenValid, worker.use(token.token, token.expires_at_us - 1))
        assert code(worker.use(token.token, token.expires_at_us)) == "bad_token"

    def test_a_token_ends_once_and_a_repeat_says_the_same(self, worker: Worker) -> None:
        worker.register(1)
        token = got(TokenMade, worker.log_in(2))
        end = auth_link.EndToken(op=op(3), account=1, token_id=token.token_id)
        assert worker.ask(end) == worker.ask(end) == TokensEnded(ended=[token.token_id])
        assert code(worker.use(token.token)) == "bad_token"
        other_op = auth_link.EndToken(op=op(4), account=1, token_id=token.token_id)
        assert code(worker.ask(other_op)) == "unknown_token"

    def test_nobody_ends_somebody_elses_token_not_even_with_his_id(self, worker: Worker) -> None:
        worker.register(1)
        worker.register(2, "mallory")
        token = got(TokenMade, worker.log_in(3))
        assert code(worker.ask(auth_link.EndToken(op=op(4), account=2, token_id=token.token_id))) == "unknown_token"
        worker.ask(auth_link.EndToken(op=op(5), account=1, token_id=token.token_id))
        assert code(worker.ask(auth_link.EndToken(op=op(5), account=2, token_id=token.token_id))) == "unknown_token"

    def test_sessions_are_checked_in_bulk(self, worker: Worker) -> None:
        worker.register(1)
        tokens = [got(TokenMade, worker.log_in(n)).token_id for n in (2, 3)]
        worker.ask(auth_link.EndToken(op=op(4), account=1, token_id=tokens[0]))
        check = auth_link.CheckTokens(token_ids=[999, *tokens])
        assert worker.ask(check) == TokensEnded(ended=[999, tokens[0]])


def test_names_are_resolved_as_they_were_asked(kind: Kind) -> None:
    worker = Worker(kind.open())
    for number, name in enumerate(("alice", "bob", "carol"), 1):
        worker.register(number, name)
    kind.disable("carol")
    names = ["Bob", "alice", "carol", "nobody", "no name!", "bob\0x", "", "bob"]
    resolved = worker.ask(auth_link.ResolveNames(names=names))
    assert resolved == NamesResolved(accounts={"Bob": 2, "alice": 1, "bob": 2})
    assert worker.ask(auth_link.ResolveNames(names=["?"])) == NamesResolved(accounts={})


def test_accounts_that_fail_are_a_refusal_that_may_pass(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise AccountsError("storage_full", "the disk is full")

    monkeypatch.setattr(worker.accounts, "register", full)
    refused = got(auth_link.Refused, worker.register(1))
    assert (refused.code, refused.text) == ("storage_full", "the disk is full")
    assert CODES[refused.code].passes
    assert refused.retry_after_ms
