"""The pool of authentication workers: a question is with one worker at a time, and answered exactly once."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.auth_pool import AuthPool
from broker.events import Action, AskWorker
from restante.wire import auth_link, limits
from restante.wire.auth_link import Ask, Beat, CheckTokens, Leaving, Outcome, Ready, Refused, TokensEnded, Told, Who


class Pool:
    """A pool, the questions it was given (a number each), and what became of them."""

    def __init__(self) -> None:
        self.pool = AuthPool()
        self.now = 0.0
        self.out: list[AskWorker] = []
        self.outcomes: dict[int, list[Outcome]] = {}

    def ask(self, number: int) -> None:
        self.outcomes[number] = []

        def then(outcome: Outcome, now: float, actions: list[Action]) -> None:
            self.outcomes[number].append(outcome)

        self._do(lambda actions: self.pool.ask(CheckTokens(token_ids=[number]), then, self.now, actions))

    def says(self, worker: bytes, envelope: auth_link.FromWorker) -> None:
        self._do(lambda actions: self.pool.arrived(worker, envelope, self.now, actions))

    def ready(self, worker: bytes, capacity: int = 64, name: bytes = b"") -> None:
        self.says(worker, Ready(worker=name or worker.ljust(16), capacity=capacity))

    def lost(self, worker: bytes) -> None:
        self._do(lambda actions: self.pool.unreachable(worker, actions))

    def due(self) -> None:
        self._do(lambda actions: self.pool.due(self.now, actions))

    def _do(self, step: object) -> None:
        actions: list[Action] = []
        assert callable(step)
        step(actions)
        for action in actions:
            assert isinstance(action, AskWorker)
            self.out.append(action)

    def asked(self, worker: bytes) -> list[tuple[int, int]]:
        """(n, the question's number) of each question that worker was asked since the last look."""
        mine = []
        for action in self.out:
            if action.routing_id == worker and isinstance(action.envelope, Ask):
                assert isinstance(action.envelope.question, CheckTokens)
                mine.append((action.envelope.n, action.envelope.question.token_ids[0]))
        self.out = [a for a in self.out if a.routing_id != worker or not isinstance(a.envelope, Ask)]
        return mine

    def tell(self, worker: bytes, n: int) -> None:
        self.says(worker, Told(n=n, outcome=TokensEnded()))

    def codes(self, number: int) -> list[str]:
        return [getattr(outcome, "code", "") for outcome in self.outcomes[number]]


class TestSpreading:
    def test_what_is_asked_before_anybody_is_ready_waits(self) -> None:
        pool = Pool()
        pool.ask(1)
        assert not pool.pool.ready
        pool.ready(b"a")
        assert [number for _, number in pool.asked(b"a")] == [1]
        assert pool.pool.ready

    def test_the_least_loaded_is_asked(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ready(b"b")
        for number in range(4):
            pool.ask(number)
        assert len(pool.asked(b"a")) == len(pool.asked(b"b")) == 2

    def test_nobody_holds_more_than_its_capacity(self) -> None:
        pool = Pool()
        pool.ready(b"a", capacity=2)
        for number in range(3):
            pool.ask(number)
        (first, _), _ = pool.asked(b"a")
        pool.tell(b"a", first)
        assert [number for _, number in pool.asked(b"a")] == [2]

    def test_a_capacity_that_lies_is_bounded(self) -> None:
        pool = Pool()
        pool.ready(b"a", capacity=10**9)
        pool.ready(b"b", capacity=0)
        for number in range(200):
            pool.ask(number)
        assert (len(pool.asked(b"a")), len(pool.asked(b"b"))) == (limits.AUTH_CAPACITY, 1)

    def test_an_answer_is_passed_on_once(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ask(1)
        ((n, _),) = pool.asked(b"a")
        pool.tell(b"a", n)
        pool.tell(b"a", n)
        assert pool.codes(1) == [""]
        assert pool.pool.idle

    def test_an_answer_to_somebody_elses_question_is_ignored(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ask(1)
        ((n, _),) = pool.asked(b"a")
        pool.ready(b"b")
        pool.tell(b"b", n)
        assert pool.codes(1) == []


class TestDeath:
    def test_the_silent_are_buried_and_their_questions_go_first_to_the_others_under_new_numbers(self) -> None:
        pool = Pool()
        pool.ready(b"a", capacity=2)
        for number in (1, 2, 3):
            pool.ask(number)
        old = pool.asked(b"a")
        pool.now = limits.LINK_SILENCE_S_MAX + 0.1
        pool.ready(b"b", capacity=1)
        pool.due()
        assert pool.asked(b"b") == [(3, 3)]
        pool.tell(b"b", 3)
        assert pool.asked(b"b") == [(4, 1)]
        pool.tell(b"b", 4)
        assert pool.asked(b"b") == [(5, 2)]
        assert [number for _, number in old] == [1, 2]

    def test_the_questions_of_the_dead_go_before_those_that_waited(self) -> None:
        pool = Pool()
        pool.ready(b"a", capacity=2)
        for number in (1, 2, 3):
            pool.ask(number)
        pool.lost(b"a")
        pool.ready(b"b")
        assert [number for _, number in pool.asked(b"b")] == [1, 2, 3]

    def test_a_late_answer_of_the_dead_is_ignored_and_it_is_asked_who_it_is(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ask(1)
        ((n, _),) = pool.asked(b"a")
        pool.now = limits.LINK_SILENCE_S_MAX + 0.1
        pool.due()
        pool.tell(b"a", n)
        assert pool.codes(1) == []
        assert pool.out[-1] == AskWorker(b"a", Who())
        pool.ready(b"a")
        ((again, _),) = pool.asked(b"a")
        assert again > n
        pool.tell(b"a", n)
        assert pool.codes(1) == []
        pool.tell(b"a", again)
        assert pool.codes(1) == [""]

    def test_who_is_out_of_reach_is_dead_at_once(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ask(1)
        pool.ready(b"b")
        pool.lost(b"a")
        assert [number for _, number in pool.asked(b"b")] == [1]

    def test_a_worker_that_reconnected_is_one_worker(self) -> None:
        pool = Pool()
        pool.ready(b"a", name=b"the same worker!")
        pool.ask(1)
        pool.asked(b"a")
        pool.ready(b"b", name=b"the same worker!")
        assert [number for _, number in pool.asked(b"b")] == [1]
        pool.ask(2)
        assert pool.asked(b"a") == []

    def test_another_worker_in_its_place_is_another_worker(self) -> None:
        pool = Pool()
        pool.ready(b"a", name=b"the first worker")
        pool.ask(1)
        pool.ready(b"a", name=b"the other worker")
        assert [n for n, _ in pool.asked(b"a")] == [1, 2]

    def test_ready_said_twice_changes_nothing(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ask(1)
        pool.ready(b"a")
        assert pool.asked(b"a") == [(1, 1)]

    def test_any_word_is_a_sign_of_life_and_the_broker_gives_its_own(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        for _ in range(10):
            pool.now += limits.LINK_SILENCE_S_MAX - 1
            pool.says(b"a", Beat())
            pool.due()
        assert pool.pool.ready
        assert pool.out.count(AskWorker(b"a", Beat())) == 10


class TestLeaving:
    def test_who_leaves_is_asked_nothing_more_and_still_answers(self) -> None:
        pool = Pool()
        pool.ready(b"a")
        pool.ask(1)
        pool.says(b"a", Leaving())
        pool.ask(2)
        assert not pool.pool.ready
        ((n, _),) = pool.asked(b"a")
        pool.tell(b"a", n)
        assert (pool.codes(1), pool.codes(2)) == ([""], [])
        pool.ready(b"b")
        assert [number for _, number in pool.asked(b"b")] == [2]


class TestTooMuch:
    def test_what_waits_too_long_is_refused(self) -> None:
        pool = Pool()
        pool.ready(b"a", capacity=1)
        pool.ask(1)
        pool.ask(2)
        ((n, _),) = pool.asked(b"a")
        pool.now = limits.REQUEST_S - 1.0
        pool.says(b"a", Beat())
        pool.due()
        assert (pool.codes(1), pool.codes(2)) == ([], [])
        pool.now = limits.REQUEST_S
        pool.due()
        assert (pool.codes(1), pool.codes(2)) == (["unavailable"], ["unavailable"])
        pool.tell(b"a", n)
        assert pool.codes(1) == ["unavailable"]
        assert pool.pool.idle

    def test_no_more_wait_than_may(self) -> None:
        pool = Pool()
        for number in range(limits.AUTH_WAITING_MAX):
            pool.ask(number)
        pool.ask(-1)
        assert pool.codes(-1) == ["busy"]
        assert isinstance(pool.outcomes[-1][0], Refused)


class Workers(RuleBasedStateMachine):
    """Workers come, go, answer, fall silent: no question is lost, and none is answered twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()
        self.number = 0
        self.held: dict[bytes, list[int]] = {}

    names = st.sampled_from([b"a", b"b", b"c"])

    @rule(name=names, capacity=st.integers(1, 3))
    def ready(self, name: bytes, capacity: int) -> None:
        self.pool.ready(name, capacity)

    @rule()
    def ask(self) -> None:
        self.number += 1
        self.pool.ask(self.number)

    @rule(name=names)
    def tell(self, name: bytes) -> None:
        for n, _ in self.pool.asked(name)[:2]:
            self.pool.tell(name, n)

    @rule(name=names)
    def lost(self, name: bytes) -> None:
        self.pool.lost(name)

    @rule(name=names)
    def leaving(self, name: bytes) -> None:
        self.pool.says(name, Leaving())

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0]))
    def time(self, seconds: float) -> None:
        self.pool.now += seconds
        self.pool.due()

    @invariant()
    def answered_once_at_most(self) -> None:
        assert all(len(outcomes) <= 1 for outcomes in self.pool.outcomes.values())

    @invariant()
    def nothing_is_lost(self) -> None:
        inside = len(self.pool.pool._waiting) + sum(len(w.holds) for w in self.pool.pool._workers.values())
        assert inside == sum(not outcomes for outcomes in self.pool.outcomes.values())

    def teardown(self) -> None:
        self.pool.now += limits.REQUEST_S + 1
        self.pool.due()
        assert all(len(outcomes) == 1 for outcomes in self.pool.outcomes.values())
        assert self.pool.pool.idle


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
