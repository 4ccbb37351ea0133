"""Ids: the bits that RFC 9562 wants, and the same id for the same key for ever."""

from __future__ import annotations

import itertools
import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.wire.ids import IDS_PER_LOT, IdMaker, once_id, read_id, show_id, uuid7
from tests.protocol.vectors import Vector, load

VECTORS = load("ids")
TIMES_US = st.integers(min_value=0, max_value=2**48 * 1000 - 1)
RANDOM = st.binary(min_size=10, max_size=10)
ACCOUNTS = st.integers(min_value=0, max_value=2**53 - 1)


def encodable(key: str) -> bool:
    """No lone surrogates; such a key can't be typed, and has no bytes."""
    return key.isprintable()


# A key that reads as a UUID is another case; no text of so few characters does.
KEYS = st.text(min_size=1, max_size=30).filter(encodable)


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "now_us" in v])
def test_a_time_and_random_bits_give_the_id_of_the_vector(vector: Vector) -> None:
    assert uuid7(vector["now_us"], bytes.fromhex(vector["random"])).hex() == vector["id"]


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "key" in v and "id" in v])
def test_a_once_key_gives_the_id_of_the_vector(vector: Vector) -> None:
    assert once_id(vector["account"], vector["key"]).hex() == vector["id"]


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "error" in v])
def test_a_once_key_that_is_empty_or_too_long_is_refused(vector: Vector) -> None:
    with pytest.raises(ValueError, match="1 to 200 bytes"):
        once_id(vector["account"], vector["key"])


def test_the_example_of_rfc_9562_but_for_the_bits_that_are_ours() -> None:
    """Appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F. The 12 bits of CC3 are a clock's here."""
    made = uuid7(0x017F22E279B0 * 1000 + 797, bytes.fromhex("18C4DC0C0C07398F0000"))
    assert show_id(made) == "017f22e2-79b0-7cc0-98c4-dc0c0c07398f"


@given(TIMES_US, RANDOM)
def test_uuid7_has_version_variant_and_milliseconds_of_the_rfc(now_us: int, random: bytes) -> None:
    made = uuid.UUID(bytes=uuid7(now_us, random))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now_us // 1000


@given(TIMES_US, RANDOM)
def test_uuid7_keeps_62_of_the_random_bits(now_us: int, random: bytes) -> None:
    low = int.from_bytes(uuid7(now_us, random)[8:], "big") & (2**62 - 1)
    assert low == int.from_bytes(random[:8], "big") & (2**62 - 1)


@given(TIMES_US, st.integers(min_value=1, max_value=10**9), RANDOM, RANDOM)
def test_ids_sort_as_made(now_us: int, later_us: int, one: bytes, other: bytes) -> None:
    then_us = min(now_us + later_us, 2**48 * 1000 - 1)
    if then_us > now_us:
        assert uuid7(now_us, one) < uuid7(then_us, other)


@given(TIMES_US.filter(bool), RANDOM)
def test_a_maker_makes_what_uuid7_makes(now_us: int, random: bytes) -> None:
    maker = IdMaker(lambda size: random + bytes(size - len(random)))
    assert maker.make(now_us) == uuid7(now_us, random)


@given(st.lists(st.integers(min_value=1, max_value=2**47 * 1000), min_size=2, max_size=50))
def test_a_makers_ids_sort_as_made_whatever_the_clock_does(times_us: list[int]) -> None:
    maker = IdMaker(os.urandom)
    made = [maker.make(now_us) for now_us in times_us]
    assert made == sorted(set(made))
    assert {(each[6] >> 4, each[8] >> 6) for each in made} == {(7, 0b10)}


def test_a_makers_dice_are_never_thrown_twice() -> None:
    maker = IdMaker(os.urandom)
    made = [maker.make(1) for _ in range(9 * IDS_PER_LOT)]
    assert len({each[8:] for each in made}) == len(made)
    assert all(one < other for one, other in itertools.pairwise(made))
    assert {int.from_bytes(each[:6], "big") for each in made} == {0, 1, 2}, "more than two milliseconds hold"


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 10_000)), min_size=1, max_size=9))
def test_many_ids_at_once_are_those_that_one_by_one_would_be(lots: list[tuple[int, int]]) -> None:
    """But for their random half, of which the last of a lot may be left over."""
    at_once, one_by_one = IdMaker(os.urandom), IdMaker(os.urandom)
    many = [made for count, now_us in lots for made in at_once.make_many(count, now_us)]
    single = [one_by_one.make(now_us) for count, now_us in lots for _ in range(count)]
    assert [made[:8] for made in many] == [made[:8] for made in single]
    assert {made[8] >> 6 for made in many} == {0b10}
    assert len({made[8:] for made in many}) == len(many)


@given(ACCOUNTS, KEYS)
def test_a_key_gives_a_uuid8_and_always_the_same(account: int, key: str) -> None:
    made = uuid.UUID(bytes=once_id(account, key))
    assert made.version == 8
    assert made.variant == uuid.RFC_4122
    assert once_id(account, key) == made.bytes


@given(ACCOUNTS, KEYS)
def test_two_accounts_do_not_share_a_key(account: int, key: str) -> None:
    assert once_id(account, key) != once_id(account + 1, key)


def test_account_and_key_cannot_be_confused() -> None:
    """The hash has a separator between the two: (1, "23") is not (12, "3")."""
    assert once_id(1, "23") != once_id(12, "3")


@given(st.uuids(), ACCOUNTS)
def test_a_key_that_is_a_uuid_is_the_id_itself(key: uuid.UUID, account: int) -> None:
    for spelling in (str(key), str(key).upper(), key.hex, f"{{{key}}}", key.urn):
        assert once_id(account, spelling) == key.bytes


@given(st.binary(min_size=16, max_size=16))
def test_an_id_shown_can_be_read(message_id: bytes) -> None:
    shown = show_id(message_id)
    assert len(shown) == 36
    assert read_id(shown) == message_id


@pytest.mark.parametrize("text", ["", "x", "019abcde-0123-7000-8000-00000000000", "12"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        read_id(text)
