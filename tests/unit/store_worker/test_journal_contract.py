"""What every journal must keep, whatever it keeps it in. One suite; a new implementation joins it in `CASES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from restante.wire.columns import fits
from restante.wire.envelopes import RecipientState
from restante.wire.store_link import (
    CloseMailbox,
    Failed,
    MarkedMessages,
    MarkMessages,
    Message,
    Noted,
    NoteDelivered,
    ReadPage,
    ReadStatus,
    StatusRead,
    Stored,
)
from store_worker import journal as journal_module
from store_worker import memory, sqlite_reads
from store_worker.journal import Journal, Unusable
from store_worker.memory import MemoryJournal
from store_worker.sqlite import SqliteJournal
from tests.unit.store_worker.making import (
    ALICE,
    BOB,
    DAN,
    EVE,
    NOW_US,
    commit,
    counted,
    id_of,
    mark,
    message,
    page,
    send,
    seqs,
    store,
    write,
)

UNREAD_MAX = 120

Make = Callable[[], Journal]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Give the same storage again as a new process would find it; the first call makes it."""
    kept = MemoryJournal(unread_max=UNREAD_MAX)
    opened: list[Journal] = []

    def make() -> Journal:
        if request.param == "memory":
            return kept
        while opened:
            opened.pop().close()
        opened.append(SqliteJournal(tmp_path / "store.db", unread_max=UNREAD_MAX))
        return opened[-1]

    yield make
    while opened:
        opened.pop().close()


@pytest.fixture
def journal(reopen: Make) -> Journal:
    made = reopen()
    made.start()
    return made


class TestOneOrder:
    """RULES 14: seq, and the time stored."""

    def test_seqs_increase_in_the_order_of_messages_commands_and_batches(self, journal: Journal) -> None:
        first, second = journal.commit(
            [write(store(message(1), message(2)), store(message(3), sender=EVE)), write(store(message(4)))], NOW_US
        )
        given = [r.seq for w in (first, second) for o in w.outcomes if isinstance(o, Stored) for r in o.results]
        assert given == sorted(given)
        assert len(set(given)) == 4
        assert [entry.id for entry in page(journal).entries] == [id_of(n) for n in (1, 2, 3, 4)]

    def test_a_batch_says_the_high_water_before_and_after_it(self, journal: Journal) -> None:
        first, second, third = journal.commit(
            [write(store(message(1), message(2))), write(store(message(3))), write(store(message(1)))], NOW_US
        )
        assert (first.base, second.base) == (0, first.high)
        assert (third.base, third.high) == (second.high, second.high)
        assert page(journal).through == second.high

    def test_nothing_appears_at_or_below_what_a_page_has_read_through(self, journal: Journal) -> None:
        """Two readers' cursors and a writer's batches, interleaved in every way of this length."""
        numbers = count(1)
        for pattern in range(64):
            through, seen = page(journal, after=0).through, seqs(page(journal))
            for bit in range(6):
                if pattern >> bit & 1:
                    send(journal, message(next(numbers)), message(next(numbers)), sender=ALICE + bit % 2)
                    continue
                late = [seq for seq in seqs(page(journal)) if seq <= through and seq not in seen]
                assert late == []
                through, seen = page(journal).through, seqs(page(journal))
            mark(journal, BOB, *seqs(page(journal)))

    def test_seqs_are_never_given_twice_also_after_a_restart_and_a_closed_mailbox(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        (result,) = send(first, message(1))
        commit(first, CloseMailbox(mailbox=BOB))
        second = reopen()
        assert second.start().high == result.seq
        assert send(second, message(2, EVE))[0].seq > result.seq

    def test_the_time_stored_never_goes_back_also_over_a_restart(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        assert send(first, message(1), now_us=NOW_US)[0].stored_at_us == NOW_US
        assert send(first, message(2), now_us=NOW_US - 5)[0].stored_at_us == NOW_US
        second = reopen()
        second.start()
        assert send(second, message(3), now_us=5)[0].stored_at_us == NOW_US
        assert send(second, message(4), now_us=NOW_US + 1)[0].stored_at_us == NOW_US + 1


class TestOnce:
    """RULES 12: the same again, and something else under the same id."""

    def test_a_repetition_gets_the_first_answer_and_stores_nothing(self, journal: Journal) -> None:
        (first,) = send(journal, message(1))
        (again,) = send(journal, message(1), now_us=NOW_US + 99)
        assert (again.seq, again.stored_at_us, again.again, again.code) == (first.seq, NOW_US, True, "")
        assert counted(journal) == (1, 1)

    def test_it_does_so_over_a_restart(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        (result,) = send(first, message(1))
        second = reopen()
        second.start()
        (again,) = send(second, message(1))
        assert (again.seq, again.again) == (result.seq, True)

    @pytest.mark.parametrize("between", [0, 3, 60])
    def test_it_does_so_within_one_batch(self, journal: Journal, between: int) -> None:
        others = [message(100 + n, DAN) for n in range(between)]
        results = send(journal, message(1), *others, message(1), message(1, EVE))
        assert results[-2].seq == results[0].seq
        assert [results[-2].again, results[-1].code] == [True, "id_conflict"]
        assert counted(journal) == (1, 1)
        assert len(seqs(page(journal))) == 1

    def test_it_does_so_within_one_transaction(self, journal: Journal) -> None:
        first, second = journal.commit([write(store(message(1))), write(store(message(1)))], NOW_US)
        (one,), (two,) = first.outcomes, second.outcomes
        assert isinstance(one, Stored)
        assert isinstance(two, Stored)
        assert (two.results[0].seq, two.results[0].again) == (one.results[0].seq, True)

    def test_a_clock_read_anew_and_another_order_of_recipients_are_no_difference(self, journal: Journal) -> None:
        (first,) = send(journal, message(1, BOB, EVE))
        (again,) = send(journal, message(1, EVE, BOB, sent_at_us=8))
        assert (again.seq, again.again) == (first.seq, True)

    @pytest.mark.parametrize(
        ("other", "body"),
        [
            (message(1), b"hellO"),
            (message(1, body=b""), b""),
            (message(1, EVE), b"hello"),
            (message(1, BOB, EVE), b"hello"),
            (message(1, content_type="text/html"), b"hello"),
            (message(1, reply_to=id_of(9)), b"hello"),
        ],
        ids=["content", "no content", "recipient", "one recipient more", "content type", "reply_to"],
    )
    def test_what_differs_is_a_conflict_and_stores_nothing(self, journal: Journal, other: Message, body: bytes) -> None:
        send(journal, message(1))
        (outcome,) = commit(journal, store(other), body=body).outcomes
        assert isinstance(outcome, Stored)
        assert [r.code for r in outcome.results] == ["id_conflict"]
        assert (counted(journal), counted(journal, EVE)) == ((1, 1), (0, 0))

    def test_two_senders_may_use_the_same_id(self, journal: Journal) -> None:
        (one,), (two,) = send(journal, message(1), sender=ALICE), send(journal, message(1), sender=EVE)
        assert not two.again
        assert two.seq > one.seq
        assert counted(journal) == (2, 2)

    @pytest.mark.parametrize(
        "fates", ["new", "known", "refused", "new known", "refused new known new", "known refused"]
    )
    def test_an_outcome_says_by_columns_what_became_of_each(self, journal: Journal, fates: str) -> None:
        kinds = fates.split()
        made = [message(n, refusal="unknown_recipient" if kind == "refused" else "") for n, kind in enumerate(kinds, 1)]
        send(journal, *[one for one, kind in zip(made, kinds, strict=True) if kind == "known"], now_us=NOW_US - 9)
        (stored,) = commit(journal, store(*made)).outcomes
        assert isinstance(stored, Stored)
        assert fits(stored.seqs, stored.apart, len(kinds))
        assert stored == Stored.of(stored.results)
        assert ["refused" if result.code else "known" if result.again else "new" for result in stored.results] == kinds
        assert stored.stored_at_us == (NOW_US if "new" in kinds else 0)

    def test_of_a_large_batch_half_of_which_is_known_only_the_rest_is_stored(self, journal: Journal) -> None:
        first = send(journal, *(message(n) for n in range(1, 111, 2)))
        known = {id_of(2 * place + 1): result.seq for place, result in enumerate(first)}
        results = send(journal, *(message(n) for n in range(1, 111)))
        for n, result in enumerate(results, 1):
            assert result.again == (n % 2 == 1)
            assert result.code == ""
            assert known.get(id_of(n), result.seq) == result.seq
        stored = page(journal).entries
        assert len({entry.seq for entry in stored}) == len({entry.id for entry in stored}) == 110
        assert counted(journal) == (110, 110)
        assert {entry.seq: entry.id for entry in stored} == {r.seq: id_of(n) for n, r in enumerate(results, 1)}


class TestForAllOrForNone:
    """A refusal takes the whole message, and only what is new is refused."""

    def test_a_message_with_a_refusal_is_refused_and_not_stored(self, journal: Journal) -> None:
        no = message(1, refusal="unknown_recipient", to=["nobody"])
        (result,) = send(journal, no)
        assert (result.code, result.text, result.seq) == ("unknown_recipient", "no", 0)
        assert journal.start().high == 0

    def test_a_refusal_is_not_remembered(self, journal: Journal) -> None:
        send(journal, message(1, refusal="unknown_recipient", to=["bob"]))
        (result,) = send(journal, message(1, BOB))
        assert (result.code, result.again) == ("", False)

    def test_a_known_message_gets_its_first_answer_though_its_recipient_is_gone(self, journal: Journal) -> None:
        (first,) = send(journal, message(1, BOB))
        (again,) = send(journal, message(1, refusal="unknown_recipient", to=["bob"]))
        assert (again.seq, again.again, again.code) == (first.seq, True, "")

    def test_a_known_id_with_a_refusal_and_other_recipients_is_a_conflict(self, journal: Journal) -> None:
        send(journal, message(1, BOB))
        (result,) = send(journal, message(1, refusal="unknown_recipient", to=["nobody"]))
        assert result.code == "id_conflict"

    def test_one_batch_may_bring_a_message_and_its_refused_repetition(self, journal: Journal) -> None:
        first, again = send(journal, message(1), message(1, refusal="unknown_recipient", to=["bob"]))
        assert (again.seq, again.again) == (first.seq, True)

    def test_a_full_mailbox_refuses_for_all_recipients(self, journal: Journal) -> None:
        results = send(journal, *(message(n) for n in range(1, UNREAD_MAX + 3)))
        assert [r.code for r in results] == [""] * UNREAD_MAX + ["mailbox_full"] * 2
        (both,) = send(journal, message(1_000, EVE, BOB))
        assert both.code == "mailbox_full"
        assert "bob" in both.text
        assert counted(journal, EVE) == (0, 0)

    def test_repetitions_do_not_fill_a_mailbox(self, journal: Journal) -> None:
        most = [message(n) for n in range(1, UNREAD_MAX)]
        send(journal, *most)
        results = send(journal, *most[-40:], message(UNREAD_MAX), message(UNREAD_MAX + 1))
        assert [r.code for r in results] == [""] * 41 + ["mailbox_full"]
        assert counted(journal) == (UNREAD_MAX, UNREAD_MAX)

    def test_a_full_mailbox_answers_what_it_holds_and_takes_more_once_read(self, journal: Journal) -> None:
        results = send(journal, *(message(n) for n in range(1, UNREAD_MAX + 1)))
        assert send(journal, message(5))[0].again
        mark(journal, BOB, results[0].seq)
        assert [r.code for r in send(journal, message(1_000), message(1_001))] == ["", "mailbox_full"]

    def test_the_limit_holds_over_a_restart(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        send(first, *(message(n) for n in range(1, UNREAD_MAX + 1)))
        second = reopen()
        second.start()
        assert send(second, message(1_000))[0].code == "mailbox_full"

    def test_a_closed_mailbox_takes_nothing_more(self, journal: Journal) -> None:
        commit(journal, CloseMailbox(mailbox=BOB))
        (result,) = send(journal, message(1, EVE, BOB))
        assert result.code == "unknown_recipient"
        assert counted(journal, EVE) == (0, 0)


class TestPages:
    def test_an_empty_mailbox_is_read_through_the_high_water(self, journal: Journal) -> None:
        (result,) = send(journal, message(1, EVE))
        read = page(journal, BOB)
        assert (read.entries, read.through, read.more) == ([], result.seq, False)

    def test_an_entry_says_all_there_is_to_say(self, journal: Journal) -> None:
        given = message(1, BOB, EVE, content_type="text/html", reply_to=id_of(9), sent_at_us=5)
        (result,) = send(journal, given)
        (entry,) = page(journal).entries
        assert (entry.seq, entry.id, entry.sender, entry.to) == (result.seq, id_of(1), "alice", ["bob", "eve"])
        assert (entry.content_type, entry.reply_to, entry.sent_at_us) == ("text/html", id_of(9), 5)
        assert (entry.stored_at_us, entry.size, entry.state) == (NOW_US, 5, "stored")

    def test_each_entry_says_its_own_whatever_stands_beside_it(self, journal: Journal) -> None:
        made = [
            message(1),
            message(2, reply_to=id_of(1)),
            message(3, content_type="image/png", sent_at_us=8),
            message(4, reply_to=id_of(3), sent_at_us=9),
            message(5, BOB, EVE),
        ]
        send(journal, *made)
        for entry, one in zip(page(journal).entries, made, strict=True):
            said = (entry.id, entry.to, entry.size, entry.content_type, entry.sent_at_us, entry.reply_to)
            assert said == (one.id, one.to, one.size, one.content_type, one.sent_at_us, one.reply_to)

    def test_contents_come_in_the_order_of_entries(self, journal: Journal) -> None:
        commit(journal, store(message(1, body=b"one")), body=b"one")
        commit(journal, store(message(2, body=b"\xff\x00")), body=b"\xff\x00")
        read, body = journal.page(ReadPage(mailbox=BOB, limit=9, bytes_max=99))
        assert ([e.size for e in read.entries], body) == ([3, 2], b"one\xff\x00")

    @pytest.mark.parametrize(("held", "more"), [(2, False), (3, False), (4, True)])
    def test_a_page_holds_exactly_its_limit(self, journal: Journal, held: int, more: bool) -> None:
        results = send(journal, *(message(n) for n in range(1, held + 1)))
        read = page(journal, limit=3)
        assert (len(read.entries), read.more) == (min(held, 3), more)
        assert read.through == (results[2].seq if more else results[-1].seq)

    def test_pages_put_together_are_the_mailbox(self, journal: Journal) -> None:
        expected = [r.seq for r in send(journal, *(message(n, BOB, EVE) for n in range(1, 30)))]
        mark(journal, BOB, *expected[::3])
        for unread, wanted in ((False, expected), (True, [s for s in expected if s not in expected[::3]])):
            got, after, more = [], 0, True
            while more:
                read = page(journal, after=after, limit=4, unread=unread)
                got += seqs(read)
                after, more = read.through, read.more
            assert got == wanted

    @pytest.mark.parametrize(("bytes_max", "fit"), [(9, 1), (10, 2), (14, 2), (15, 3), (16, 3)])
    def test_a_page_ends_before_the_content_that_would_pass_its_bytes(
        self, journal: Journal, bytes_max: int, fit: int
    ) -> None:
        results = send(journal, *(message(n) for n in (1, 2, 3)))
        read = page(journal, bytes_max=bytes_max)
        assert (len(read.entries), read.more) == (fit, fit < 3)
        assert read.through == results[fit - 1].seq

    def test_a_message_larger_than_the_bytes_is_a_page_of_its_own(self, journal: Journal) -> None:
        results = send(journal, message(1, body=bytes(100)), message(2))
        read = page(journal, bytes_max=10)
        assert (seqs(read), read.more, read.through) == ([results[0].seq], True, results[0].seq)

    def test_a_limit_of_nothing_gives_one_so_that_the_cursor_moves(self, journal: Journal) -> None:
        results = send(journal, message(1), message(2))
        assert seqs(page(journal, limit=0, bytes_max=0)) == [results[0].seq]

    def test_what_is_read_is_only_in_the_page_of_all(self, journal: Journal) -> None:
        one, two, three = (r.seq for r in send(journal, message(1), message(2), message(3)))
        mark(journal, BOB, two)
        assert seqs(page(journal)) == [one, three]
        assert [(e.seq, e.state) for e in page(journal, unread=False).entries] == [
            (one, "stored"),
            (two, "read"),
            (three, "stored"),
        ]

    def test_a_filter_takes_one_sender_only(self, journal: Journal) -> None:
        for n in range(1, 9):
            send(journal, message(n), sender=(ALICE, EVE)[n % 2])
        read = page(journal, sender="eve", limit=3)
        assert [e.sender for e in read.entries] == ["eve"] * 3
        assert read.more
        rest = page(journal, sender="eve", limit=3, after=read.through)
        assert ([e.id for e in rest.entries], rest.more) == ([id_of(7)], False)
        assert rest.through == page(journal).through
        assert page(journal, sender="nobody").entries == []

    def test_a_filter_looks_at_a_bounded_number_of_rows(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (memory, sqlite_reads):
            monkeypatch.setattr(module, "SCAN_ROWS_MAX", 10)
        results = send(journal, *(message(n) for n in range(1, 26)))
        (wanted,) = send(journal, message(99), sender=EVE)
        mark(journal, BOB, results[3].seq)
        for unread, ends in ((True, [10, 20]), (False, [9, 19])):
            first = page(journal, sender="eve", unread=unread)
            second = page(journal, sender="eve", unread=unread, after=first.through)
            third = page(journal, sender="eve", unread=unread, after=second.through)
            assert [first.through, second.through] == [results[end].seq for end in ends]
            assert (first.entries, second.entries, first.more, second.more) == ([], [], True, True)
            assert (seqs(third), third.more) == ([wanted.seq], False)

    def test_a_scan_that_ends_exactly_at_the_last_row_says_so(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (memory, sqlite_reads):
            monkeypatch.setattr(module, "SCAN_ROWS_MAX", 3)
        results = send(journal, *(message(n) for n in (1, 2, 3)))
        read = page(journal, sender="eve")
        assert (read.entries, read.more, read.through) == ([], False, results[-1].seq)

    def test_one_never_reads_anothers_mailbox(self, journal: Journal) -> None:
        send(journal, message(1, EVE))
        assert page(journal, BOB, unread=False).entries == []


class TestMarks:
    def test_marking_says_what_changed_and_what_is_unknown(self, journal: Journal) -> None:
        one, two = (r.seq for r in send(journal, message(1), message(2)))
        assert mark(journal, BOB, two, 999) == MarkedMessages(changed=[two], unknown_seqs=[999])
        assert mark(journal, BOB, one, two, one) == MarkedMessages(changed=[one])
        assert counted(journal) == (0, 2)

    def test_unread_again(self, journal: Journal) -> None:
        one, two = (r.seq for r in send(journal, message(1), message(2)))
        mark(journal, BOB, one, two)
        assert mark(journal, BOB, one, read=False).changed == [one]
        assert mark(journal, BOB, one, read=False) == MarkedMessages()
        assert seqs(page(journal)) == [one]
        assert counted(journal) == (1, 2)

    def test_an_id_names_every_message_of_it_in_the_mailbox(self, journal: Journal) -> None:
        (one,), (two,) = send(journal, message(1), sender=ALICE), send(journal, message(1), sender=EVE)
        send(journal, message(1, EVE), sender=DAN)
        marked = mark(journal, BOB, ids=[id_of(1), id_of(8)])
        assert marked == MarkedMessages(changed=[one.seq, two.seq], unknown_ids=[id_of(8)])

    def test_anothers_messages_are_unknown(self, journal: Journal) -> None:
        (result,) = send(journal, message(1, EVE))
        marked = mark(journal, BOB, result.seq, ids=[id_of(1)])
        assert marked == MarkedMessages(unknown_seqs=[result.seq], unknown_ids=[id_of(1)])
        assert counted(journal, EVE) == (1, 1)

    def test_a_mark_sees_what_the_same_batch_stored_before_it(self, journal: Journal) -> None:
        marking = MarkMessages(mailbox=BOB, ids=[id_of(1)])
        outcomes = commit(journal, marking, store(message(1)), marking).outcomes
        assert outcomes[0] == MarkedMessages(unknown_ids=[id_of(1)])
        assert isinstance(outcomes[2], MarkedMessages)
        assert len(outcomes[2].changed) == 1
        assert counted(journal) == (0, 1)

    def test_marks_last(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        one, two = (r.seq for r in send(first, message(1), message(2)))
        mark(first, BOB, one)
        second = reopen()
        second.start()
        assert seqs(page(second)) == [two]
        assert counted(second) == (1, 2)


class TestStatus:
    def status(self, journal: Journal, *ids: int, sender: int = ALICE) -> StatusRead:
        answer = journal.status(ReadStatus(sender=sender, ids=[id_of(n) for n in ids]))
        assert isinstance(answer, StatusRead)
        return answer

    def test_each_recipient_has_come_as_far_as_it_has(self, journal: Journal) -> None:
        (result,) = send(journal, message(1, BOB, EVE, DAN))
        assert commit(journal, NoteDelivered(mailbox=EVE, through=result.seq)).outcomes == [Noted()]
        commit(journal, MarkMessages(mailbox=DAN, seqs=[result.seq]), now_us=NOW_US + 3)
        (status,) = self.status(journal, 1).messages
        assert (status.seq, status.stored_at_us) == (result.seq, NOW_US)
        assert status.recipients == [
            RecipientState(name="bob", state="stored", state_at_us=NOW_US),
            RecipientState(name="eve", state="delivered"),
            RecipientState(name="dan", state="read", state_at_us=NOW_US + 3),
        ]

    def test_delivered_is_a_high_water_that_never_falls(self, journal: Journal) -> None:
        one, two = (r.seq for r in send(journal, message(1), message(2)))
        commit(journal, NoteDelivered(mailbox=BOB, through=one))
        assert [e.state for e in page(journal).entries] == ["delivered", "stored"]
        commit(journal, NoteDelivered(mailbox=BOB, through=two), NoteDelivered(mailbox=BOB, through=one))
        assert [e.state for e in page(journal).entries] == ["delivered", "delivered"]

    def test_what_is_not_stored_yet_is_not_delivered(self, journal: Journal) -> None:
        commit(journal, NoteDelivered(mailbox=BOB, through=999), store(message(1)))
        assert page(journal).entries[0].state == "stored"

    def test_unread_again_is_delivered_not_stored(self, journal: Journal) -> None:
        (result,) = send(journal, message(1))
        commit(journal, NoteDelivered(mailbox=BOB, through=result.seq))
        mark(journal, BOB, result.seq)
        mark(journal, BOB, result.seq, read=False)
        assert self.status(journal, 1).messages[0].recipients[0].state == "delivered"

    def test_answers_are_in_the_order_asked_and_unknown_ids_have_no_seq(self, journal: Journal) -> None:
        send(journal, message(1), message(2))
        read = self.status(journal, 2, 9, 1, 2).messages
        assert [m.id for m in read] == [id_of(n) for n in (2, 9, 1, 2)]
        assert [bool(m.seq) for m in read] == [True, False, True, True]

    def test_only_its_sender_learns_of_a_message(self, journal: Journal) -> None:
        send(journal, message(1), sender=ALICE)
        assert self.status(journal, 1, sender=EVE).messages[0].seq == 0

    def test_an_answer_is_bounded(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (memory, sqlite_reads):
            monkeypatch.setattr(module, "STATUS_RECIPIENTS_MAX", 5)
        send(journal, message(1, BOB, EVE, DAN), message(2, BOB, EVE))
        assert len(self.status(journal, 1, 2).messages) == 2
        answer = journal.status(ReadStatus(sender=ALICE, ids=[id_of(1), id_of(1)]))
        assert isinstance(answer, Failed)
        assert answer.code == "too_large"


class TestClosing:
    def test_a_closed_mailbox_is_empty_and_the_others_keep_theirs(self, journal: Journal) -> None:
        one, two = (r.seq for r in send(journal, message(1, BOB, EVE), message(2, BOB)))
        mark(journal, BOB, one)
        commit(journal, CloseMailbox(mailbox=BOB))
        assert page(journal, BOB, unread=False).entries == []
        assert counted(journal, BOB) == (0, 0)
        assert seqs(page(journal, EVE)) == [one]
        assert mark(journal, BOB, two).unknown_seqs == [two]

    def test_what_its_owner_sent_stays(self, journal: Journal) -> None:
        (result,) = send(journal, message(1, BOB), sender=EVE)
        commit(journal, CloseMailbox(mailbox=EVE))
        assert seqs(page(journal, BOB)) == [result.seq]

    def test_a_status_still_names_it(self, journal: Journal) -> None:
        (result,) = send(journal, message(1, BOB))
        commit(journal, NoteDelivered(mailbox=BOB, through=result.seq), CloseMailbox(mailbox=BOB))
        answer = journal.status(ReadStatus(sender=ALICE, ids=[id_of(1)]))
        assert isinstance(answer, StatusRead)
        assert answer.messages[0].recipients == [RecipientState(name="bob", state="delivered")]

    def test_it_stays_closed(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        commit(first, CloseMailbox(mailbox=BOB))
        second = reopen()
        second.start()
        assert send(second, message(1))[0].code == "unknown_recipient"

    def test_messages_sent_before_in_the_same_batch_go_too(self, journal: Journal) -> None:
        outcomes = commit(journal, store(message(1)), CloseMailbox(mailbox=BOB), store(message(2))).outcomes
        assert isinstance(outcomes[2], Stored)
        assert outcomes[2].results[0].code == "unknown_recipient"
        assert counted(journal) == (0, 0)


class TestStarting:
    """RULES 6, 14: epochs, generations and the history are durable."""

    def test_epochs_increase_and_the_history_stays(self, reopen: Make) -> None:
        started = [reopen().start() for _ in range(3)]
        assert [s.epoch for s in started] == [1, 2, 3]
        assert len({s.history for s in started}) == 1
        assert len(started[0].history) == 16

    def test_generations_increase_by_name_and_a_nonce_is_counted_once(self, journal: Journal) -> None:
        assert [journal.open("b", id_of(1)), journal.open("b", id_of(1)), journal.open("b", id_of(2))] == [1, 1, 2]
        assert journal.open("c", id_of(2)) == 1

    def test_generations_last(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        first.open("b", id_of(1))
        second = reopen()
        assert second.start().generations == {"b": 1}
        assert second.open("b", id_of(1)) == 1
        assert second.open("b", id_of(2)) == 2

    def test_what_was_stored_is_there_after_a_restart(self, reopen: Make) -> None:
        first = reopen()
        first.start()
        results = send(first, *(message(n, BOB, EVE) for n in range(1, 80)))
        second = reopen()
        second.start()
        assert seqs(page(second, BOB)) == seqs(page(second, EVE)) == [r.seq for r in results]
        assert counted(second) == (79, 79)

    def test_an_empty_commit_is_one(self, journal: Journal) -> None:
        assert journal.commit([], NOW_US) == []
        written = commit(journal)
        assert (written.base, written.high, written.outcomes) == (0, 0, [])


def test_the_errors_carry_a_code_and_words() -> None:
    error = Unusable("storage_failed", "why")
    assert isinstance(error, journal_module.JournalError)
    assert (error.code, str(error)) == ("storage_failed", "why")
