"""What is written of results: tables, plots, JSON."""

from itertools import pairwise
from xml.etree import ElementTree as ET

import msgspec
import pytest

from benchmarks import plots, results, tables
from benchmarks.questions import QUESTIONS
from benchmarks.questions.question import Sample
from benchmarks.results import Results
from tests.unit.benchmarks import made


def test_a_table_has_the_median_of_the_rounds_and_what_an_ok_means() -> None:
    found = made.results(*made.rate("restante", 900, 1_000, 1_200), *made.rate("other", 5_000))
    page = tables.report(found, [made.RATE], {"rate": ["rate.svg"]})
    assert "| Restante | yes | 1,000 ±20 % |" in page
    assert "| Other & Sons | no | 5,000 |" in page
    assert "Synced \\| twice." in page
    assert "![How <fast>?](rate.svg)" in page
    assert "By looking." in page


def test_a_question_with_an_axis_has_a_table_a_column_and_a_dash_where_nothing_was_measured() -> None:
    samples = [
        Sample(question="age", peer="restante", point="1000", values={"p50": 0.002, "p99": 0.0035}),
        Sample(question="age", peer="restante", point="100", values={"p50": 0.001, "p99": 0.002}),
        Sample(question="age", peer="other", point="100", values={"p50": 0.5}),
    ]
    page = tables.report(made.results(*samples), [made.AGE], {})
    assert "| p50, by messages a second | synced | 100 | 1 thousand |" in page
    assert "| Restante | yes | 1.00 ms | 2.00 ms |" in page
    assert "| Other & Sons | no | 500 ms | — |" in page
    assert page.count("| Other & Sons | no |") == 1, "of p99 it has none"


def test_values_without_a_column_are_listed_by_process() -> None:
    sample = Sample(question="rate", peer="restante", values={"rate": 10.0, "broker": 3.0, "store": 4.0})
    page = tables.report(made.results(sample), [made.RATE], {})
    assert "| by process |" in page
    assert "broker 3.00, store 4.00" in page


def test_what_is_missing_is_said_once() -> None:
    found = made.results()
    for _ in range(2):
        found.note("failed", "other", "rate", "ended\nbadly")
    page = tables.report(found, [made.RATE], {})
    assert page.count("Other & Sons, rate: failed: ended badly") == 1


def test_plots_are_xml_with_everybody_in_them() -> None:
    found = made.results(*made.rate("restante", 900, 1_000), *made.rate("other", 50_000, 51_000))
    (svg,) = plots.of(found, made.RATE).values()
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Restante", "Other & Sons", "950", "50,500", "How <fast>?"} <= set(texts)
    widths = [float(bar.get("width", "0")) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("rx")]
    assert widths[1] / widths[0] == pytest.approx(50_500 / 950, rel=0.01)


def test_lines_have_a_point_a_value() -> None:
    samples = [
        Sample(question="age", peer=peer, point=point, values={"p50": value, "p99": 1.0})
        for peer, point, value in (("restante", "100", 0.001), ("restante", "1000", 0.01), ("other", "100", 3.0))
    ]
    found = plots.of(made.results(*samples), made.AGE)
    assert list(found) == ["age.svg"], "p99 is not plotted"
    assert len(list(ET.fromstring(found["age.svg"]).iter("{http://www.w3.org/2000/svg}circle"))) == 3


def test_names_at_the_ends_of_lines_keep_apart() -> None:
    found = plots.apart([10, 11, 12, 100], 16)
    assert all(after - before >= 16 for before, after in pairwise(found))
    assert found[3] == pytest.approx(100, abs=20)


def test_json_comes_back_as_it_was() -> None:
    found = made.results(*made.rate("restante", 1, 2))
    found.note("missing", "other", "", "not installed")
    assert msgspec.json.decode(results.encode(found), type=Results) == found


def test_every_question_has_a_key_of_its_own_and_columns_of_their_own() -> None:
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)
    for question in QUESTIONS:
        assert len({column.key for column in question.columns}) == len(question.columns)
        assert question.method.endswith(".")
