"""The broker's memory of names: what exists, bounded."""

from __future__ import annotations

from broker.names import NameCache


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
    names.forget(["Ann", "nobody"])
    assert (names.get("ann"), names.get("bob")) == (None, 2)
