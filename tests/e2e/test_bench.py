"""`make bench` in a tiny size: it measures a real server, writes what it found, and leaves nothing behind."""

import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
import zmq

from benchmarks.peers import by_key
from benchmarks.peers.restante import Place
from benchmarks.results import Results
from restante.wire import codec
from restante.wire import envelopes as e
from restante.wire.address import parse_address
from tests.e2e.server import processes_of, run_in, wait_for

# Some servers and thirty processes one after the other: a busy machine takes its time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TINY = """
import sys
from benchmarks import bench
from benchmarks.questions.question import Sizes
sys.exit(bench.main(sys.argv[1:], Sizes(
    rounds=1, mailboxes=20, seconds=0.1, count=300, pace_seconds=0.5, rates=(100,), fan_outs=2, growth=(200, 500),
    growth_s=60.0, clients=(5,), bodies=(4_096,), commands=1, memory=1 << 20,
)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where temporary files go: everything that is left is seen there."""
    (tmp_path / "t").mkdir()
    return tmp_path / "t"


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return run_in(folder, "-c", TINY, "--out", str(folder.parent / "out"), *arguments)


def results_in(folder: Path) -> Results:
    return msgspec.json.decode((folder.parent / "out" / "results.json").read_bytes(), type=Results)


def test_it_measures_writes_and_leaves_nothing(folder: Path) -> None:
    asked = "send,cpu,drain,latency"
    with started(folder, "--peers", "restante-plain,restante,sqlite-append", "--only", asked) as bench:
        said, _ = bench.communicate(timeout=150)
    assert bench.returncode == 0, said
    found = results_in(folder)
    assert [note for note in found.notes if note.kind != "not offered"] == []
    answered = {(sample.peer, sample.question) for sample in found.samples}
    assert {(peer, question) for peer in ("restante", "restante-plain") for question in asked.split(",")} <= answered
    assert ("sqlite-append", "send") in answered
    assert all(value > 0 for sample in found.samples for key, value in sample.values.items() if key == "rate")
    page = (folder.parent / "out" / "results.md").read_text("utf-8")
    assert "| Restante | yes |" in page
    assert (folder.parent / "out" / "send.svg").exists()
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []


def test_what_has_a_server_of_its_own_is_measured_too(folder: Path) -> None:
    with started(folder, "--peers", "restante", "--only", "growth,clients,command") as bench:
        said, _ = bench.communicate(timeout=150)
    assert bench.returncode == 0, said
    found = results_in(folder)
    assert found.notes == []
    points = {(sample.question, sample.point) for sample in found.samples}
    assert points == {("growth", "200"), ("growth", "500"), ("clients", "5"), ("command", "")}
    assert all(value > 0 for sample in found.samples for key, value in sample.values.items() if key in ("page", "took"))
    assert processes_of(folder) == []


def test_an_interrupt_ends_everything_and_what_was_found_is_written(folder: Path) -> None:
    with started(folder, "--peers", "restante", "--only", "send,each", "--rounds", "1000") as bench:
        assert bench.stdout is not None
        said = ""
        while "rate" not in said:
            line = bench.stdout.readline()
            assert line, said
            said += line
        bench.send_signal(signal.SIGINT)
        rest, _ = bench.communicate(timeout=150)
    assert bench.returncode == 130, said + rest
    assert results_in(folder).samples != []
    assert "interrupted" in [note.kind for note in results_in(folder).notes]
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []


def test_a_server_that_is_just_starting_ends_too(folder: Path) -> None:
    with started(folder, "--peers", "restante", "--only", "send") as bench:
        wait_for(lambda: any("store_worker" in words for words in processes_of(folder)), "a store", wait_s=100)
        bench.send_signal(signal.SIGTERM)
        said, _ = bench.communicate(timeout=150)
    assert bench.returncode == 130, said
    assert results_in(folder).samples == []
    assert list(folder.iterdir()) == []
    wait_for(lambda: processes_of(folder) == [], "the end of every process", wait_s=30)


@pytest.mark.parametrize(("key", "answers"), [("restante-plain", True), ("restante", False)])
def test_the_row_without_encryption_has_none_and_the_product_takes_none(
    tmp_path: Path, key: str, answers: bool
) -> None:
    peer = by_key(key)
    server = peer.start(tmp_path)
    try:
        place = parse_address(msgspec.json.decode(server.endpoint, type=Place).address)
        with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
            plain.linger = 0
            plain.connect(place.endpoint)
            plain.send_multipart(codec.client_frames(e.Hello(id=1)))
            assert bool(plain.poll(20_000 if answers else 1_000)) is answers
    finally:
        server.stop()
