"""The contract of `accounts.Accounts`: every implementation passes all of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from auth_service.accounts import OPERATION_US, Accounts, Operation, operation_key, token_secret
from tests.unit.auth_service.bench import DAY, MINUTE, NOW, TOKENS_MAX, Kind, done, grant, hashed, key, made, op, salt


def test_an_account_is_found_by_name_and_by_number(accounts: Accounts) -> None:
    alice, bob = made(accounts, "alice", 1), made(accounts, "bob", 2)
    assert accounts.find(["bob"]) == [bob]
    assert accounts.find([alice.account]) == [alice]
    assert {account.name for account in accounts.find(["alice", "nobody", "bob"])} == {"alice", "bob"}
    assert accounts.find([alice.account, 99]) == [alice]
    assert accounts.find([]) == []
    assert alice.account != bob.account


def test_a_name_is_given_once(accounts: Accounts) -> None:
    made(accounts, "alice", 1)
    assert accounts.register(key(2), "alice", "Another", "hash", NOW) is None
    assert accounts.recall(key(2)) is None, "what was refused is not remembered"


def test_a_name_is_not_given_again_when_its_account_is_over(kind: Kind) -> None:
    accounts = kind.open()
    made(accounts, "alice", 1)
    kind.disable("alice")
    assert accounts.register(key(2), "alice", "Another", "hash", NOW) is None
    assert [account.active for account in accounts.find(["alice"])] == [False]


def test_a_repeated_registration_is_what_it_was(accounts: Accounts) -> None:
    first = done(accounts.register(key(1), "alice", "Alice", "hash", NOW))
    again = Operation(account=first.account, again=True)
    assert accounts.register(key(1), "alice", "Alice", "another hash", NOW + 5) == again
    assert accounts.recall(key(1)) == again
    assert accounts.find(["alice"])[0].password_hash == "hash"


def test_of_many_who_register_one_name_at_once_exactly_one_gets_it(kind: Kind) -> None:
    together = Barrier(8)
    connections = [kind.open() for _ in range(8)]

    def register(number: int) -> Operation | None:
        together.wait(10)
        return connections[number].register(key(number), "alice", "", f"hash {number}", NOW)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(register, range(8)))
    winners = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    assert len(winners) == 1
    assert [account.password_hash for account in connections[0].find(["alice"])] == [f"hash {winners[0]}"]


def test_one_operation_executed_by_two_workers_at_once_is_done_once(kind: Kind) -> None:
    first, second = kind.open(), kind.open()
    alice = made(first, "alice")
    together = Barrier(2)

    def log_in(accounts: Accounts, number: int) -> Operation | None:
        together.wait(10)
        return accounts.grant(key(10), grant(alice, number), NOW)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(log_in, (first, second), (10, 11)))
    assert sorted(outcome.again for outcome in outcomes if outcome) == [False, True]
    assert len({(outcome.token, outcome.salt) for outcome in outcomes if outcome}) == 1
    assert len(first.tokens_of(alice.account, NOW)) == 1


def test_a_token_is_good_until_it_expires(accounts: Accounts) -> None:
    alice = made(accounts, "alice")
    granted = done(accounts.grant(key(2), grant(alice, 2), NOW))
    token = accounts.use_token(hashed(2), NOW + DAY - 1)
    assert token is not None
    assert (token.token, token.account, token.name, token.device) == (
        granted.token,
        alice.account,
        "alice",
        "device 2",
    )
    assert (token.created_at_us, token.expires_at_us) == (NOW, NOW + DAY)
    assert accounts.use_token(hashed(2), NOW + DAY) is None
    assert accounts.tokens_of(alice.account, NOW + DAY) == []
    assert accounts.ended_among([granted.token], NOW + DAY) == [granted.token]
    assert accounts.use_token(hashed(3), NOW) is None


def test_a_repeated_grant_gives_the_first_ones_token(accounts: Accounts) -> None:
    alice = made(accounts, "alice")
    first = done(accounts.grant(key(2), grant(alice, 2), NOW))
    again = accounts.grant(key(2), grant(alice, 3), NOW)
    assert again == Operation(alice.account, first.token, salt(2), again=True)
    assert accounts.use_token(hashed(2), NOW) is not None, "the secret that was told first is still good"
    assert accounts.use_token(hashed(3), NOW) is None
    assert len(accounts.tokens_of(alice.account, NOW)) == 1


def test_nothing_is_granted_on_a_password_that_was_changed_meanwhile(accounts: Accounts) -> None:
    alice = made(accounts, "alice")
    done(accounts.grant(key(2), grant(alice, 2, password_hash="new hash", ends_others=True), NOW))
    assert accounts.grant(key(3), grant(alice, 3), NOW) is None
    assert accounts.recall(key(3)) is None
    assert accounts.find(["alice"])[0].password_hash == "new hash"
    assert len(accounts.tokens_of(alice.account, NOW)) == 1


def test_a_new_password_ends_every_other_token_and_lists_them(accounts: Accounts) -> None:
    alice, bob = made(accounts, "alice", 1), made(accounts, "bob", 2)
    old = [done(accounts.grant(key(n), grant(alice, n), NOW)).token for n in (3, 4)]
    bobs = done(accounts.grant(key(5), grant(bob, 5), NOW)).token
    changed = done(accounts.grant(key(6), grant(alice, 6, password_hash="new", ends_others=True), NOW))
    assert changed.ended == old
    assert [token.token for token in accounts.tokens_of(alice.account, NOW)] == [changed.token]
    assert accounts.ended_among([*old, bobs, changed.token], NOW) == old
    assert accounts.recall(key(6)) == Operation(alice.account, changed.token, salt(6), old, again=True)


def test_beyond_the_most_tokens_the_oldest_ends(accounts: Accounts) -> None:
    alice = made(accounts, "alice")
    tokens = [done(accounts.grant(key(n), grant(alice, n), NOW)).token for n in range(10, 10 + TOKENS_MAX)]
    one_more = done(accounts.grant(key(20), grant(alice, 20), NOW))
    assert one_more.ended == tokens[:1]
    assert [token.token for token in accounts.tokens_of(alice.account, NOW)] == [*tokens[1:], one_more.token]


def test_a_token_ends_for_its_account_only(accounts: Accounts) -> None:
    alice, bob = made(accounts, "alice", 1), made(accounts, "bob", 2)
    token = done(accounts.grant(key(3), grant(alice, 3), NOW)).token
    assert accounts.end_token(key(4), bob.account, token, NOW) is None
    assert accounts.use_token(hashed(3), NOW) is not None
    assert done(accounts.end_token(key(5), alice.account, token, NOW)).ended == [token]
    assert accounts.use_token(hashed(3), NOW) is None
    assert accounts.end_token(key(5), alice.account, token, NOW) == Operation(
        alice.account, token, ended=[token], again=True
    )
    assert accounts.end_token(key(6), alice.account, token, NOW) is None


def test_numbers_of_tokens_are_never_given_again(accounts: Accounts) -> None:
    alice = made(accounts, "alice")
    first = done(accounts.grant(key(2), grant(alice, 2), NOW)).token
    accounts.end_token(key(3), alice.account, first, NOW)
    assert done(accounts.grant(key(4), grant(alice, 4), NOW)).token > first


def test_last_used_is_noted_once_a_minute(accounts: Accounts) -> None:
    alice = made(accounts, "alice")
    accounts.grant(key(2), grant(alice, 2), NOW)

    def last_used_after(later_us: int) -> int:
        accounts.use_token(hashed(2), NOW + later_us)
        return accounts.tokens_of(alice.account, NOW)[0].last_used_at_us - NOW

    assert last_used_after(MINUTE - 1) == 0
    assert last_used_after(MINUTE) == MINUTE
    assert last_used_after(MINUTE + 5) == MINUTE
    assert last_used_after(9 * MINUTE) == 9 * MINUTE


def test_an_account_that_is_disabled_has_no_good_token(kind: Kind) -> None:
    accounts = kind.open()
    alice = made(accounts, "alice")
    token = done(accounts.grant(key(2), grant(alice, 2), NOW)).token
    kind.disable("alice")
    assert accounts.use_token(hashed(2), NOW) is None
    assert accounts.tokens_of(alice.account, NOW) == []
    assert accounts.ended_among([token], NOW) == [token]
    assert accounts.grant(key(3), grant(alice, 3), NOW) is None


def test_an_operation_is_forgotten_after_a_day_by_whatever_is_done_next(accounts: Accounts) -> None:
    alice = made(accounts, "alice", 1)
    accounts.grant(key(2), grant(alice, 2, expires_at_us=NOW + 9 * DAY), NOW + MINUTE)
    made_late = NOW + OPERATION_US
    assert accounts.register(key(3), "bob", "", "hash", made_late) is not None
    assert accounts.recall(key(1)) is None
    assert accounts.recall(key(2)) is not None
    assert accounts.use_token(hashed(2), made_late) is not None, "the token outlives what is remembered of its making"


@pytest.mark.parametrize("other", [(op(2), "kind", "a", 1), (op(1), "other", "a", 1), (op(1), "kind", "b", 1)])
def test_an_operation_is_its_id_and_all_that_was_asked(other: tuple[bytes, str, str, int]) -> None:
    assert operation_key(*other) != operation_key(op(1), "kind", "a", 1)
    assert operation_key(op(1), "kind", "a", 1) == operation_key(op(1), "kind", "a", 1)


def test_parts_of_what_was_asked_do_not_run_into_each_other() -> None:
    assert operation_key(op(1), "k", "ab", "c") != operation_key(op(1), "k", "a", "bc")
    assert operation_key(op(1), "k", "1:a") != operation_key(op(1), "k", "", "a")


def test_a_secret_needs_both_the_salt_and_the_clients_id() -> None:
    secret = token_secret(salt(1), op(1))
    assert len(secret) == 32
    assert secret == token_secret(salt(1), op(1))
    assert len({secret, token_secret(salt(2), op(1)), token_secret(salt(1), op(2)), salt(1)}) == 4
