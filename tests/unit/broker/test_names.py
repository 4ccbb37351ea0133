"""The broker's memory of names: what exists, bounded, and never anything that a peer could not read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.names import NameCache, fold
from restante.wire.limits import NAME_CHARS_MAX


def test_it_knows_what_it_learned_and_nothing_else() -> None:
    names = NameCache()
    names.learn({"ann": 1, "bob": 2})
    assert (names.get("ann"), names.get("eve")) == (1, None)
    assert names.missing(["ann", "eve", "eve", "zoe"]) == {"eve", "zoe"}


def test_it_is_bounded_and_the_longest_known_goes_first() -> None:
    names = NameCache(size_max=2)
    names.learn({"ann": 1})
    names.learn({"bob": 2, "cem": 3})
    assert [names.get(name) for name in ("ann", "bob", "cem")] == [None, 2, 3]


def test_it_forgets_an_account_that_ended() -> None:
    names = NameCache()
    names.learn({"ann": 1, "bob": 2})
    names.forget(1)
    assert (names.get("ann"), names.get("bob")) == (None, 2)


def test_names_are_compared_folded() -> None:
    assert fold("Bob") == fold("BOB") == "bob"


@given(st.text(max_size=NAME_CHARS_MAX))
def test_folding_never_makes_a_name_too_long_for_the_links_to_the_workers(name: str) -> None:
    assert len(fold(name)) <= NAME_CHARS_MAX


def test_a_name_that_folding_lengthens_too_far_stays_as_it_is() -> None:
    assert fold("ß" * NAME_CHARS_MAX) == "ß" * NAME_CHARS_MAX
