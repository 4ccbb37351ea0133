"""How long until a wrong key is called one."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from restante.dialling import BACKOFF_S_MAX, WRONG_KEY_S, Dialling

ATTEMPT_S = 0.05
"""What a handshake takes to fail."""


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=16, max_size=16))
@example([0.2] * 16)
def test_the_verdict_waits_for_no_backoff(chances: list[float]) -> None:
    dialling, now = Dialling("example"), 1_000.0
    begin = now
    for chance in chances:
        now += ATTEMPT_S
        wait_s = dialling.failed("the handshake failed", handshake=True, chance=chance, now=now)
        if dialling.wrong_key(now) is not None:
            break
        now += wait_s
    assert WRONG_KEY_S <= now - begin <= WRONG_KEY_S + 3 * ATTEMPT_S


def test_after_it_attempts_grow_rare() -> None:
    dialling = Dialling("example")
    waits = [
        dialling.failed("the handshake failed", handshake=True, chance=0.999, now=1_000 + 10.0 * n) for n in range(9)
    ]
    assert BACKOFF_S_MAX * 0.99 < waits[-1] <= BACKOFF_S_MAX
