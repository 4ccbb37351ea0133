"""A minute's share of the fuzzer, and that it sees what it looks for: each planted fault must be found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import Broker
from broker.sending import Sending
from broker.streams import Job
from restante.wire import codec
from restante.wire.errors import RemoteProtocolError
from tests.attack import fuzz, house
from tests.attack.fuzz import Finding, Tally, run_cycle
from tests.attack.house import READERS, Find, House
from tests.attack.mutate import Mutator, vectors

SHARE_S = 45.0 if os.environ.get("CI") else 5.0
INPUTS = 3_000


@pytest.mark.timeout(180)
def test_a_share_of_the_inputs_finds_nothing() -> None:
    seed = Random().randrange(2**32)
    print(f"python -m tests.attack.fuzz --seed {seed}")
    tally, finding = fuzz.fuzz(seed, 10**9, SHARE_S, print)
    assert finding is None, fuzz.report(finding, seed)
    assert tally.read["decoded"] > tally.inputs / 10, "hardly anything gets through the decoders"
    assert tally.good > 0


def refusal(direction: str, frames: list[bytes]) -> RemoteProtocolError | None:
    try:
        READERS[direction].read(frames)
    except RemoteProtocolError as error:
        return error
    return None


@pytest.mark.parametrize("direction", READERS)
@given(frames=st.lists(st.binary(max_size=200), max_size=9), seed=st.integers(0, 2**32))
def test_whatever_comes_is_an_envelope_or_a_protocol_error(direction: str, frames: list[bytes], seed: int) -> None:
    for attempt in (frames, Mutator(str(seed), vectors()).frames(direction)):
        error = refusal(direction, attempt)
        assert error is None or 0 < len(error.text) <= 600


@pytest.mark.parametrize("direction", READERS)
@given(header=st.binary(max_size=200), seed=st.integers(0, 2**32))
def test_both_ways_to_read_a_header_find_the_same_in_it(direction: str, header: bytes, seed: int) -> None:
    """The quick way of `codec.Reader` may take only what the other takes, and for the same."""
    reader = READERS[direction]
    mutator = Mutator(str(seed), vectors())
    for frame in (header, *(frames[1] for _ in range(20) if len(frames := mutator.frames(direction)) > 1)):
        assert told(reader.read_header, frame) == told(reader._convert, frame)


def told(read: Callable[[bytes], object], frame: bytes) -> object:
    """What a reader makes of a header, or says of it."""
    try:
        return read(frame)
    except RemoteProtocolError as error:
        return error.code, error.text, error.request_id


def test_one_seed_is_one_attack() -> None:
    first, second = (Mutator("seed", vectors()) for _ in range(2))
    assert [first.frames("client→broker") for _ in range(200)] == [second.frames("client→broker") for _ in range(200)]


class TestItSees:
    """Faults, planted."""

    def found(self) -> Finding:
        for cycle in range(3):
            finding = run_cycle(1, cycle, INPUTS, Tally())
            if finding is not None:
                return finding
        raise AssertionError("it was not found")

    def test_a_decoder_that_raises_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(codec, "_unfit", lambda raw, error: KeyError("type"))
        assert isinstance(self.found().error, KeyError)

    def test_a_core_that_asserts_what_a_peer_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def credit(core: Broker, session: object, credit: object, actions: object) -> None:
            raise AssertionError("this can't be")

        monkeypatch.setattr(Broker, "_credit", credit)
        assert str(self.found().error) == "this can't be"

    def test_bytes_of_sends_that_are_never_given_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forgets(sending: Sending, job: Job) -> None:
            job.session.held_bytes -= job.cost

        monkeypatch.setattr(Sending, "_let_go", forgets)
        assert "bytes of sends" in str(self.found().error)

    def test_sessions_that_never_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("broker.sessions.Session.expired", lambda session, now: False)
        assert "sessions" in str(self.found().error)

    def test_a_peer_that_ends_another_s_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        violated = Broker._violated

        def ends_all(core: Broker, peer: object, *rest: object) -> None:
            for session in core._sessions.all():
                core._over(session)
            violated(core, peer, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(Broker, "_violated", ends_all)
        assert "good client" in str(self.found().error)


@pytest.fixture
def _leaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept: list[bytes] = []
    feed = House.feed

    def leaks(one: House, direction: str, frames: list[bytes]) -> None:
        kept.extend(b"%d" % n for n in range(len(kept), len(kept) + 10))
        feed(one, direction, frames)

    monkeypatch.setattr(House, "feed", leaks)
    monkeypatch.setattr(fuzz, "CYCLE", 500)
    yield
    kept.clear()


@pytest.mark.usefixtures("_leaking")
def test_memory_that_grows_is_found() -> None:
    _, finding = fuzz.fuzz(1, 10_000, 60.0, print)
    assert finding is not None
    assert isinstance(finding.error, Find)
    assert "memory grows" in str(finding.error)


def test_what_is_held_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    one = House()
    assert house.at_rest(one.world)["sessions"] > 0
    one.fall_silent()
    assert house.at_rest(one.world) == {}
