"""Names and passwords that are taken, and those that are not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth_service.names import fold, normal, password_fits
from restante.wire.limits import NAME_PATTERN


@pytest.mark.parametrize(("name", "folded"), [("Bob", "bob"), ("a1", "a1"), ("0.x-_", "0.x-_"), ("A" * 32, "a" * 32)])
def test_a_name_is_folded(name: str, folded: str) -> None:
    assert fold(name) == folded


@pytest.mark.parametrize("name", ["", "a", ".ab", "a" * 33, "ab\n", "a\0b", "a/b", "\u212aelvin", "straße", "ａｂ"])
def test_what_is_no_name_is_none(name: str) -> None:
    assert fold(name) is None


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9._-]{0,34}", fullmatch=True))
def test_a_folded_name_is_a_name_and_folds_to_itself(name: str) -> None:
    folded = fold(name)
    if folded is not None:
        assert re.fullmatch(NAME_PATTERN, folded)
        assert fold(folded) == folded
        assert fold(folded.upper()) == folded


def test_a_password_is_counted_in_characters_from_below_and_in_bytes_from_above() -> None:
    assert not password_fits("é" * 7)
    assert password_fits("é" * 8)
    assert password_fits("é" * 512)
    assert not password_fits("é" * 513)


def test_two_spellings_of_one_password_are_one() -> None:
    assert normal("e\u0301") == normal("\u00e9")
    assert normal("e") != normal("\u00e9")
