"""Percentiles, spreads, and numbers for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import figure, many, percentile, short, size


@pytest.mark.parametrize(("percent", "rank"), [(50, 500), (99, 990), (99.9, 999), (100, 1_000), (0, 1)])
def test_a_percentile_is_the_value_of_its_nearest_rank(percent: float, rank: int) -> None:
    assert percentile(range(1, 1_001), percent) == rank


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_a_value_that_was_measured_and_so_many_do_not_exceed_it(
    values: list[float], percent: float
) -> None:
    values.sort()
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-3


def test_nothing_has_no_percentile_and_no_figure() -> None:
    with pytest.raises(ValueError, match="needs values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="needs a round"):
        figure([])


def test_a_figure_is_the_median_and_how_far_the_farthest_round_lies() -> None:
    found = figure([90.0, 130.0, 100.0])
    assert (found.median, found.least, found.greatest, found.rounds) == (100.0, 90.0, 130.0, 3)
    assert found.spread == pytest.approx(0.3)
    assert figure([0.0]).spread == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(68_234.0, "68,200"), (0.012345, "0.0123"), (1.0, "1.00"), (999.6, "1,000"), (0.0, "0"), (float("nan"), "—")],
)
def test_three_digits_say_enough(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(16, "16 B"), (4_096, "4 KiB"), (1 << 20, "1 MiB"), (1_500_000, "1.43 MiB"), (5 * 2**40, "5,120 GiB")],
)
def test_bytes_are_written_with_their_unit(count: int, text: str) -> None:
    assert size(count) == text


def test_round_numbers_are_words() -> None:
    assert [many(count) for count in (100, 10_000, 1_000_000, 12_345)] == [
        "100",
        "10 thousand",
        "1 million",
        "12,345",
    ]
