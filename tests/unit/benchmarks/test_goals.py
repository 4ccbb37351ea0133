"""What is held against what, and what is said where something was not measured."""

import pytest
from msgspec.structs import replace

from benchmarks import goals
from benchmarks.goals import Goal
from benchmarks.questions.question import Sample
from benchmarks.results import Measured, Results
from tests.unit.benchmarks import made


def results(*samples: tuple[str, str, str, dict[str, float]]) -> Results:
    found = made.results(
        *(Sample(question=q, peer=peer, point=point, values=values) for q, peer, point, values in samples)
    )
    keys = {"redis": True, "rabbitmq-classic": True, "jetstream": False, "mosquitto": False, "sqlite-append": True}
    found.peers = [replace(found.peers[0], key=key) for key in ("restante", "restante-plain")]
    found.peers += [Measured(key, key, "", durable, "") for key, durable in keys.items()]
    return found


def goal(found: Results, beginning: str) -> Goal:
    (one,) = [one for one in goals.goals(found) if one.text.startswith(beginning)]
    return one


def test_rates_are_held_against_each_peer() -> None:
    rates = {"restante": 100.0, "redis": 40.0, "rabbitmq-classic": 20.0, "sqlite-append": 250.0}
    found = results(*(("send", peer, "", {"rate": rate}) for peer, rate in rates.items()))
    assert goal(found, "sends, to Redis") == Goal("sends, to Redis Streams", 2.5, 2.0)
    assert goal(found, "sends, to Redis").met is True
    assert goal(found, "sends, to RabbitMQ").met is False
    assert goal(found, "sends, to SQLite").met is False
    assert goal(found, "sends, to JetStream").met is None


def test_the_best_durable_peer_is_a_product_of_others_that_syncs() -> None:
    rates = {"restante": 100.0, "restante-plain": 300.0, "redis": 90.0, "mosquitto": 200.0, "sqlite-append": 500.0}
    found = results(*(("drain", peer, "", {"rate": rate}) for peer, rate in rates.items()))
    assert goal(found, "drain").found == pytest.approx(100 / 90)


def test_latencies_have_to_be_below_every_durable_peers() -> None:
    ages = {"restante": 0.002, "redis": 0.003, "rabbitmq-classic": 0.001, "mosquitto": 0.0001}
    found = results(
        *(("latency", peer, "1000", {"p50": age, "p99": age}) for peer, age in ages.items()),
        ("latency", "restante", "5000", {"p50": 0.002, "p99": 0.019}),
    )
    assert goal(found, "p50 at 1,000").found == pytest.approx(2.0)
    assert goal(found, "p50 at 1,000").met is False
    assert goal(found, "p99 at 5,000").met is True


def test_growth_is_the_last_size_to_a_new_server_beside_it() -> None:
    """And not to the first size: minutes lie between."""
    found = results(
        ("growth", "restante", "10000", {"rate": 200.0, "page": 0.004}),
        ("growth", "restante", "1000000", {"rate": 100.0, "page": 0.001, "rate_beside": 0.79, "page_beside": 1.2}),
    )
    assert goal(found, "sends at 1,000,000 stored, to 10,000") == Goal(
        "sends at 1,000,000 stored, to 10,000", 0.79, 0.8
    )
    assert goal(found, "a page of the inbox").met is True


def test_a_run_without_anything_reaches_nothing_and_misses_nothing() -> None:
    assert {one.met for one in goals.goals(results())} == {None}
    assert goals.report(results()).count("not measured") == len(goals.goals(results()))
