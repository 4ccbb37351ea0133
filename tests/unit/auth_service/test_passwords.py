"""Password hashes, with real argon2id."""

from __future__ import annotations

import argon2
import pytest

from auth_service.passwords import LANES, MEMORY_KIB, PASSES, Argon2, Checked

CHEAP = Argon2(memory_kib=64, passes=1)


def test_the_parameters_are_owasps_least() -> None:
    parameters = argon2.extract_parameters(Argon2().hash("a password"))
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (MEMORY_KIB, PASSES, LANES)
    assert (MEMORY_KIB, PASSES, LANES) == (19 * 1024, 2, 1)


def test_the_right_password_is_right_and_a_wrong_one_is_not() -> None:
    stored = CHEAP.hash("a password")
    assert CHEAP.check("a password", stored) == Checked(right=True)
    assert CHEAP.check("another", stored) == Checked(right=False)
    assert CHEAP.check("", stored) == Checked(right=False)


def test_one_password_has_another_hash_each_time() -> None:
    assert CHEAP.hash("a password") != CHEAP.hash("a password")


def test_for_nobody_a_hash_with_todays_parameters_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []

    def verify(self: argon2.PasswordHasher, digest: str, password: str) -> bool:
        verified.append(digest)
        return real(self, digest, password)

    real = argon2.PasswordHasher.verify
    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    assert CHEAP.check("a password", None) == Checked(right=False)
    stored = CHEAP.hash("a password")
    assert CHEAP.check("wrong", stored) == Checked(right=False)
    nobodys, wrong = (argon2.extract_parameters(digest) for digest in verified)
    assert nobodys == wrong


def test_a_hash_with_other_parameters_is_renewed_when_the_password_is_right() -> None:
    stored = CHEAP.hash("a password")
    dearer = Argon2(memory_kib=128, passes=1)
    checked = dearer.check("a password", stored)
    assert checked.right
    assert dearer.check("a password", checked.rehashed) == Checked(right=True)
    assert dearer.check("wrong", stored) == Checked(right=False)


def test_what_is_no_hash_is_an_error_and_not_a_wrong_password() -> None:
    with pytest.raises(argon2.exceptions.InvalidHashError):
        CHEAP.check("a password", "what a damaged row holds")
