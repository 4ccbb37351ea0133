"""The link to the store: nothing on it is lost, doubled or reordered, whatever dies and however often it is opened."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.events import Action, End, OpenLink, Push
from broker.store_link import QUERIES_ASKED_MAX, StoreLink, Submitted
from restante.wire import codec, limits, store_link
from restante.wire.store_link import (
    Aborted,
    Answered,
    Ask,
    Batch,
    Beat,
    Closed,
    Confirmed,
    CountMailbox,
    Expecting,
    Failed,
    MailboxCounted,
    Noted,
    NoteDelivered,
    Open,
    Opened,
    Outcome,
    Reading,
)

HISTORY = b"history-00000001"


class Link:
    """A link under test: commands and queries are numbers here, and so is what became of them."""

    def __init__(self) -> None:
        self.link = StoreLink("broker-1", bytes(16), self)
        self.now = 0.0
        self.epoch = 1
        self.generation = 0
        self.out: list[Action] = []
        self.settled: dict[int, list[str]] = {}
        self.answered: dict[int, list[str]] = {}
        self.committed_before: list[int] = []
        self._do(lambda actions: self.link.start(self.now, actions))

    # the listener

    def opened(self, history: bytes, high: int, now: float, actions: list[Action]) -> None:
        self.history = history

    def committed(self, entries: list[Submitted], confirmed: Confirmed, now: float, actions: list[Action]) -> None:
        self.committed_before += [number_of(entry.command) for entry in entries]

    # what happens

    def submit(self, number: int, weight: int = 1) -> None:
        self.settled[number] = []

        def then(outcome: Outcome | Failed, now: float, actions: list[Action]) -> None:
            assert isinstance(outcome, Failed) or number in self.committed_before
            self.settled[number].append(outcome.code if isinstance(outcome, Failed) else "")

        self.link.submit(NoteDelivered(mailbox=number, through=1), b"", then, weight)

    def ask(self, number: int) -> None:
        self.answered[number] = []

        def then(reading: Reading, body: bytes, history: bytes, now: float, actions: list[Action]) -> None:
            self.answered[number].append(reading.code if isinstance(reading, Failed) else "")

        self.link.ask(CountMailbox(mailbox=number), then)

    def flush(self) -> None:
        self._do(self.link.flush)

    def due(self) -> None:
        self._do(lambda actions: self.link.due(self.now, actions))

    def says(self, envelope: store_link.FromStore) -> None:
        self._do(lambda actions: self.link.arrived(envelope, b"", self.now, actions))

    def open(self) -> None:
        self.generation += 1
        self.says(self.opened_by(self.nonces[-1]))

    def opened_by(self, nonce: bytes) -> Opened:
        return Opened(nonce=nonce, epoch=self.epoch, generation=self.generation, history=HISTORY, high=0)

    def confirm(self, batch: Batch) -> None:
        outcomes: list[Outcome] = [Noted() for _ in batch.commands]
        self.says(
            Confirmed(epoch=batch.epoch, generation=batch.generation, n=batch.n, base=0, high=0, outcomes=outcomes)
        )

    def answer(self, ask: Ask) -> None:
        reading = MailboxCounted(unread=0, total=0)
        self.says(Answered(epoch=ask.epoch, generation=ask.generation, n=ask.n, history=HISTORY, reading=reading))

    def _do(self, step: object) -> None:
        actions: list[Action] = []
        assert callable(step)
        step(actions)
        self.out += actions

    # what came of it

    @property
    def nonces(self) -> list[bytes]:
        return [a.envelope.nonce for a in self.out if isinstance(a, Push) and isinstance(a.envelope, Open)]

    def take(self) -> list[Action]:
        out, self.out = self.out, []
        return out

    def batches(self) -> list[Batch]:
        return [a.envelope for a in self.take() if isinstance(a, Push) and isinstance(a.envelope, Batch)]

    def asks(self) -> list[Ask]:
        return [a.envelope for a in self.take() if isinstance(a, Push) and isinstance(a.envelope, Ask)]


def number_of(command: store_link.Command) -> int:
    assert isinstance(command, NoteDelivered)
    return command.mailbox


def numbers(batches: list[Batch]) -> list[list[int]]:
    return [[number_of(command) for command in batch.commands] for batch in batches]


def an_open_link() -> Link:
    link = Link()
    link.open()
    link.take()
    return link


class TestOpening:
    def test_it_begins_with_a_socket_and_open(self) -> None:
        link = Link()
        assert isinstance(link.out[0], OpenLink)
        assert len(link.nonces) == 1
        assert not link.link.open

    def test_nothing_but_open_is_said_before_opened(self) -> None:
        link = Link()
        link.submit(1)
        link.ask(1)
        link.flush()
        link.now = 10.0
        link.due()
        assert all(isinstance(a, OpenLink) or (isinstance(a, Push) and isinstance(a.envelope, Open)) for a in link.out)

    def test_open_is_said_again_on_the_same_socket_with_the_same_nonce(self) -> None:
        link = Link()
        for _ in range(3):
            link.now += limits.LINK_BEAT_S
            link.due()
        assert len(set(link.nonces)) == 1
        assert len(link.nonces) == 4
        assert sum(isinstance(action, OpenLink) for action in link.out) == 1

    def test_a_store_that_stays_silent_is_called_over_a_new_socket(self) -> None:
        link = Link()
        link.now += limits.LINK_SILENCE_S_MAX + limits.LINK_BEAT_S
        link.due()
        assert sum(isinstance(action, OpenLink) for action in link.out) == 2
        assert len(set(link.nonces)) == 2
        link.open()
        assert link.link.open

    def test_an_answer_to_another_nonce_is_not_one(self) -> None:
        link = Link()
        link.says(link.opened_by(b"somebody elses !"))
        assert not link.link.open

    def test_opened_said_twice_changes_nothing(self) -> None:
        link = Link()
        nonce = link.nonces[-1]
        link.open()
        link.submit(1)
        link.flush()
        link.generation += 1
        link.take()
        link.says(link.opened_by(nonce))
        assert link.take() == []

    def test_every_opening_has_a_nonce_and_a_socket_of_its_own(self) -> None:
        link = Link()
        seen = set(link.nonces)
        for _ in range(5):
            link.open()
            link.take()
            link.says(Closed(epoch=link.epoch + 1, generation=0))
            assert isinstance(link.out[0], OpenLink)
            seen.add(link.nonces[-1])
        assert len(seen) == 6

    def test_a_restarted_broker_has_other_nonces(self) -> None:
        actions: list[Action] = []
        other = StoreLink("broker-1", b"x" * 16, Link())
        other.start(0.0, actions)
        assert actions[1] not in Link().out


class TestBatches:
    def test_all_that_waits_is_one_batch_and_the_next_has_the_next_number(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.submit(2)
        link.flush()
        link.submit(3)
        link.flush()
        link.flush()
        batches = link.batches()
        assert numbers(batches) == [[1, 2], [3]]
        assert [batch.n for batch in batches] == [1, 2]

    def test_a_confirmation_settles_each_once_and_in_order(self) -> None:
        link = an_open_link()
        link.submit(1, weight=5)
        link.submit(2, weight=7)
        link.flush()
        (batch,) = link.batches()
        assert link.link.weight == 12
        link.confirm(batch)
        link.confirm(batch)
        assert link.settled == {1: [""], 2: [""]}
        assert link.link.weight == 0
        assert link.link.idle

    def test_no_more_are_unconfirmed_than_may_be_and_what_waits_makes_the_next_larger(self) -> None:
        link = an_open_link()
        for number in range(limits.BATCHES_UNCONFIRMED_MAX + 5):
            link.submit(number)
            link.flush()
        batches = link.batches()
        assert len(batches) == limits.BATCHES_UNCONFIRMED_MAX
        link.confirm(batches[0])
        link.flush()
        assert [len(batch.commands) for batch in link.batches()] == [5]

    def test_a_batch_ends_at_its_limit_of_bytes(self) -> None:
        link = an_open_link()
        for number in range(5):
            link.submit(number, weight=limits.BATCH_BYTES_MAX // 2)
        link.flush()
        assert numbers(link.batches()) == [[0, 1], [2, 3], [4]]

    def test_a_batch_ends_at_its_limit_of_messages(self) -> None:
        link = an_open_link()
        for number in range(limits.BATCH_MESSAGES_MAX + 1):
            link.submit(number)
        link.flush()
        assert [len(batch.commands) for batch in link.batches()] == [limits.BATCH_MESSAGES_MAX, 1]

    def test_a_confirmation_that_comes_again_is_ignored(self) -> None:
        link = an_open_link()
        for number in (1, 2):
            link.submit(number)
            link.flush()
        first, second = link.batches()
        link.confirm(first)
        link.confirm(first)
        assert link.settled == {1: [""], 2: []}
        link.confirm(second)
        assert link.settled == {1: [""], 2: [""]}
        assert link.link.open

    def test_a_confirmation_before_its_turn_says_that_one_was_lost(self) -> None:
        link = an_open_link()
        for number in (1, 2):
            link.submit(number)
            link.flush()
        _, second = link.batches()
        link.confirm(second)
        assert link.settled == {1: [], 2: []}
        assert not link.link.open
        link.open()
        assert numbers(link.batches()) == [[1], [2]]

    @pytest.mark.parametrize("owed", ["a confirmation", "an answer"])
    def test_a_store_that_beats_and_owes_for_too_long_is_opened_anew(self, owed: str) -> None:
        link = an_open_link()
        if owed == "an answer":
            link.ask(1)
        else:
            link.submit(1)
        link.flush()
        link.due()
        for beats in range(1, 7):
            assert link.link.open, f"after {beats} beats"
            link.now += limits.LINK_BEAT_S
            link.says(Beat(epoch=link.epoch, name="broker-1", generation=link.generation))
            link.due()
        assert not link.link.open

    def test_a_store_that_works_its_way_through_owes_nothing(self) -> None:
        link = an_open_link()
        for number in range(12):
            link.submit(number)
            link.flush()
        for batch in link.batches():
            link.due()
            link.now += limits.LINK_BEAT_S
            link.confirm(batch)
        assert link.link.open

    def test_a_confirmation_that_cannot_be_ends_the_broker(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.flush()
        link.take()
        link.says(Confirmed(epoch=1, generation=1, n=1, base=0, high=0, outcomes=[]))
        (end,) = link.take()
        assert isinstance(end, End)
        assert end.reason
        assert link.settled == {1: []}


class TestReplay:
    def test_the_unconfirmed_go_again_first_in_order_numbered_anew(self) -> None:
        link = an_open_link()
        for number in (1, 2, 3):
            link.submit(number)
            link.flush()
        first, _, _ = link.batches()
        link.confirm(first)
        link.submit(4)
        link.epoch += 1
        link.says(Closed(epoch=link.epoch, generation=1))
        link.open()
        link.flush()
        batches = link.batches()
        assert numbers(batches) == [[2], [3], [4]]
        assert [batch.n for batch in batches] == [1, 2, 3]
        assert {(batch.epoch, batch.generation) for batch in batches} == {(2, 2)}

    def test_what_the_former_epoch_still_says_is_ignored(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.ask(1)
        link.flush()
        out = link.take()
        batch, ask = [action.envelope for action in out if isinstance(action, Push)]
        assert isinstance(batch, Batch)
        assert isinstance(ask, Ask)
        link.epoch += 1
        link.says(Closed(epoch=link.epoch, generation=1))
        link.confirm(batch)
        link.answer(ask)
        link.open()
        link.confirm(batch)
        link.answer(ask)
        link.says(Aborted(epoch=1, generation=1, n=1, code="storage_full"))
        assert (link.settled, link.answered) == ({1: []}, {1: []})

    def test_a_query_is_asked_again_exactly_once_and_behind_the_batches(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.ask(7)
        link.flush()
        link.take()
        link.epoch += 1
        link.says(Closed(epoch=link.epoch, generation=1))
        link.ask(8)
        link.open()
        link.flush()
        link.flush()
        pushed = [a.envelope for a in link.take() if isinstance(a, Push)]
        assert [type(envelope) for envelope in pushed] == [Open, Batch, Ask, Ask]
        for envelope in pushed:
            if isinstance(envelope, Ask):
                link.answer(envelope)
                link.answer(envelope)
        assert link.answered == {7: [""], 8: [""]}

    def test_questions_on_the_wire_have_a_window(self) -> None:
        link = an_open_link()
        for number in range(QUERIES_ASKED_MAX * 3):
            link.ask(number)
        link.flush()
        asks = link.asks()
        assert len(asks) == QUERIES_ASKED_MAX
        for ask in asks[:10]:
            link.answer(ask)
        link.flush()
        assert len(link.asks()) == 10
        link.epoch += 1
        link.says(Closed(epoch=link.epoch, generation=1))
        link.open()
        for _ in range(4):
            link.flush()
            asks = link.asks()
            assert len(asks) <= QUERIES_ASKED_MAX
            for ask in asks:
                link.answer(ask)
        assert all(outcomes == [""] for outcomes in link.answered.values())
        assert link.link.idle


class TestTrouble:
    def test_silence_opens_again(self) -> None:
        link = an_open_link()
        link.now = limits.LINK_SILENCE_S_MAX + 0.1
        link.due()
        assert not link.link.open
        assert any(isinstance(action, OpenLink) for action in link.out)

    def test_any_word_of_this_epoch_is_a_sign_of_life_and_of_another_none(self) -> None:
        link = an_open_link()
        link.now = limits.LINK_SILENCE_S_MAX - 1
        link.says(Beat(epoch=1, name="broker-1", generation=1))
        link.now = limits.LINK_SILENCE_S_MAX + 1
        link.due()
        assert link.link.open
        link.says(Beat(epoch=9, name="broker-1", generation=1))
        link.now = 2 * limits.LINK_SILENCE_S_MAX
        link.due()
        assert not link.link.open

    def test_it_beats(self) -> None:
        link = an_open_link()
        link.now = limits.LINK_BEAT_S
        link.due()
        link.due()
        beats = [a for a in link.take() if isinstance(a, Push) and isinstance(a.envelope, Beat)]
        assert len(beats) == 1

    def test_a_full_socket_opens_again_at_the_next_beat_and_loses_nothing(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.ask(1)
        link.flush()
        link.link.push_failed(link.now)
        link.link.push_failed(link.now)
        link.take()
        link.due()
        assert link.take() == []
        link.now += limits.LINK_BEAT_S
        link.due()
        assert isinstance(link.out[0], OpenLink)
        link.open()
        link.flush()
        pushed = [a.envelope for a in link.take() if isinstance(a, Push)]
        assert [type(envelope) for envelope in pushed] == [Open, Batch, Ask]

    def test_a_gap_opens_again_once(self) -> None:
        link = an_open_link()
        for number in (1, 2):
            link.submit(number)
            link.flush()
        link.take()
        for _ in range(3):
            link.says(Expecting(epoch=1, generation=1, n=1))
        assert len(link.nonces) == 1
        link.open()
        assert numbers(link.batches()) == [[1], [2]]

    def test_to_expect_what_comes_next_is_no_gap(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.flush()
        link.says(Expecting(epoch=1, generation=1, n=2))
        assert link.link.open

    def test_to_expect_what_was_never_sent_opens_again(self) -> None:
        link = an_open_link()
        link.says(Expecting(epoch=1, generation=1, n=5))
        assert not link.link.open

    @pytest.mark.parametrize(
        ("closed", "still_open"),
        [
            (Closed(epoch=2, generation=0), False),
            (Closed(epoch=1, generation=1), False),
            (Closed(epoch=1, generation=0), True),
            (Closed(epoch=1, generation=1, fenced=True), True),
        ],
    )
    def test_closed_opens_again_if_it_is_about_this_generation(self, closed: Closed, still_open: bool) -> None:
        link = an_open_link()
        link.says(closed)
        assert link.link.open is still_open

    def test_who_is_fenced_ends(self) -> None:
        link = an_open_link()
        link.says(Closed(epoch=1, generation=2, fenced=True))
        (end,) = link.take()
        assert isinstance(end, End)
        assert "broker-1" in end.reason

    def test_an_abort_refuses_its_batch_and_all_behind_and_replays_what_was_before(self) -> None:
        link = an_open_link()
        for number in (1, 2, 3):
            link.submit(number)
            link.flush()
        link.submit(4)
        link.take()
        link.says(Aborted(epoch=1, generation=1, n=2, code="storage_full", text="no room"))
        assert link.settled == {1: [], 2: ["storage_full"], 3: ["storage_full"], 4: ["storage_full"]}
        assert link.link.weight == 1
        link.open()
        (batch,) = link.batches()
        link.confirm(batch)
        assert link.settled[1] == [""]
        assert link.link.idle

    def test_while_the_store_is_gone_for_long_questions_are_refused_and_commands_kept(self) -> None:
        link = an_open_link()
        link.submit(1)
        link.ask(1)
        link.flush()
        link.now = 6.0
        link.due()
        assert not link.link.down(link.now)
        link.now = 12.0
        assert link.link.down(link.now)
        link.due()
        assert (link.settled, link.answered) == ({1: []}, {1: ["unavailable"]})
        link.take()
        link.now = 13.0
        link.due()
        link.open()
        link.flush()
        assert numbers(link.batches()) == [[1]]


class Links(RuleBasedStateMachine):
    """A store that dies, loses its pipe, answers twice or late: every command is executed once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.link = Link()
        self.number = 0
        self.pipe: list[Batch | Ask] = []
        self.executed: list[int] = []
        self.last = 0
        self.said: list[Batch] = []

    def collect(self) -> None:
        """What the broker pushed is in the pipe; a new socket has a new pipe."""
        for action in self.link.take():
            if isinstance(action, OpenLink):
                self.pipe = []
            elif isinstance(action, Push) and isinstance(action.envelope, Open):
                self.nonce = action.envelope.nonce
            elif isinstance(action, Push) and isinstance(action.envelope, Batch | Ask):
                self.pipe.append(action.envelope)

    @rule()
    def submit(self) -> None:
        self.number += 1
        self.link.submit(self.number)

    @rule()
    def ask(self) -> None:
        self.number += 1
        self.link.ask(self.number)

    @rule()
    def flush(self) -> None:
        self.link.flush()
        self.collect()

    @rule()
    def open(self) -> None:
        self.collect()
        self.link.generation += 1
        self.last = 0 if not self.link.link.open else self.last
        self.link.says(self.link.opened_by(self.nonce))
        self.collect()

    @rule(confirmed=st.booleans())
    def work(self, confirmed: bool) -> None:
        if self.pipe:
            envelope = self.pipe.pop(0)
            if isinstance(envelope, Ask):
                self.link.answer(envelope)
            elif envelope.n == self.last + 1 and envelope.epoch == self.link.epoch:
                self.last += 1
                known = set(self.executed)
                self.executed += [one for one in map(number_of, envelope.commands) if one not in known]
                self.said.append(envelope)
                if confirmed:
                    self.link.confirm(envelope)
            self.collect()

    @rule()
    def repeat_itself(self) -> None:
        if self.said:
            self.link.confirm(self.said[-1])

    @rule()
    def lose_one(self) -> None:
        """A pipe may lose its head: the store then says what it expects."""
        if len(self.pipe) > 1 and isinstance(self.pipe[0], Batch):
            self.pipe.pop(0)
            expecting = Expecting(epoch=self.link.epoch, generation=self.link.generation, n=self.last + 1)
            self.link.says(expecting)
            self.collect()

    @rule()
    def die(self) -> None:
        self.link.epoch += 1
        self.pipe = []
        self.link.says(Closed(epoch=self.link.epoch, generation=self.link.generation))
        self.collect()

    @rule(seconds=st.sampled_from([0.5, 6.0]))
    def time(self, seconds: float) -> None:
        self.link.now += seconds
        self.link.due()
        self.collect()

    @invariant()
    def executed_in_order(self) -> None:
        assert self.executed == sorted(self.executed)

    @invariant()
    def settled_only_if_executed_and_once(self) -> None:
        for number, outcomes in self.link.settled.items():
            assert len(outcomes) <= 1
            assert not outcomes or number in self.executed
        assert all(len(outcomes) <= 1 for outcomes in self.link.answered.values())

    def teardown(self) -> None:
        self.die()
        for _ in range(2 + len(self.link.settled) + len(self.link.answered)):
            self.open()
            self.flush()
            while self.pipe:
                self.work(confirmed=True)
        assert all(outcomes == [""] for outcomes in self.link.settled.values())
        assert all(len(outcomes) == 1 for outcomes in self.link.answered.values())
        assert self.link.link.idle
        assert self.link.link.weight == 0


TestLinks = Links.TestCase
TestLinks.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def test_a_batch_of_the_heaviest_commands_fits_the_link() -> None:
    """Whatever clients send, no batch is larger than the store's socket takes: else it would be replayed for ever."""
    from tests.unit.broker.world import World

    world = World.ready()
    ann = world.log_in("ann")
    names = [f"user-with-a-name-of-32-chars{number:04}" for number in range(1_000)]
    world.broker._names.learn({name: 2**50 + number for number, name in enumerate(names)})
    for turn in range(120):
        ann.send(turn + 1, *names, contents=(b"x",) * 10)
    world.drain()
    batches = world.store.waits(Batch)
    assert batches
    for batch in batches:
        assert len(codec.pack_header(batch)) < limits.LINK_FRAME_BYTES_MAX / 2
