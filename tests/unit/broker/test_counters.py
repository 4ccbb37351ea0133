"""Refusals are counted by kind, told once a minute and at the end, and never grow past the table of codes."""

from __future__ import annotations

from broker.counters import REPORT_S, Counters
from broker.events import Action, Drained, Reply, Report, StopRequested, Unreachable
from restante.wire import limits
from restante.wire.envelopes import Error, Lookup, Ping, Pong
from restante.wire.errors import CODES
from tests.unit.broker.world import World


def reply(code: str) -> Reply:
    return Reply(b"peer", Error(code=code))


def test_errors_are_counted_by_code_and_answers_are_not() -> None:
    counters = Counters()
    counters.refusals([reply("busy"), Reply(b"peer", Pong(id=1)), reply("busy"), reply("gap")])
    assert counters.take() == {"refused_busy": 2, "refused_gap": 1}
    assert counters.take() == {}


def test_codes_that_nobody_knows_share_one_count() -> None:
    counters = Counters()
    counters.refusals([reply(f"newer_{n}") for n in range(100)] + [reply(code) for code in CODES])
    assert counters.take()["refused_other"] == 100


def test_there_is_a_report_a_minute_where_there_is_something_to_say() -> None:
    counters = Counters()
    assert counters.due(10.0) == {}
    counters.count("dropped", 3)
    assert counters.due(10.0 + REPORT_S - 1) == {}
    assert counters.due(10.0 + REPORT_S) == {"dropped": 3}
    assert counters.due(10.0 + 2 * REPORT_S) == {}


def reports(actions: list[Action]) -> list[dict[str, int]]:
    return [action.counts for action in actions if isinstance(action, Report)]


def test_the_broker_counts_what_it_throws_away_and_why() -> None:
    world = World.ready()
    fuzzer, stranger, gone = world.connect(), world.connect(), world.log_in("bob")
    for _ in range(limits.VIOLATIONS_MAX):
        fuzzer.blunder()
    fuzzer.say(Ping(id=1))
    fuzzer.blunder()
    stranger.say(Lookup(id=1, names=["bob"]))
    world.do(Unreachable(gone.peer.routing_id))
    assert world.broker.counters.take() == {
        "violations": limits.VIOLATIONS_MAX,
        "refused_bad_frame": limits.VIOLATIONS_MAX,
        "refused_no_session": 1,
        "dropped": 2,
        "unreachable": 1,
    }


def test_the_broker_reports_once_a_minute_and_when_it_stops() -> None:
    world = World.ready()
    world.connect().blunder()
    seen: list[dict[str, int]] = []
    until = world.now + REPORT_S + 1
    while world.now < until:
        world.now += 0.5
        world.auth.beat()
        seen += reports(world.tick())
    assert seen == [{"violations": 1, "refused_bad_frame": 1, "expired": 1}]
    world.connect().blunder()
    world.do(StopRequested())
    world.now += 60
    assert reports(world.do(Drained()))[0]["violations"] == 1
