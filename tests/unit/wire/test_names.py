"""Which strings are names, and which are the same one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.wire.limits import NAME_CHARS_MAX
from restante.wire.names import fold, is_name


@pytest.mark.parametrize(("name", "folded"), [("Bob", "bob"), ("a1", "a1"), ("0.x-_", "0.x-_"), ("A" * 32, "a" * 32)])
def test_a_name_is_folded(name: str, folded: str) -> None:
    assert fold(name) == folded
    assert is_name(folded)


@pytest.mark.parametrize(
    "name", ["", "a", ".ab", "a" * 33, "ab\n", "a\0b", "a/b", "\u212aelvin", "stra\u00dfe", "\uff41b"]
)
def test_what_is_no_name_stays_none_when_folded(name: str) -> None:
    assert not is_name(fold(name))


def test_a_name_that_is_not_folded_yet_is_none() -> None:
    assert not is_name("Bob")


@given(st.text(max_size=NAME_CHARS_MAX) | st.from_regex(r"[A-Za-z0-9._-]{0,34}", fullmatch=True))
def test_folding_keeps_the_length_and_folds_to_itself(name: str) -> None:
    """What is longer than a name may be would be no envelope to a worker: folding must not make it so."""
    assert len(fold(name)) == len(name)
    assert fold(fold(name)) == fold(name)
    if is_name(fold(name)):
        assert fold(fold(name).upper()) == fold(name)
