"""What the people saw, as a history for the simulator's checker (`tests.simulation.checker`), and its verdict.

That checker compares everything with everything, which suits a simulated minute; here a mailbox holds ten thousands. So
it is asked about slices of each mailbox, with all that was sent into them and who read them when: a page, a following
or an acknowledgement is clipped to the slice, and what a following passed over is put as a page that shows nothing
there. What no slice can see is judged here, over the whole: whether everything accepted lies somewhere, once, in order,
and whether a message comes back though its acknowledgement was confirmed before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct, field

from restante.wire.envelopes import Entry
from restante.wire.limits import MAILBOX_UNREAD_MAX
from tests.simulation import checker
from tests.simulation.history import Acknowledging, Following, History, Mailbox, Reading, Sending
from tests.torture.report import Violation
from tests.torture.seen import Seen

SLICE: Final = 100
"""Entries of a mailbox that are judged together with who read them when."""

NEVER: Final = float("inf")

Attempts = dict[tuple[str, bytes], list[Sending]]
"""All that was given under one id by one account, in its order."""


# --- the verdict ----------------------------------------------------------------------------------------------


def verdict(seen: Seen) -> list[Violation]:
    """Every promise that was not kept."""
    attempts: Attempts = defaultdict(list)
    for sending in seen.sendings:
        attempts[sending.sender, sending.id].append(sending)
    found = [*_answers(seen, attempts), *_places(seen, attempts), *_disorder(seen), *_marks(seen)]
    for history in _slices(seen, attempts):
        found += [Violation(each.guarantee, each.text) for each in checker.check(history)]
    return sorted({str(each): each for each in found}.values(), key=lambda each: each.guarantee)


def _answers(seen: Seen, attempts: Attempts) -> Iterator[Violation]:
    """Every message came to a final answer, and to one; what was accepted is in each recipient's mailbox."""
    held = {
        name: {entry.id: entry.seq for entry in reversed(mailbox.entries)} for name, mailbox in seen.mailboxes.items()
    }
    for tries in attempts.values():
        first = tries[0]
        told = {(each.result.code, each.result.seq) for each in tries if each.result is not None}
        if not told:
            yield Violation("G4", f"{_show(first)} never had an answer")
        if len(told) > 1:
            yield Violation("G2", f"{_show(first)} was answered {sorted(told)}")
        for code, seq in told:
            for name in first.to:
                lies_at = held.get(name, {}).get(first.id)
                if not code and lies_at != seq:
                    yield Violation("G1", f"{_show(first)} was accepted as {seq}; in {name}'s mailbox it is {lies_at}")
                if code and lies_at is not None:
                    yield Violation("G4", f"{_show(first)} was refused ({code}); it is {lies_at} in {name}'s mailbox")


def _places(seen: Seen, attempts: Attempts) -> Iterator[Violation]:
    """No mailbox holds a message twice, or one before what the same process had given before it.

    A message whose sender was told that an attempt failed holds nobody up: given again it is a new one, and what was
    sent meanwhile may lie before it.
    """
    for name, mailbox in seen.mailboxes.items():
        given: list[tuple[int, int, Sending]] = []
        first_at: dict[tuple[str, bytes], int] = {}
        for entry in mailbox.entries:
            key = entry.sender, entry.id
            if key in first_at:
                yield Violation(
                    "G2", f"a message of {entry.sender} is in {name}'s mailbox at {first_at[key]}, {entry.seq}"
                )
            elif key in attempts:
                first_at[key] = entry.seq
                given.append((attempts[key][0].order, entry.seq, attempts[key][0]))
        highest: dict[str, int] = defaultdict(int)
        for _, seq, sending in sorted(given, key=lambda row: row[0]):
            if seq < highest[sending.sender]:
                text = f"lies at {seq} in {name}'s mailbox, and what was given before at {highest[sending.sender]}"
                yield Violation("G3", f"{_show(sending)} {text}")
            elif not any(each.failure for each in attempts[sending.sender, sending.id]):
                highest[sending.sender] = seq


def _marks(seen: Seen) -> Iterator[Violation]:
    """Read is what was acknowledged, in the end and when a following began."""
    confirmed: dict[tuple[str, int], float] = {}
    asked: set[tuple[str, int]] = set()
    for each in seen.acknowledgings:
        for place in ((each.reader, seq) for seq in each.seqs):
            asked.add(place)
            if each.confirmed:
                confirmed[place] = min(each.ended_at, confirmed.get(place, NEVER))
    for followed in seen.followed:
        reader = followed.following.reader
        for entry in followed.following.entries:
            if confirmed.get((reader, entry.seq), NEVER) < followed.began_at:
                yield Violation("G5", f"{reader} had acknowledged {entry.seq}, and a following hands it over again")
    for name, mailbox in seen.mailboxes.items():
        places = {entry.seq for entry in mailbox.entries}
        for seq in sorted({seq for reader, seq in asked if reader == name} - places):
            yield Violation("G6", f"{name} was shown {seq}, and it is not in the mailbox")
        for seq in sorted(set(mailbox.unread) - places):
            yield Violation("G5", f"{seq} is unread in {name}'s mailbox, and not in it")


def _show(sending: Sending) -> str:
    return f"{sending.sender}'s {sending.content[:40]!r}"


def _disorder(seen: Seen) -> Iterator[Violation]:
    """What a reader is shown lies in order, and where it was asked for."""
    for followed in seen.followed:
        for one, two in pairwise(entry.seq for entry in followed.following.entries):
            if two <= one:
                yield Violation("G5", f"a following of {followed.following.reader} hands over {two} after {one}")
    for page in seen.readings:
        seqs = [page.after, *(entry.seq for entry in page.entries)]
        if any(two <= one for one, two in pairwise(seqs)) or seqs[-1] > page.through:
            yield Violation("G5", f"a page of {page.reader}'s in ({page.after}, {page.through}] shows {seqs[1:]}")


class Slice(Struct):
    """A part of one mailbox: the seqs in (after, through]."""

    reader: str
    after: int
    through: int
    history: History
    passes: dict[tuple[int, tuple[int, ...]], list[float]] = field(default_factory=dict)
    """What a following showed behind a place, and when: another that shows the same, later, proves nothing more."""

    def is_news(self, after: int, shown: Sequence[Entry], at: list[float]) -> bool:
        """Whether nobody was seen to show the same earlier."""
        key = after, tuple(entry.seq for entry in shown)
        before = self.passes.setdefault(key, at)
        if before is not at and all(one <= two for one, two in zip(before, at, strict=True)):
            return False
        self.passes[key] = at
        return True


def _slices(seen: Seen, attempts: Attempts) -> Iterator[History]:
    """Each mailbox in parts, with what concerns them."""
    for name, mailbox in seen.mailboxes.items():
        parts = [_slice(seen, name, mailbox, at, attempts) for at in range(0, len(mailbox.entries), SLICE)]
        ends = [part.through for part in parts]
        for page in seen.readings:
            if page.reader == name:
                _clip_page(page, _touched(parts, ends, page.after, page.through))
        for followed in seen.followed:
            if followed.following.reader == name and followed.following.entries:
                last = followed.following.entries[-1].seq
                _clip_following(followed.following, _touched(parts, ends, 0, last))
        for asked in seen.acknowledgings:
            if asked.reader == name:
                _clip_acknowledging(asked, parts, ends)
        yield from (part.history for part in parts)


def _slice(seen: Seen, name: str, mailbox: Mailbox, at: int, attempts: dict[tuple[str, bytes], list[Sending]]) -> Slice:
    entries = mailbox.entries[at : at + SLICE]
    after = mailbox.entries[at - 1].seq if at else 0
    through = entries[-1].seq
    unread = mailbox.unread[bisect_right(mailbox.unread, after) : bisect_right(mailbox.unread, through)]
    given = [each for entry in entries for each in attempts.get((entry.sender, entry.id), ())]
    given.sort(key=lambda each: each.order)
    history = History(
        names=seen.names,
        sendings=[msgspec.structs.replace(each, order=order) for order, each in enumerate(given)],
        limits={"unread": MAILBOX_UNREAD_MAX},
        mailboxes={name: Mailbox(entries, mailbox.contents[at : at + SLICE], unread)},
    )
    return Slice(name, after, through, history)


def _touched(parts: list[Slice], ends: list[int], after: int, through: int) -> Iterable[Slice]:
    """The slices that (after, through] has something in common with."""
    for part in parts[bisect_right(ends, after) :]:
        if part.after >= through:
            return
        yield part


def _within(entries: list[Entry], after: int, through: int) -> slice:
    """Which of a list of entries, in their order, lie in (after, through]."""
    return slice(
        bisect_right(entries, after, key=lambda entry: entry.seq),
        bisect_right(entries, through, key=lambda entry: entry.seq),
    )


def _clip_page(page: Reading, parts: Iterable[Slice]) -> None:
    for part in parts:
        after, through = max(page.after, part.after), min(page.through, part.through)
        here = _within(page.entries, after, through)
        entries, contents = page.entries[here], page.contents[here]
        part.history.readings.append(
            msgspec.structs.replace(
                page,
                at=page.at if entries else -NEVER,  # one that shows nothing can't show what was read
                after=after,
                through=through,
                entries=entries,
                contents=contents,
            )
        )


def _clip_following(following: Following, parts: Iterable[Slice]) -> None:
    for part in parts:
        here = _within(following.entries, part.after, part.through)
        entries, contents = following.entries[here], following.contents[here]
        if entries and part.is_news(part.after, entries, following.handed_at[here]):
            part.history.followings.append(
                msgspec.structs.replace(
                    following,
                    after=part.after,
                    entries=entries,
                    contents=contents,
                    handed_at=following.handed_at[here],
                )
            )
        if here.stop == len(following.entries):
            return
        after, at = entries[-1].seq if entries else part.after, following.handed_at[here.stop]
        if part.is_news(after, (), [at]):  # it went on behind this slice, and passed over the rest of it
            part.history.readings.append(
                Reading(
                    at=-NEVER,
                    ended_at=at,
                    reader=following.reader,
                    after=after,
                    unread=True,
                    sender="",
                    limit=1,
                    through=part.through,
                    more=True,
                    entries=[],
                    contents=[],
                )
            )


def _clip_acknowledging(asked: Acknowledging, parts: list[Slice], ends: list[int]) -> None:
    lots: dict[int, list[int]] = defaultdict(list)
    for seq in asked.seqs:
        lots[bisect_left(ends, seq)].append(seq)
    for index, seqs in lots.items():
        if index < len(parts):  # else it is in no mailbox, which the whole tells
            parts[index].history.acknowledgings.append(msgspec.structs.replace(asked, seqs=tuple(seqs)))
