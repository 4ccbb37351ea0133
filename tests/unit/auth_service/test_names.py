"""Passwords that are taken, and names of accounts."""

from __future__ import annotations

from auth_service.names import account_name, normal, password_fits


def test_an_account_has_the_folded_name_or_none() -> None:
    assert account_name("Bob") == "bob"
    assert account_name("b") is None
    assert account_name("stra\u00dfe") is None


def test_a_password_is_counted_in_characters_from_below_and_in_bytes_from_above() -> None:
    assert not password_fits("é" * 7)
    assert password_fits("é" * 8)
    assert password_fits("é" * 512)
    assert not password_fits("é" * 513)


def test_two_spellings_of_one_password_are_one() -> None:
    assert normal("e\u0301") == normal("\u00e9")
    assert normal("e") != normal("\u00e9")
