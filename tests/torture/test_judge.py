"""The judge sees each promise broken, in what the people wrote down, and complains of nothing that is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from restante.wire.envelopes import Entry
from tests.simulation.history import Mailbox
from tests.torture import journal
from tests.torture.batch import BatchLine, Run
from tests.torture.journal import Acked, Asked, Began, Given, Got, Journal, Paged, Told
from tests.torture.judge import SLICE, verdict
from tests.torture.seen import Seen

MESSAGES = 2 * SLICE + 20
"""Of ann to bob: more than two slices."""


def message_id(n: int) -> bytes:
    return n.to_bytes(16, "big")


def entry(n: int, state: str = "stored") -> Entry:
    """Message n lies at 10 (n + 1), as bob is shown it."""
    return Entry(
        seq=10 * (n + 1),
        id=message_id(n),
        sender="ann",
        to=["bob"],
        size=len(f"ann {n}"),
        stored_at_us=1_000 + n,
        state="read" if state == "read" else "stored",
    )


class Story:
    """Ann sends, bob follows what isn't read and acknowledges it; then it is changed, and judged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[journal.Any] = [Began(at=0)]
        for n in range(MESSAGES):
            self.sent.append(Given(at=n, id=message_id(n), to=["bob"], body=f"ann {n}"))
            self.sent.append(Told(at=n + 0.5, id=message_id(n), seq=entry(n).seq, stored_at_us=entry(n).stored_at_us))
        self.read: list[journal.Any] = [Began(at=0), Began(at=0, following=True)]
        for n in range(MESSAGES):
            self.read.append(Got(at=n + 1, entry=entry(n), body=f"ann {n}"))
        self.acked = set(range(0, MESSAGES, 2))
        self.read.append(Asked(at=MESSAGES + 1, n=1, seqs=[entry(n).seq for n in sorted(self.acked)], ids=[]))
        self.read.append(Acked(at=MESSAGES + 2, n=1))
        self.mailbox = Mailbox(
            [entry(n, "read" if n in self.acked else "stored") for n in range(MESSAGES)],
            [f"ann {n}".encode() for n in range(MESSAGES)],
            [entry(n).seq for n in range(MESSAGES) if n not in self.acked],
        )

    def later(self, *lines: journal.Any) -> None:
        """Bob's next following, after all that."""
        self.read += [Began(at=MESSAGES + 3, following=True), *lines]

    def seen(self) -> Seen:
        for name, lines in (("ann", self.sent), ("bob", self.read)):
            with Journal(self.folder / name) as book:
                for line in lines:
                    book.write(line)
        seen = Seen(names=["ann", "bob"], mailboxes={"bob": self.mailbox})
        seen.add_sender("ann", self.folder / "ann")
        seen.add_reader("bob", self.folder / "bob")
        return seen

    def drop(self, n: int) -> None:
        """Take message n out of the mailbox."""
        seq = entry(n).seq
        at = [each.seq for each in self.mailbox.entries].index(seq)
        del self.mailbox.entries[at], self.mailbox.contents[at]
        self.mailbox.unread = [each for each in self.mailbox.unread if each != seq]

    def broken(self) -> list[str]:
        return [str(each) for each in verdict(self.seen())]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_true_story_is_sound(story: Story) -> None:
    story.later(*(Got(at=MESSAGES + 5, entry=entry(n), body=f"ann {n}") for n in range(1, MESSAGES, 2)))
    assert story.broken() == []


def test_a_message_that_was_given_again_and_is_there_once_is_sound(story: Story) -> None:
    story.sent[2:2] = [
        Told(at=0.1, id=message_id(0), failure="OutcomeUnknown"),
        Given(at=0.2, id=message_id(0), to=["bob"], body="ann 0"),
    ]
    seen = story.seen()
    assert verdict(seen) == []
    assert seen.retries == 1


def test_a_killed_senders_message_without_an_answer_is_open(story: Story) -> None:
    story.sent.pop()
    assert story.broken() == [f"G4: ann's {f'ann {MESSAGES - 1}'.encode()!r} never had an answer"]


def test_lost(story: Story) -> None:
    story.drop(7)
    assert "G1: ann's b'ann 7' was accepted as 80; in bob's mailbox it is None" in story.broken()


def test_doubled(story: Story) -> None:
    last = story.mailbox.entries[-1]
    story.mailbox.entries.append(
        Entry(seq=last.seq + 5, id=message_id(2), sender="ann", to=["bob"], size=5, stored_at_us=last.stored_at_us)
    )
    story.mailbox.contents.append(b"ann 2")
    story.mailbox.unread.append(last.seq + 5)
    assert f"G2: a message of ann is in bob's mailbox at 30, {last.seq + 5}" in story.broken()


def test_out_of_order_also_from_one_slice_to_another(story: Story) -> None:
    first, last = story.sent[1:3], story.sent[3:]
    story.sent[1:] = [*last, *first]  # what lies first was given last
    assert any(text.startswith("G3: ann's b'ann 0' lies at 10") for text in story.broken())


def test_refused_and_there(story: Story) -> None:
    story.sent[2] = Told(at=0.5, id=message_id(0), code="unknown_recipient")
    assert any("was refused, and is in bob's mailbox" in text for text in story.broken())


def test_read_and_nobody_acknowledged_it(story: Story) -> None:
    story.read[-2:] = []
    assert any(text.startswith("G5: 10 is read in bob's mailbox; nobody") for text in story.broken())


def test_acknowledged_and_unread(story: Story) -> None:
    story.mailbox.unread.insert(0, 10)
    story.mailbox.entries[0] = entry(0)
    assert any("bob acknowledged 10, was told so, and it is unread" in text for text in story.broken())


def test_acknowledged_and_handed_over_again(story: Story) -> None:
    story.later(Got(at=MESSAGES + 5, entry=entry(4), body="ann 4"))
    assert "G5: bob had acknowledged 50, and a following hands it over again" in story.broken()


def test_an_acknowledgement_that_was_not_answered_may_have_been_or_not(story: Story) -> None:
    story.read.pop()
    story.later(Got(at=MESSAGES + 5, entry=entry(1), body="ann 1"))
    assert story.broken() == []


@pytest.mark.parametrize("missing", [0, 1, SLICE - 1, SLICE, 2 * SLICE - 1, 2 * SLICE])
def test_a_following_leaves_one_out_wherever_it_is(story: Story, missing: int) -> None:
    del story.read[2 + missing]
    assert any(f"leaves out {entry(missing).seq}" in text or "without" in text for text in story.broken())


def test_a_following_leaves_out_a_slice(story: Story) -> None:
    del story.read[2 + SLICE : 2 + 2 * SLICE]
    assert sum("leaves out" in text for text in story.broken()) >= SLICE


def test_a_following_goes_back(story: Story) -> None:
    story.read[5], story.read[6] = story.read[6], story.read[5]
    assert any("hands over 40 after 50" in text for text in story.broken())


def page(at: float, first: int, *shown: int) -> Paged:
    """A page of bob's unread from just before message `first` through the end."""
    return Paged(
        at=at,
        ended_at=at + 0.1,
        after=entry(first).seq - 1,
        limit=len(shown) or 1,
        through=entry(MESSAGES).seq,
        more=False,
        entries=[entry(n) for n in shown],
        bodies=[f"ann {n}" for n in shown],
    )


LATER = MESSAGES + 5


@pytest.mark.parametrize(
    ("paged", "says"),
    [
        (page(LATER, 0, *range(1, MESSAGES, 2)), ""),
        (page(LATER, SLICE + 1, *range(SLICE + 1, MESSAGES, 2)), ""),
        (page(LATER, 0, *range(3, MESSAGES, 2)), "leaves out 20"),
        (page(LATER, 0, *range(1, MESSAGES - 2, 2)), "leaves out 2200"),
        (page(LATER, 0, *range(MESSAGES)), "had acknowledged 10, and is shown it as unread"),
        (page(LATER, 0, 3, 1, *range(5, MESSAGES, 2)), "shows"),
    ],
)  # fmt: skip
def test_pages(story: Story, paged: Paged, says: str) -> None:
    story.read.append(paged)
    broken = story.broken()
    assert any(says in text for text in broken) if says else broken == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda each: Entry(seq=15, id=message_id(999), sender="ann", to=["bob"], size=1, stored_at_us=1_000),
         "who never sent it"),
        (lambda each: Entry(seq=10, id=message_id(0), sender="eve", to=["bob"], size=1, stored_at_us=1_000),
         "from eve, who never sent it"),
    ],
)  # fmt: skip
def test_a_foreign_message(story: Story, change: Callable[[Entry], Entry], says: str) -> None:
    changed = change(story.mailbox.entries[0])
    story.read.append(
        Paged(at=0.1, ended_at=0.2, after=9, limit=5, through=15, more=True, entries=[changed], bodies=["?"])
    )
    assert any(text.startswith("G6") and says in text for text in story.broken())


# --- batches ------------------------------------------------------------------------------------------------


def batch_run(folder: Path, number: int, code: int | None, *told: dict[str, object]) -> Run:
    lines = [BatchLine(message_id(n), ["bob"], f"bea {n}", f"bea-{n}") for n in range(3)]
    out = folder / f"{number}.out"
    out.write_text("".join(json.dumps(each) + "\n" for each in told))
    return Run(0, lines, out, float(number), code)


def accepted(line: int, *, again: bool = False) -> dict[str, object]:
    return {"line": line, "ok": True, "id": "…", "seq": 10 * line, "again": again}


def batch_seen(*runs: Run) -> Seen:
    entries = [
        Entry(seq=10 * (n + 1), id=message_id(n), sender="bea", to=["bob"], size=5, stored_at_us=n + 1)
        for n in range(3)
    ]
    bodies = [f"bea {n}".encode() for n in range(3)]
    seen = Seen(names=["bea", "bob"], mailboxes={"bob": Mailbox(entries, bodies, [10, 20, 30])})
    seen.add_batches("bea", runs)
    return seen


def test_a_batch_that_was_killed_and_run_again_is_sound(tmp_path: Path) -> None:
    first = batch_run(tmp_path, 0, -9, accepted(1))
    second = batch_run(tmp_path, 1, 0, accepted(1, again=True), accepted(2, again=True), accepted(3))
    seen = batch_seen(first, second)
    assert verdict(seen) == []
    assert (seen.again, seen.retries) == (2, 3)


def test_a_batch_told_two_places_for_one_line_is_doubled(tmp_path: Path) -> None:
    first = batch_run(tmp_path, 0, -9, {**accepted(1), "seq": 20})
    second = batch_run(tmp_path, 1, 0, accepted(1), accepted(2), accepted(3))
    assert any(each.guarantee == "G2" for each in verdict(batch_seen(first, second)))


@pytest.mark.parametrize(
    ("error", "failure"),
    [("outcome_unknown", "OutcomeUnknown"), ("wrong_server_key", "UnreachableError"), ("busy", "busy")],
)
def test_what_a_batch_in_doubt_did_not_tell_of_has_failed_in_it(tmp_path: Path, error: str, failure: str) -> None:
    first = batch_run(tmp_path, 0, 5, {"line": 1, "ok": False, "error": error, "text": ""})
    second = batch_run(tmp_path, 1, 0, accepted(1), accepted(2), accepted(3))
    seen = batch_seen(first, second)
    assert [each.failure for each in seen.sendings] == [failure, "OutcomeUnknown", "OutcomeUnknown", "", "", ""]
    assert verdict(seen) == []
