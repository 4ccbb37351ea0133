"""The demo and the replay do what they say, and leave nothing behind, also when they are interrupted."""

import signal
from pathlib import Path

import pytest

from benchmarks import corpus, replay
from benchmarks.corpus import Written
from benchmarks.replay import Accepted
from restante import Client
from tests.e2e.server import Server, processes_of, run_in, wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where temporary files go: everything that is left is seen there."""
    (tmp_path / "t").mkdir()
    return tmp_path / "t"


def test_the_demo_sends_compares_and_shows(folder: Path) -> None:
    with run_in(folder, "-m", "examples.demo", "--conversations", "3") as demo:
        said, _ = demo.communicate(timeout=50)
    messages = sum(len(one.messages) for one in corpus.conversations(3))
    assert demo.returncode == 0, said
    for what in ("sent", "accepted", "received", "in order"):
        assert f"{what:<12}{messages:>8,}\n" in said
    assert said.count("$ chat --profile") == 2
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_the_demo_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    with run_in(folder, "-m", "examples.demo") as demo:
        assert demo.stdout is not None
        while "its address" not in (line := demo.stdout.readline()):
            assert line, "the demo ended before its server was ready"
        assert len(processes_of(folder)) == 4
        demo.send_signal(number)
        said, _ = demo.communicate(timeout=50)
    assert demo.returncode == 130
    assert "Interrupted" in said
    wait_for(lambda: not processes_of(folder), "the server and its services are gone")
    assert list(folder.iterdir()) == []


def test_the_replay_compares_every_message(folder: Path) -> None:
    with run_in(folder, "-m", "benchmarks.replay", "--conversations", "5") as run:
        said, _ = run.communicate(timeout=50)
    messages = sum(len(one.messages) for one in corpus.conversations(5))
    assert run.returncode == 0, said
    assert f"compared  {messages:,} of {messages:,} equal" in said
    assert list(folder.iterdir()) == []


def test_the_comparison_sees_what_is_lost_changed_doubled_or_out_of_order(server: Server) -> None:
    """Else a replay that says "equal" would say nothing."""
    alice, bob = "cora", "carl"
    tokens = {name: replay.enrol(server.address, name) for name in (alice, bob)}
    written = [Written(alice, bob, text) for text in ("one", "two", "three")]
    accepted, refused = replay.send_all(server.address, tokens[alice], written)
    assert (len(accepted), refused) == (3, [])
    one, two, three = accepted

    def differences(*expected: Accepted) -> list[str]:
        with Client(server.address, token=tokens[bob]) as client:
            client.ack([one.seq, two.seq, three.seq], read=False)
        return replay.compare(server.address, tokens[bob], bob, {alice: list(expected)}).differences

    assert differences(one, two, three) == []
    assert differences(one, two), "one more came than was sent"
    assert differences(one, two, three, three), "one was lost"
    assert differences(one, three, two), "two came in another order"
    assert differences(one, two, three._replace(message=Written(alice, bob, "3"))), "one was changed"
    assert differences(one, two, three._replace(id=bytes(16))), "one has another id"


def test_a_refused_message_is_a_difference(server: Server) -> None:
    token = replay.enrol(server.address, "clea")
    accepted, refused = replay.send_all(server.address, token, [Written("clea", "nobody-here", "x")])
    assert accepted == []
    assert len(refused) == 1


def test_the_data_are_what_the_documentation_says() -> None:
    everything = list(corpus.conversations())
    assert len(everything) == corpus.CONVERSATIONS
    assert sum(len(one.messages) for one in everything) == corpus.MESSAGES
    assert len(corpus.people_of(everything)) == corpus.PEOPLE
    assert sum(message.body == corpus.EMPTY for one in everything for message in one.messages) == 33
    assert all(
        len(one.people) == 2 and message.writer != message.reader for one in everything for message in one.messages
    )
    assert sum(map(len, corpus.by_writer(everything).values())) == corpus.MESSAGES
    mailboxes = corpus.by_reader(everything)
    assert sum(len(texts) for mailbox in mailboxes.values() for texts in mailbox.values()) == corpus.MESSAGES
