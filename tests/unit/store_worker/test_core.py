"""The store's end of the link, in memory. A small shell performs what the core wants, on a journal in memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from restante.wire import limits
from restante.wire.envelopes import TEXT
from restante.wire.store_link import (
    Aborted,
    Answered,
    Apart,
    Ask,
    Batch,
    Beat,
    Closed,
    Command,
    Confirmed,
    CountMailbox,
    Expecting,
    Failed,
    MailboxCounted,
    MarkMessages,
    Open,
    Opened,
    PageRead,
    Query,
    ReadPage,
    ReadStatus,
    Stored,
    ToStore,
)
from store_worker import core as core_module
from store_worker.core import BROKERS_MAX, Store
from store_worker.events import (
    Action,
    Arrived,
    Commit,
    CommitFailed,
    Committed,
    Complain,
    Connect,
    CountOpen,
    Disconnect,
    Drained,
    Due,
    End,
    Event,
    Found,
    Malformed,
    OpenCounted,
    OpenFailed,
    Read,
    Send,
    StopRequested,
    Unsendable,
)
from store_worker.journal import RolledBack
from store_worker.memory import MemoryJournal
from tests.unit.store_worker.making import BOB, EVE, NOW_US, id_of, message, store

BODY = b"hello"


class House:
    """A core with a journal, and what came of it: every action in order, and all that was said."""

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self.journal = journal or MemoryJournal(history=id_of(77))
        self.core = Store(self.journal.start())
        self.actions: list[Action] = []

    def step(self, *events: Event) -> list[Action]:
        """Hand in events, perform all that comes of them; return the actions."""
        begin = len(self.actions)
        waiting = list(events)
        while waiting:
            for action in self.core.handle(waiting.pop(0), 0.0):
                self.actions.append(action)
                waiting += self._perform(action)
        return self.actions[begin:]

    def _perform(self, action: Action) -> Sequence[Event]:
        if isinstance(action, CountOpen):
            try:
                return [OpenCounted(action.name, action.nonce, self.journal.open(action.name, action.nonce))]
            except RolledBack as error:
                return [OpenFailed(action.name, error.text)]
        if isinstance(action, Commit):
            try:
                return [Committed(self.journal.commit(action.writes, NOW_US))]
            except RolledBack as error:
                return [CommitFailed(error.code, error.text)]
        if isinstance(action, Read):
            return [self._find(action)]
        return []

    def _find(self, action: Read) -> Event:
        query = action.query
        if isinstance(query, ReadPage):
            return Found(action.ask, *self.journal.page(query))
        if isinstance(query, ReadStatus):
            return Found(action.ask, self.journal.status(query))
        return Found(action.ask, self.journal.count(query))

    def hear(self, *headers: ToStore | tuple[ToStore, bytes]) -> list[object]:
        """Let these arrive in one drain; return what is said."""
        arrived = [Arrived(*h) if isinstance(h, tuple) else Arrived(h) for h in headers]
        return said(self.step(*arrived, Drained()))

    def open(self, name: str = "b", nonce: int = 1) -> Opened:
        *_, opened = self.hear(Open(name=name, nonce=id_of(nonce)))
        assert isinstance(opened, Opened)
        return opened


def said(actions: Sequence[Action]) -> list[object]:
    return [action.header for action in actions if isinstance(action, Send)]


def of(actions: Sequence[Action], kind: type) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def batch(n: int, *commands: Command, epoch: int = 1, generation: int = 1, name: str = "b") -> tuple[Batch, bytes]:
    """A batch, its body five bytes a message; without commands it stores message n for bob."""
    commands = commands or (store(message(n)),)
    bodies = BODY * sum(len(getattr(c, "sizes", ())) for c in commands)
    return Batch(epoch=epoch, name=name, generation=generation, n=n, commands=list(commands)), bodies


def ask(n: int, query: Query | None = None, *, epoch: int = 1, generation: int = 1) -> Ask:
    query = query or CountMailbox(mailbox=BOB)
    return Ask(epoch=epoch, name="b", generation=generation, n=n, query=query)


def beat(epoch: int = 1, generation: int = 1, name: str = "b") -> Beat:
    return Beat(epoch=epoch, name=name, generation=generation)


@pytest.fixture
def house() -> House:
    """A house whose link is open: epoch 1, generation 1."""
    made = House()
    made.open()
    return made


class TestRule6Opening:
    def test_an_open_is_counted_before_it_is_answered_on_a_new_way(self) -> None:
        house = House()
        actions = house.step(Arrived(Open(name="b", nonce=id_of(1))), Drained())
        assert [type(a) for a in actions] == [CountOpen, Connect, Send]
        assert said(actions) == [Opened(nonce=id_of(1), epoch=1, generation=1, history=id_of(77), high=0)]

    def test_the_same_nonce_is_answered_again_on_the_same_way(self, house: House) -> None:
        actions = house.step(Arrived(Open(name="b", nonce=id_of(1))), Drained())
        assert of(actions, Connect) == []
        assert [getattr(h, "generation", 0) for h in said(actions)] == [1]

    def test_another_nonce_is_a_new_generation_on_a_new_way(self, house: House) -> None:
        actions = house.step(Arrived(Open(name="b", nonce=id_of(2))), Drained())
        assert of(actions, Connect) == [Connect("b")]
        assert [getattr(h, "generation", 0) for h in said(actions)] == [2]

    def test_opened_says_the_high_water(self, house: House) -> None:
        house.hear(batch(1))
        assert house.open(nonce=2).high == 1

    def test_a_generation_that_cannot_be_made_durable_is_not_given(self) -> None:
        house = House()
        house.journal.fail_next = RolledBack("storage_full", "full")
        actions = house.step(Arrived(Open(name="b", nonce=id_of(1))), Drained())
        assert said(actions) == []
        assert len(of(actions, Complain)) == 1
        assert house.open().generation == 1

    def test_brokers_with_a_way_back_are_bounded(self) -> None:
        house = House()
        for n in range(BROKERS_MAX + 1):
            house.open(f"b{n}")
        assert of(house.actions, Disconnect) == [Disconnect("b0")]
        assert [type(h) for h in house.hear(beat(name="b0"), beat(name=f"b{BROKERS_MAX}"))] == [Closed, Beat]


class TestRule7NumbersAndEpochs:
    def test_batches_are_executed_in_order_and_confirmed_with_what_they_span(self, house: House) -> None:
        first, second = house.hear(batch(1), batch(2))
        assert isinstance(first, Confirmed)
        assert isinstance(second, Confirmed)
        assert [(c.n, c.base, c.high) for c in (first, second)] == [(1, 0, 1), (2, 1, 2)]
        assert isinstance(first.outcomes[0], Stored)
        assert first.outcomes[0].results[0].seq == 1

    @pytest.mark.parametrize("n", [0, 2, 7])
    def test_any_other_number_is_discarded_and_the_next_is_said(self, house: House, n: int) -> None:
        assert house.hear(batch(n)) == [Expecting(epoch=1, generation=1, n=1)]
        assert house.journal.count(CountMailbox(mailbox=BOB)).total == 0

    def test_after_a_gap_nothing_is_executed_until_it_is_filled(self, house: House) -> None:
        answers = house.hear(batch(1), batch(3), batch(4))
        assert [type(a) for a in answers] == [Expecting, Expecting, Confirmed]
        assert [getattr(a, "n", 0) for a in answers] == [2, 2, 1]
        assert [getattr(a, "n", 0) for a in house.hear(batch(2), batch(3))] == [2, 3]

    def test_what_was_executed_is_answered_again_word_for_word(self, house: House) -> None:
        first = house.hear(batch(1))
        house.hear(batch(2))
        assert house.hear(batch(1)) == first
        assert house.journal.count(CountMailbox(mailbox=BOB)).total == 2

    def test_a_batch_that_comes_twice_in_one_drain_is_executed_and_confirmed_once(self, house: House) -> None:
        assert [type(a) for a in house.hear(batch(1), batch(1))] == [Confirmed]

    def test_confirmations_are_remembered_as_far_as_a_broker_can_ask(self, house: House) -> None:
        last = limits.BATCHES_UNCONFIRMED_MAX + 5
        house.hear(*(batch(n) for n in range(1, last + 1)))
        oldest = last - limits.BATCHES_UNCONFIRMED_MAX + 1
        assert [type(a) for a in house.hear(batch(oldest), batch(oldest - 1))] == [Confirmed, Expecting]

    def test_numbers_belong_to_a_brokers_name(self, house: House) -> None:
        house.open("c")
        answers = house.hear(batch(1), batch(1, store(message(1), sender=EVE), name="c"), batch(2))
        assert [getattr(a, "n", 0) for a in answers] == [1, 1, 2]

    @pytest.mark.parametrize("epoch", [0, 2])
    def test_what_is_of_another_epoch_is_closed_and_not_done(self, house: House, epoch: int) -> None:
        answers = house.hear(batch(1, epoch=epoch), ask(1, epoch=epoch), beat(epoch=epoch))
        assert answers == [Closed(epoch=1, generation=1)] * 3
        assert house.journal.count(CountMailbox(mailbox=BOB)).total == 0

    def test_a_newer_generation_fences_the_older(self, house: House) -> None:
        house.open(nonce=2)
        answers = house.hear(batch(1), ask(1), beat())
        assert answers == [Closed(epoch=1, generation=2, fenced=True)] * 3
        assert [type(a) for a in house.hear(batch(1, generation=2))] == [Confirmed]

    def test_it_does_so_over_a_restart_of_the_store(self, house: House) -> None:
        house.open(nonce=2)
        after = House(house.journal)
        assert after.hear(beat(generation=1)) == [Closed(epoch=2, generation=2, fenced=True)]
        assert after.hear(beat(generation=2)) == [Closed(epoch=2, generation=2)]

    def test_a_broker_from_before_a_restart_is_told_on_a_way_made_for_it_once(self) -> None:
        house = House()
        actions = house.step(Arrived(beat(epoch=0)), Arrived(beat(epoch=0)), Drained())
        assert [type(a) for a in actions] == [Connect, Send, Send]

    def test_a_replay_to_a_new_epoch_stores_nothing_twice(self, house: House) -> None:
        house.hear(batch(1), batch(2))
        after = House(house.journal)
        after.open(nonce=2)
        one, two, three = after.hear(*(batch(n, epoch=2, generation=2) for n in (1, 2, 3)))
        results = [c.outcomes[0].results[0] for c in (one, two, three)]  # type: ignore[attr-defined]
        assert [(r.seq, r.again) for r in results] == [(1, True), (2, True), (3, False)]
        assert (one.base, one.high) == (2, 2)  # type: ignore[attr-defined]

    def test_an_open_behind_batches_waits_for_them(self, house: House) -> None:
        actions = house.step(
            Arrived(*batch(1)), Arrived(Open(name="b", nonce=id_of(2))), Arrived(*batch(1, generation=2)), Drained()
        )
        assert [type(a) for a in actions] == [Commit, Send, CountOpen, Connect, Send, Commit, Send]

    def test_a_beat_is_answered_with_the_same(self, house: House) -> None:
        assert house.hear(beat()) == [beat()]


class TestRule9Failures:
    def test_after_a_failed_commit_nothing_is_executed_until_the_link_is_opened_again(self, house: House) -> None:
        house.journal.fail_next = RolledBack("storage_full", "full")
        aborted = Aborted(epoch=1, generation=1, n=1, code="storage_full", text="full")
        assert house.hear(batch(1), batch(2)) == [aborted]
        assert house.hear(batch(1)) == house.hear(batch(3)) == [aborted]
        assert house.journal.count(CountMailbox(mailbox=BOB)).total == 0
        house.open(nonce=2)
        assert [type(a) for a in house.hear(batch(1, generation=2))] == [Confirmed]

    def test_reading_and_beats_go_on_meanwhile(self, house: House) -> None:
        house.journal.fail_next = RolledBack("storage_full", "full")
        house.hear(batch(1))
        assert [type(a) for a in house.hear(ask(1), beat())] == [Beat, Answered]

    def test_every_broker_in_the_commit_is_told_its_own_number(self, house: House) -> None:
        house.open("c")
        house.hear(batch(1))
        house.journal.fail_next = RolledBack("storage_failed", "broken")
        answers = house.hear(batch(1, name="c"), batch(2), batch(3))
        assert [(a.n, a.code) for a in answers] == [(1, "storage_failed"), (2, "storage_failed")]  # type: ignore[attr-defined]

    def test_a_body_that_does_not_fit_its_sizes_aborts_its_batch_alone(self, house: House) -> None:
        header, _ = batch(2)
        answers = house.hear(batch(1), (header, b"too long"), batch(3), ask(1))
        assert [type(a) for a in answers] == [Aborted, Aborted, Confirmed, Answered]
        assert [(a.n, a.code) for a in answers[:2]] == [(2, "internal")] * 2  # type: ignore[attr-defined]
        assert house.journal.count(CountMailbox(mailbox=BOB)).total == 1

    @pytest.mark.parametrize(
        "wrong",
        [message(1, BOB, BOB), type(message(1))(id=id_of(1), to=["bob", "eve"], mailboxes=[BOB], size=5)],
        ids=["a mailbox twice", "a recipient without mailbox"],
    )
    def test_so_do_recipients_that_do_not_fit_their_mailboxes(self, house: House, wrong: object) -> None:
        (answer,) = house.hear(batch(1, store(wrong)))  # type: ignore[arg-type]
        assert isinstance(answer, Aborted)
        assert answer.code == "internal"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"ids": [id_of(1)]},
            {"sent_at_us": []},
            {"content_types": [TEXT]},
            {"mailboxes": [0, 0]},
            {"mailboxes": [BOB, EVE]},
            {"apart": []},
            {"apart": [Apart(place=0, to=["bob"], mailboxes=[BOB])]},
            {"apart": [Apart(place=2, to=["bob"], mailboxes=[BOB])]},
            {"apart": [Apart(place=1, to=["bob"], mailboxes=[BOB])] * 2, "mailboxes": [0, 0]},
        ],
        ids=", ".join,
    )
    def test_so_do_columns_that_do_not_fit_one_another(self, house: House, wrong: dict[str, object]) -> None:
        """[LS19]."""
        command = structs.replace(store(message(1), message(2, BOB, EVE)), **wrong)
        header, _ = batch(1, command)
        (answer,) = house.hear((header, b"hello" * len(command.sizes)))
        assert isinstance(answer, Aborted)
        assert answer.code == "internal"

    def test_what_is_no_envelope_is_complained_of_and_nothing_else(self, house: House) -> None:
        (complaint,) = house.step(Malformed("bad_frame: not msgpack"))
        assert isinstance(complaint, Complain)
        assert "not msgpack" in complaint.text
        assert [type(a) for a in house.hear(batch(1))] == [Confirmed]

    def test_a_broker_that_cannot_be_told_loses_its_link_and_its_next_word_is_answered_on_a_new_way(
        self, house: House
    ) -> None:
        assert house.step(Unsendable("b")) == [Disconnect("b")]
        actions = house.step(Arrived(*batch(1)), Drained())
        assert [type(a) for a in actions] == [Connect, Send]
        assert said(actions) == [Closed(epoch=1, generation=1)]
        assert house.journal.count(CountMailbox(mailbox=BOB)).total == 0

    def test_a_link_that_is_lost_during_a_commit_is_told_nothing_of_it(self, house: House) -> None:
        house.core.handle(Arrived(*batch(1)), 0.0)
        (commit,) = house.core.handle(Drained(), 0.0)
        house.core.handle(Unsendable("b"), 0.0)
        assert isinstance(commit, Commit)
        assert house.core.handle(Committed(house.journal.commit(commit.writes, NOW_US)), 0.0) == []


class TestGroupCommit:
    def test_all_that_arrived_in_one_drain_is_one_transaction(self, house: House) -> None:
        actions = house.step(*(Arrived(*batch(n)) for n in (1, 2, 3)), Drained())
        (commit,) = of(actions, Commit)
        assert isinstance(commit, Commit)
        assert len(commit.writes) == 3

    def test_nothing_is_decided_before_the_drain_is_over(self, house: House) -> None:
        assert house.step(Arrived(*batch(1))) == []

    @pytest.mark.parametrize(("bound", "value"), [("COMMIT_MESSAGES_MAX", 2), ("COMMIT_BYTES_MAX", 10)])
    def test_a_transaction_is_bounded(
        self, house: House, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
    ) -> None:
        monkeypatch.setattr(core_module, bound, value)
        actions = house.step(*(Arrived(*batch(n)) for n in range(1, 6)), Drained())
        assert [len(a.writes) for a in actions if isinstance(a, Commit)] == [2, 2, 1]
        assert [getattr(h, "n", 0) for h in said(actions)] == [1, 2, 3, 4, 5]

    def test_confirmations_come_only_after_committed(self, house: House) -> None:
        actions = house.core.handle(Arrived(*batch(1)), 0.0) + house.core.handle(Drained(), 0.0)
        assert [type(a) for a in actions] == [Commit]
        assert house.core.handle(Drained(), 0.0) == []

    def test_what_arrives_while_a_commit_is_under_way_waits_for_it(self, house: House) -> None:
        house.core.handle(Arrived(*batch(1)), 0.0)
        (commit,) = house.core.handle(Drained(), 0.0)
        assert isinstance(commit, Commit)
        house.core.handle(Arrived(*batch(2)), 0.0)
        assert house.core.handle(Drained(), 0.0) == []
        actions = house.core.handle(Committed(house.journal.commit(commit.writes, NOW_US)), 0.0)
        assert [type(a) for a in actions] == [Send, Commit]

    def test_the_store_waits_for_nobody(self, house: House) -> None:
        assert house.core.next_deadline() is None
        assert house.step(Due()) == []


class TestQueries:
    def test_a_query_sees_every_batch_that_arrived_before_it(self, house: House) -> None:
        *_, answered = house.hear(batch(1), ask(1), batch(2, MarkMessages(mailbox=EVE)))
        assert answered == Answered(
            epoch=1, generation=1, n=1, history=id_of(77), reading=MailboxCounted(unread=1, total=1)
        )

    def test_what_it_sees_was_confirmed_before(self, house: House) -> None:
        assert [type(a) for a in house.hear(ask(1), batch(1))] == [Confirmed, Answered]

    def test_it_waits_for_one_transaction_and_not_for_all(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(core_module, "COMMIT_MESSAGES_MAX", 1)
        answers = house.hear(batch(1), ask(1), batch(2), batch(3))
        assert [type(a) for a in answers] == [Confirmed, Confirmed, Answered, Confirmed]

    def test_a_page_comes_with_its_contents(self, house: House) -> None:
        house.hear(batch(1))
        actions = house.step(Arrived(ask(5, ReadPage(mailbox=BOB, limit=9, bytes_max=99))), Drained())
        (sent,) = of(actions, Send)
        assert isinstance(sent, Send)
        assert isinstance(sent.header, Answered)
        assert isinstance(sent.header.reading, PageRead)
        assert (sent.header.n, sent.body, sent.header.reading.through) == (5, BODY, 1)

    def test_a_cursor_of_another_history_is_refused(self, house: House) -> None:
        query = ReadPage(mailbox=BOB, limit=9, bytes_max=99, history=id_of(78))
        (answered,) = house.hear(ask(1, query))
        assert isinstance(answered, Answered)
        assert isinstance(answered.reading, Failed)
        assert answered.reading.code == "history_changed"

    def test_a_cursor_of_this_history_is_taken(self, house: House) -> None:
        query = ReadPage(mailbox=BOB, limit=9, bytes_max=99, history=id_of(77))
        (answered,) = house.hear(ask(1, query))
        assert isinstance(answered, Answered)
        assert isinstance(answered.reading, PageRead)

    def test_one_asked_of_a_generation_that_is_over_is_told_so(self, house: House) -> None:
        answers = house.hear(ask(1), Open(name="b", nonce=id_of(2)), ask(2))
        assert [type(a) for a in answers] == [Answered, Opened, Closed]


class TestTurnsOfReading:
    @pytest.fixture(autouse=True)
    def _one_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(core_module, "TURN_BYTES_MAX", 1)

    def test_what_a_turn_does_not_reach_comes_after_the_next_commit(self, house: House) -> None:
        answers = house.hear(ask(1), ask(2), batch(1))
        assert [type(a) for a in answers] == [Confirmed, Answered]
        assert house.core.next_deadline() == 0.0
        answers = house.hear(batch(2))
        assert [type(a) for a in answers] == [Confirmed, Answered]
        assert isinstance(answers[1], Answered)
        assert answers[1].n == 2
        assert house.core.next_deadline() != 0.0

    def test_it_goes_on_by_itself_when_nothing_arrives(self, house: House) -> None:
        house.hear(ask(1), ask(2), ask(3))
        assert [a.n for a in said(house.step(Due())) if isinstance(a, Answered)] == [2]
        assert [a.n for a in said(house.step(Due())) if isinstance(a, Answered)] == [3]
        assert house.step(Due()) == []

    def test_a_page_weighs_what_it_brings(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = core_module.QUERY_BYTES + 2 * core_module.MESSAGE_BYTES + 2 * len(BODY)
        monkeypatch.setattr(core_module, "TURN_BYTES_MAX", weights + 1)
        house.hear(batch(1, store(message(1), message(2))))
        page = ReadPage(mailbox=BOB, limit=9, bytes_max=99)
        assert len(house.hear(ask(1, page), ask(2, page), ask(3, page))) == 2

    def test_a_broker_that_opens_anew_asks_anew(self, house: House) -> None:
        house.hear(ask(1), ask(2))
        assert [type(a) for a in house.hear(Open(name="b", nonce=id_of(2)))] == [Opened]
        assert house.step(Due()) == []

    def test_what_was_asked_is_answered_before_the_end(self, house: House) -> None:
        house.hear(ask(1), ask(2), ask(3))
        assert [type(a) for a in house.step(StopRequested())] == [Read, Send]
        assert [type(a) for a in house.step(Due())] == [Read, Send, End]


class TestStopping:
    def test_it_ends_at_once_when_nothing_is_in_hand(self, house: House) -> None:
        assert house.step(StopRequested()) == [End()]

    def test_it_finishes_what_has_arrived_and_confirms_it(self, house: House) -> None:
        actions = house.step(Arrived(*batch(1)), StopRequested())
        assert [type(a) for a in actions] == [Commit, Send, End]

    def test_it_waits_for_the_commit_under_way(self, house: House) -> None:
        house.core.handle(Arrived(*batch(1)), 0.0)
        (commit,) = house.core.handle(Drained(), 0.0)
        assert house.core.handle(StopRequested(), 0.0) == []
        assert isinstance(commit, Commit)
        actions = house.core.handle(Committed(house.journal.commit(commit.writes, NOW_US)), 0.0)
        assert [type(a) for a in actions] == [Send, End]
