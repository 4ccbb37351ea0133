"""Every requirement of the client protocol is named by a test, or stands here with the place that holds it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.protocol.spec import requirements, text_of

HERE = Path(__file__).parent

ELSEWHERE = {
    # What binds a client is shown where clients are tested.
    "T1": "the clients' shells, against a real broker",
    "T2": "the clients' shells set no routing id",
    "R2": "the session's requests",
    "R3": "the session's requests",
    "R6": "the session, and an exception a code",
    "B2": "the session's deadlines",
    "B3": "the session's deadlines",
    "N4": "the session's streams",
    "V4": "the session",
    # What binds libzmq and whoever sets it up.
    "T4": "end to end: a plaintext client is refused",
    "V5": "runtime's guard, and hostile clients end to end",
    "T6": "the codec's request_frames, and MAXMSGSIZE end to end",
}
"""Requirements that the broker's core alone cannot show."""


def named() -> set[str]:
    """The tags that tests of the protocol name in their docstrings."""
    found: set[str] = set()
    for path in HERE.glob("test_*.py"):
        if path.name not in ("test_requirements.py", "test_spec.py"):
            found |= set(re.findall(r"\[([A-Z]\d+)\]", path.read_text("utf-8")))
    return found


def test_every_requirement_is_shown_by_a_test() -> None:
    assert [tag for tag in requirements(text_of("protocol.md")) if tag not in named() | set(ELSEWHERE)] == []


def test_no_test_names_what_is_not_required() -> None:
    assert named() | set(ELSEWHERE) == set(requirements(text_of("protocol.md")))


def test_the_list_of_what_is_elsewhere_holds_nothing_that_is_here() -> None:
    assert named() & set(ELSEWHERE) == set()
