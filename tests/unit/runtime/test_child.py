"""When a dead child is started again, and how its pipes are cut into lines."""

from runtime.child import LINE_BYTES_MAX, Lines, Policy, Restarts

POLICY = Policy()


def test_the_wait_doubles_up_to_its_bound() -> None:
    restarts = Restarts(POLICY)
    waits = [restarts.died(float(n), ran_s=1.0, was_ready=True) for n in range(8)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_one_that_ran_well_starts_afresh() -> None:
    restarts = Restarts(POLICY)
    for n in range(5):
        restarts.died(float(n), ran_s=1.0, was_ready=True)
    assert restarts.died(100.0, ran_s=POLICY.stable_s, was_ready=True) == POLICY.backoff_min_s


def test_never_ready_gives_up_within_the_window() -> None:
    restarts = Restarts(POLICY)
    waits = [restarts.died(float(n), ran_s=0.1, was_ready=False) for n in range(5)]
    assert waits[-1] is None
    assert None not in waits[:-1]


def test_rare_deaths_before_ready_are_no_crash_loop() -> None:
    restarts = Restarts(POLICY)
    assert all(restarts.died(n * 31.0, ran_s=30.0, was_ready=False) is not None for n in range(6))


def test_getting_ready_forgets_the_failed_starts() -> None:
    restarts = Restarts(POLICY)
    for _ in range(3):
        for _ in range(4):
            assert restarts.died(0.0, ran_s=0.1, was_ready=False) is not None
        assert restarts.died(0.0, ran_s=0.1, was_ready=True) is not None


def test_ready_and_dead_for_ever_gives_up_too() -> None:
    restarts = Restarts(POLICY)
    waits = [restarts.died(n * 5.0, ran_s=1.0, was_ready=True) for n in range(POLICY.deaths_max)]
    assert waits.index(None) == POLICY.deaths_max - 1


def test_lines_are_put_together_from_pieces_and_bounded() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == [b"one"]
    assert lines.feed(b"o\n") == [b"two"]
    assert lines.feed(b"x" * (LINE_BYTES_MAX + 1)) == [b"x" * (LINE_BYTES_MAX + 1)]
    assert lines.feed(b"last") == []
    assert lines.end() == [b"last"]
    assert lines.end() == []
