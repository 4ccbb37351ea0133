"""Who has a turn when, and what becomes of a peer that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks import bench, goals, peers
from benchmarks.bench import Conductor
from benchmarks.peers.peer import NotOffered
from benchmarks.questions import QUESTIONS, chosen
from benchmarks.questions.question import QUICK, Question, Sample, Sizes
from benchmarks.results import Results
from benchmarks.stage import Stage
from tests.unit.benchmarks import made
from tests.unit.benchmarks.made import FakePeer

SMALL = replace(QUICK, memory=1 << 20)


def question(
    key: str, *, fresh: bool = False, raises: BaseException | None = None, only: tuple[str, ...] = ()
) -> Question:
    def ask(stage: Stage, _sizes: Sizes) -> Iterator[Sample]:
        yield Sample(question=key, peer=stage.peer.key, values={"rate": 1.0})
        if raises is not None:
            raise raises

    return replace(made.RATE, key=key, ask=ask, fresh=fresh, only=only)


def conduct(tmp_path: Path, some: list[FakePeer], asked: list[Question], rounds: int = 1) -> Results:
    found = made.results()
    Conductor(some, asked, replace(SMALL, rounds=rounds), tmp_path, found).run()
    assert list(tmp_path.iterdir()) == [], "a server's folder was left"
    return found


def turns(found: Results) -> list[tuple[int, str, str]]:
    return [(sample.round, sample.peer, sample.question) for sample in found.samples]


def test_rounds_go_through_all_peers_forth_and_back(tmp_path: Path) -> None:
    found = conduct(tmp_path, [FakePeer("a"), FakePeer("b")], [question("q")], rounds=3)
    assert turns(found) == [(0, "a", "q"), (0, "b", "q"), (1, "b", "q"), (1, "a", "q"), (2, "a", "q"), (2, "b", "q")]


def test_one_server_is_asked_all_and_a_fresh_question_has_its_own_once(tmp_path: Path) -> None:
    peer = FakePeer()
    found = conduct(tmp_path, [peer], [question("q"), question("big", fresh=True), question("r")], rounds=2)
    assert [what for _, _, what in turns(found)] == ["q", "r", "q", "r", "big"]
    assert peer.told == ["started", "stopped"] * 3


def test_a_question_may_be_about_some_peers_only(tmp_path: Path) -> None:
    found = conduct(tmp_path, [FakePeer("a"), FakePeer("b")], [question("q", fresh=True, only=("b",))])
    assert turns(found) == [(0, "b", "q")]


def test_a_quick_run_may_ask_fewer_peers(tmp_path: Path) -> None:
    found = made.results()
    sizes = replace(SMALL, only={"q": ("a",)})
    Conductor([FakePeer("a"), FakePeer("b")], [question("q", fresh=True)], sizes, tmp_path, found).run()
    assert turns(found) == [(0, "a", "q")]


def test_after_a_failure_the_next_questions_get_a_new_server(tmp_path: Path) -> None:
    peer = FakePeer()
    found = conduct(tmp_path, [peer], [question("q", raises=RuntimeError("broke")), question("r")])
    assert peer.told == ["started", "stopped"] * 2
    assert [what for _, _, what in turns(found)] == ["q", "r"], "what was found before counts"
    assert [(note.kind, note.question, note.text) for note in found.notes] == [
        ("failed", "q", "RuntimeError: broke"),
    ]


def test_a_peer_that_does_not_start_is_noted_and_the_next_has_its_turn(tmp_path: Path) -> None:
    found = conduct(tmp_path, [FakePeer("a", breaks=True), FakePeer("b")], [question("q"), question("r")])
    assert [peer for _, peer, _ in turns(found)] == ["b", "b"]
    assert [(note.peer, note.text) for note in found.notes] == [("a", "RuntimeError: it would not")]


def test_what_is_not_offered_is_no_failure(tmp_path: Path) -> None:
    peer = FakePeer()
    found = conduct(tmp_path, [peer], [question("q", raises=NotOffered("no such thing")), question("r")])
    assert peer.told == ["started", "stopped"]
    assert [note.kind for note in found.notes] == ["not offered"]


def test_an_interrupt_goes_through_and_the_server_is_stopped(tmp_path: Path) -> None:
    peer = FakePeer()
    with pytest.raises(KeyboardInterrupt):
        conduct(tmp_path, [peer], [question("q", raises=KeyboardInterrupt())])
    assert peer.told == ["started", "stopped"]


def test_who_is_missing_is_said_and_noted(capsys: pytest.CaptureFixture[str]) -> None:
    found = made.results()
    found.peers.clear()
    here, gone = FakePeer("here"), FakePeer("gone", missing="no gone: apt-get install gone")
    assert bench.present([here, gone], found) == [here]
    assert [peer.key for peer in found.peers] == ["here"]
    assert [(note.kind, note.peer, note.text) for note in found.notes] == [
        ("missing", "gone", "no gone: apt-get install gone")
    ]
    assert "apt-get install gone" in capsys.readouterr().err


def test_what_is_measured_along_with_another_is_asked_once() -> None:
    asked = chosen(["send", "cpu"])
    assert [one.key for one in asked] == ["send", "cpu"]
    assert len(bench.distinct(asked)) == 1


def test_peers_are_named_by_key_and_several_by_a_star() -> None:
    assert [peer.key for peer in peers.chosen(["sqlite*"])] == ["sqlite", "sqlite-append"]
    assert [peer.key for peer in peers.chosen(["sqlite-append", "restante"])] == ["restante", "sqlite-append"]
    assert peers.by_key("sqlite-append").key == "sqlite-append"
    with pytest.raises(ValueError, match="no peer is called 'kafka'"):
        peers.chosen(["kafka"])


def test_a_wrong_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "sned"]) == 2
    assert "sned" in capsys.readouterr().err


def test_every_peer_that_is_named_somewhere_is_there() -> None:
    """All modules import, whatever is installed; a key that was changed would leave goals unmeasured."""
    keys = [peer.key for peer in peers.chosen([])]
    assert len(set(keys)) == len(keys)
    named = {*goals.LIMITS, goals.OURS, *QUICK.only["growth"], "redis", "rabbitmq-classic", "jetstream"}
    for one in QUESTIONS:
        named |= {*one.only, *one.not_for}
    assert named <= set(keys)


def test_no_peer_promises_without_a_sentence() -> None:
    for peer in peers.chosen([]):
        assert peer.promise.endswith("."), peer.key
        assert peer.name
