"""Token buckets: so many at once, one more every so often, and memory for those alone who tried lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.throttle import Throttle


def test_a_burst_is_free_and_the_next_must_wait_for_one_to_come_back() -> None:
    throttle = Throttle(burst=3, refill_s=10.0)
    for _ in range(3):
        assert throttle.wait_s("ann", now=100.0) == 0.0
        throttle.take("ann", now=100.0)
    assert throttle.wait_s("ann", now=100.0) == 10.0
    assert throttle.wait_s("ann", now=104.0) == 6.0
    assert throttle.wait_s("ann", now=110.0) == 0.0


def test_keys_do_not_share() -> None:
    throttle = Throttle(burst=1, refill_s=10.0)
    throttle.take("ann", now=0.0)
    assert throttle.wait_s("ann", now=0.0) > 0
    assert throttle.wait_s("bob", now=0.0) == 0.0


def test_what_is_given_back_may_be_tried_again() -> None:
    throttle = Throttle(burst=1, refill_s=10.0)
    throttle.take("ann", now=0.0)
    throttle.give_back("ann")
    assert throttle.wait_s("ann", now=0.0) == 0.0


def test_giving_back_late_lends_nobody_more_than_a_burst() -> None:
    throttle = Throttle(burst=2, refill_s=10.0)
    throttle.take("ann", now=0.0)
    throttle.give_back("ann", attempts=5)
    for _ in range(2):
        assert throttle.wait_s("ann", now=1.0) == 0.0
        throttle.take("ann", now=1.0)
    assert throttle.wait_s("ann", now=1.0) > 0
    throttle.give_back("nobody")
    assert throttle.wait_s("nobody", now=1.0) == 0.0


def test_many_at_once_may_be_more_than_a_burst_and_are_paid_for_later() -> None:
    throttle = Throttle(burst=10, refill_s=1.0)
    assert throttle.wait_s("ann", now=0.0, attempts=50) == 0.0
    throttle.take("ann", now=0.0, attempts=50)
    assert throttle.wait_s("ann", now=0.0) == 41.0


def test_memory_is_bounded_and_the_longest_unused_is_forgotten() -> None:
    throttle = Throttle(burst=1, refill_s=10.0, keys_max=2)
    for key in ("ann", "bob", "ann", "cem"):
        throttle.take(key, now=0.0)
    assert throttle.wait_s("bob", now=0.0) == 0.0
    assert throttle.wait_s("ann", now=0.0) > 0


def test_the_rested_are_forgotten() -> None:
    throttle = Throttle(burst=5, refill_s=1.0)
    throttle.take("ann", now=0.0)
    throttle.take("bob", now=100.0)
    throttle.forget_rested(now=100.0)
    assert set(throttle._full_at) == {"bob"}


@given(st.lists(st.floats(0.0, 5.0), max_size=60), st.integers(1, 5), st.floats(0.5, 5.0))
def test_however_attempts_are_timed_no_more_pass_than_a_burst_and_what_came_back(
    pauses: list[float], burst: int, refill_s: float
) -> None:
    throttle, now, passed = Throttle(burst, refill_s), 0.0, 0
    for pause in pauses:
        now += pause
        if throttle.wait_s("ann", now) == 0.0:
            throttle.take("ann", now)
            passed += 1
    assert passed <= burst + now / refill_s + 1e-6
