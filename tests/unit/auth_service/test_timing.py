"""An unknown name is refused in the time of a wrong password: no difference that 200 tries can tell (A4)."""

from __future__ import annotations

import statistics
import time
from random import Random

import pytest

from auth_service.answers import Answers, Policy
from auth_service.memory import MemoryAccounts
from auth_service.passwords import Argon2, Checked, Passwords
from restante.wire import auth_link

TRIES = 200
SHUFFLES = 400
REPETITIONS = 3
P_TINY = 0.01


def seconds(answers: Answers, name: str, n: int) -> float:
    """How long a wrong log-in takes, of this process's own time: others on the machine are no matter."""
    question = auth_link.LogIn(op=n.to_bytes(16, "big"), name=name, password="a wrong guess")
    began = time.thread_time()
    outcome = answers.answer(question, 1_000_000 + n)
    taken = time.thread_time() - began
    assert isinstance(outcome, auth_link.Refused)
    assert outcome.code == "wrong_credentials"
    return taken


def p_value(left: list[float], right: list[float], random: Random) -> float:
    """How often medians differ as much if it is by chance which try was whose."""
    seen = abs(statistics.median(left) - statistics.median(right))
    both, more = left + right, 1
    for _ in range(SHUFFLES):
        random.shuffle(both)
        more += abs(statistics.median(both[: len(left)]) - statistics.median(both[len(left) :])) >= seen
    return more / (SHUFFLES + 1)


def tells_apart(passwords: Passwords) -> bool:
    """Whether 200 tries tell a name that exists from one that does not, each time that it is tried."""
    answers = Answers(MemoryAccounts(), passwords, bytes, Policy())
    answers.answer(auth_link.MakeAccount(op=bytes(16), name="bob", password="correct horse"), 1)
    random = Random(1)
    for _ in range(REPETITIONS):
        known: list[float] = []
        unknown: list[float] = []
        for n in range(TRIES // 2):  # in turn, so that whatever slows the machine slows both
            known.append(seconds(answers, "bob", 2 * n + 1))
            unknown.append(seconds(answers, "eve", 2 * n + 2))
        if p_value(known, unknown, random) > P_TINY:
            return False
    return True


@pytest.mark.timeout(120)
def test_200_tries_do_not_tell_whether_a_name_exists() -> None:
    assert not tells_apart(Argon2())


class Slower(Argon2):
    """A known name costs two milliseconds more: a tenth of what a hash takes in earnest."""

    def check(self, password: str, stored: str | None) -> Checked:
        until = time.thread_time() + (0.002 if stored else 0.0)
        while time.thread_time() < until:
            pass
        return super().check(password, stored)


def test_a_difference_of_two_milliseconds_would_be_seen() -> None:
    assert tells_apart(Slower(memory_kib=1_024, passes=1))
