"""What the broker does about sends: chapter 7 of the specification, its refusals and its streams."""

from __future__ import annotations

import msgspec
import pytest

from restante.wire import auth_link, codec, limits
from restante.wire import envelopes as e
from store_worker.journal import RolledBack
from tests.protocol.dialogue import HISTORY, Client, World
from tests.protocol.speech import STREAM, codes, message, of_type, refused, send


def seqs(got: e.ToClient) -> list[int]:
    assert isinstance(got, e.Sent), got
    return [result.seq for result in got.results]


def inbox(client: Client) -> list[bytes]:
    """The ids in a mailbox, in order."""
    got = client.ask(e.Fetch(id=client.next_id(), limit=1_000, unread=False))
    assert isinstance(got, e.Page)
    return [entry.id for entry in got.messages]


class TestMessages:
    def test_nothing_is_accepted_before_it_is_on_disk(self, world: World, bob: Client) -> None:
        """[M2]"""
        world.journal.fail_next = RolledBack("storage_failed", "the disk refused")
        refused(send(bob, 1), "storage_failed")
        assert inbox(bob) == []
        world.store_silent = True
        assert bob.say(e.Send.of(50, b"s" * 16, 1, [message(1)]), b"hi") == []

    @pytest.mark.parametrize(
        ("item", "code"),
        [
            (message(2, "nobody"), "unknown_recipient"),
            (message(2, "bob", "nobody"), "unknown_recipient"),
            (message(2, "no body!"), "bad_name"),
            (message(2, "x"), "bad_name"),
            (message(2, ""), "bad_name"),
            (message(2, "bob", size=0), "empty_body"),
            (message(2, "bob", size=limits.MESSAGE_BYTES_MAX + 1), "body_too_large"),
        ],
    )
    def test_what_is_wrong_with_one_message_refuses_that_one_alone(self, bob: Client, item: e.Item, code: str) -> None:
        """[M3] [M4] [M8] [N3]: before it and behind it others are accepted, and the stream goes on."""
        got = send(bob, 1, message(1), item, message(3))
        assert codes(got) == ["", code, ""]
        assert isinstance(got, e.Sent)
        assert got.results[1].text
        assert inbox(bob) == [message(1).id, message(3).id]
        assert codes(send(bob, 2, message(4))) == [""]

    def test_the_largest_message_is_accepted(self, bob: Client) -> None:
        """[M8]"""
        assert codes(send(bob, 1, message(1, size=limits.MESSAGE_BYTES_MAX))) == [""]

    def test_a_full_mailbox_refuses_for_good(self, world: World, bob: Client) -> None:
        """[M8]"""
        world.journal = type(world.journal)(history=HISTORY, unread_max=1)
        world.journal.start()
        assert codes(send(bob, 1, message(1), message(2))) == ["", "mailbox_full"]

    def test_a_name_that_stands_twice_counts_once(self, bob: Client) -> None:
        """[M4]: also in capitals."""
        assert codes(send(bob, 1, message(1, "bob", "BOB", "bob"))) == [""]
        got = bob.ask(e.Fetch(id=50))
        assert isinstance(got, e.Page)
        assert [entry.to for entry in got.messages] == [["bob"]]

    @pytest.mark.parametrize("name", ["\u212aim", "stra\u00dfe"])
    def test_only_ascii_capitals_are_taken_for_small_letters(self, world: World, bob: Client, name: str) -> None:
        """[M8]: what would fold to somebody else's name is no name."""
        world.register("kim", "strasse")
        assert codes(send(bob, 1, message(1, name))) == ["bad_name"]

    def test_a_repetition_stores_nothing_and_gets_the_first_answer(self, world: World, bob: Client) -> None:
        """[M5]: in another stream, another session, with another clock."""
        first = send(bob, 1, message(1, sent_at_us=5))
        again = send(world.login("bob"), 9, message(1, sent_at_us=6), stream=b"t" * 16)
        assert isinstance(first, e.Sent)
        assert isinstance(again, e.Sent)
        assert again.results[0] == e.Result(
            seq=first.results[0].seq, stored_at_us=first.results[0].stored_at_us, again=True
        )
        assert inbox(bob) == [message(1).id]

    @pytest.mark.parametrize(
        ("item", "body"),
        [
            (message(1), b"yy"),
            (message(1, size=3), b"xxx"),
            (message(1, "bob", "eve"), b"xx"),
            (message(1, content_type="text/html"), b"xx"),
            (message(1, reply_to=bytes(16)), b"xx"),
        ],
    )
    def test_the_same_id_with_anything_else_is_a_conflict(
        self, world: World, bob: Client, item: e.Item, body: bytes
    ) -> None:
        """[M6]"""
        world.register("eve")
        send(bob, 1, message(1))
        assert codes(send(bob, 2, item, body=body)) == ["id_conflict"]

    def test_an_id_belongs_to_its_sender(self, world: World, bob: Client) -> None:
        """[M1]"""
        eve = world.login("eve")
        assert codes(send(bob, 1, message(1))) == codes(send(eve, 1, message(1))) == [""]

    def test_recipients_in_another_order_and_spelling_are_the_same(self, world: World, bob: Client) -> None:
        """[M4] [M5]"""
        world.register("eve")
        send(bob, 1, message(1, "bob", "eve"))
        again = send(bob, 2, message(1, "EVE", "bob", "Eve"))
        assert isinstance(again, e.Sent)
        assert again.results[0].again

    def test_twice_in_one_envelope_is_a_repetition_too(self, bob: Client) -> None:
        """[M5]"""
        first, second = seqs(send(bob, 1, message(1), message(1)))
        assert first == second

    def test_what_was_accepted_is_not_refused_later(self, bob: Client) -> None:
        """[M7]: another content of an accepted id is a conflict, though it is also empty."""
        send(bob, 1, message(1))
        assert codes(send(bob, 2, message(1, size=0))) == ["id_conflict"]

    def test_sender_and_recipients_cannot_be_forged(self, world: World, bob: Client) -> None:
        """[F4] [D8]: a `from` in an item is an unknown key."""
        eve = world.login("eve")
        send(eve, 1, message(1, "bob"))
        got = bob.ask(e.Fetch(id=50))
        assert isinstance(got, e.Page)
        assert [(entry.sender, entry.to) for entry in got.messages] == [("eve", ["bob"])]

    def test_status_is_for_the_sender(self, world: World, bob: Client) -> None:
        """[M10]"""
        eve = world.login("eve")
        send(eve, 1, message(1, "bob"))
        asked = e.Status(id=50, ids=[message(2).id, message(1).id])
        hers, his = eve.ask(asked), bob.ask(asked)
        assert isinstance(hers, e.Statuses)
        assert isinstance(his, e.Statuses)
        assert [(s.id, bool(s.seq)) for s in hers.messages] == [(message(2).id, False), (message(1).id, True)]
        assert [s.seq for s in his.messages] == [0, 0]


class TestWholeEnvelopes:
    @pytest.mark.parametrize("body", [b"", b"x", b"xxx"])
    def test_sizes_that_do_not_add_up(self, bob: Client, body: bytes) -> None:
        """[F7] [M9] [N3]"""
        refused(send(bob, 1, body=body), "bad_request")
        assert codes(send(bob, 1)) == [""]

    def test_a_body_over_its_limit(self, bob: Client) -> None:
        """[M9]"""
        refused(send(bob, 1, message(1, size=limits.BODY_BYTES_MAX + 1)), "too_large")
        assert inbox(bob) == []

    def test_too_many_recipients_in_all(self, bob: Client) -> None:
        """[M9]"""
        crowd = [message(n, *["bob"] * 1_000) for n in range(1, 12)]
        refused(send(bob, 1, *crowd), "too_large")
        assert codes(send(bob, 1, *crowd[:10])) == [""] * 10

    def test_a_store_that_is_full_refuses_all_that_is_under_way(self, world: World, bob: Client) -> None:
        """[M9] [N3] [R5]"""
        world.journal.fail_next = RolledBack("storage_full", "no space left")
        refused(send(bob, 5), "storage_full")
        assert refused(send(bob, 6), "gap").expected == 5
        assert codes(send(bob, 5)) == [""]
        assert codes(send(bob, 6)) == [""]

    def test_a_store_that_does_not_answer(self, world: World, bob: Client) -> None:
        """[M9] [N3]"""
        world.store_silent = True
        world.wait(2 * limits.LINK_SILENCE_S_MAX + 3, bob)
        refused(send(bob, 1), "unavailable")
        world.store_silent = False
        world.wait(3, bob)
        assert codes(send(bob, 1)) == [""]

    def test_more_than_a_session_may_hold(self, world: World, bob: Client) -> None:
        """[M9] [N3]"""
        codes(send(bob, 1))
        world.store_silent = True
        large = [message(n, size=1 << 20) for n in range(8)]
        n = 2
        while not (got := bob.say(e.Send.of(n, bytes([7]) * 16, n, large), bytes(8 << 20))):
            n += 1
        assert n > 3
        refused(got[0], "busy")
        assert refused(send(bob, n + 1), "gap").expected == n

    def test_too_many_unknown_recipients(self, world: World, bob: Client) -> None:
        """[A5] [M9] [N3]: the stream stays where it was, and recipients that are known are still served."""
        bob.ask(e.Lookup(id=50, names=["bob"]))
        codes(send(bob, 1))
        for lot in range(limits.UNKNOWN_NAMES_MAX // 1_000):
            items = [message(5_000 + lot * 1_000 + at, f"nobody-{lot}-{at}") for at in range(1_000)]
            assert codes(send(bob, 2 + lot, *items)) == ["unknown_recipient"] * 1_000
        refused(send(bob, 4, message(1_001, "nobody-else")), "rate_limited")
        assert codes(send(bob, 4, message(1_002))) == [""]


class TestStreams:
    @pytest.mark.parametrize("first", [1, 7, 2**53 - 2])
    def test_a_stream_begins_with_any_number(self, bob: Client, first: int) -> None:
        """[N1]"""
        assert codes(send(bob, first)) == codes(send(bob, first + 1)) == [""]

    @pytest.mark.parametrize(
        ("item", "body", "code"),
        [(message(1), b"", "bad_request"), (message(1, size=limits.BODY_BYTES_MAX + 1), None, "too_large")],
    )
    def test_a_first_that_can_never_be_taken_begins_a_stream_all_the_same(
        self, bob: Client, item: e.Item, body: bytes | None, code: str
    ) -> None:
        """[N1]: else the second, sent without waiting, would overtake what comes in the first one's place."""
        refused(send(bob, 5, item, body=body), code)
        assert refused(send(bob, 6), "gap").expected == 5
        assert codes(send(bob, 5)) == [""]

    @pytest.mark.parametrize("column", ["to", "sizes", "content_types", "sent_at_us", "reply_to"])
    def test_columns_of_other_lengths_are_refused_and_begin_no_stream(self, bob: Client, column: str) -> None:
        """[M11] [N1]"""
        full = message(1, content_type="image/png", sent_at_us=1, reply_to=bytes(16))
        header = msgspec.to_builtins(e.Send.of(bob.next_id(), STREAM, 5, [full]), builtin_types=(bytes,))
        header[column] *= 2
        (got,) = bob.frames([codec.PROTOCOL, msgspec.msgpack.encode(header), b"xx"])
        assert refused(got, "bad_request").id == header["id"]
        assert codes(send(bob, 1)) == [""]

    def test_empty_columns_stand_for_defaults(self, bob: Client) -> None:
        """[M11]"""
        assert codes(send(bob, 1, message(1), message(2, content_type="image/png"))) == ["", ""]
        page = bob.ask(e.Fetch(id=bob.next_id()))
        assert isinstance(page, e.Page)
        assert [entry.content_type for entry in page.messages] == [e.TEXT, "image/png"]

    def test_what_breaks_the_limits_of_a_field_begins_no_stream(self, bob: Client) -> None:
        """[N1]"""
        refused(send(bob, 5, message(1, *["bob"] * 1_001), body=b"xx"), "bad_request")
        assert codes(send(bob, 1)) == [""]

    def test_what_is_refused_before_it_is_looked_at_begins_no_stream(self, world: World, bob: Client) -> None:
        """[N1] [R4]"""
        world.store_silent = True
        for n in range(limits.REQUESTS_IN_FLIGHT_MAX):
            bob.say(e.Overview(id=10_000 + n))
        refused(send(bob, 5), "too_many_requests")
        world.store_silent = False
        world.wait(3 * limits.LINK_SILENCE_S_MAX, bob)
        assert codes(send(bob, 1)) == [""]

    def test_what_may_be_taken_later_begins_a_stream(self, world: World, bob: Client) -> None:
        """[N1] [N3]"""
        world.store_silent = True
        world.wait(2 * limits.LINK_SILENCE_S_MAX + 3, bob)
        refused(send(bob, 5), "unavailable")
        assert refused(send(bob, 6), "gap").expected == 5

    def test_a_closed_session_s_envelopes_do_not_disturb_the_order(self, world: World, bob: Client) -> None:
        """[N5] [N6] [N7]: some of them are still under way when the next session repeats them."""
        again = world.login("bob")
        world.auth_silent = True
        for n in (1, 2, 3):
            assert bob.say(e.Send.of(50 + n, b"s" * 16, n, [message(n)]), b"xx") == []
        for n in (1, 2, 3, 4):
            assert again.say(e.Send.of(50 + n, b"s" * 16, n, [message(n)]), b"xx") == []
        world.auth_silent = False
        world.tell_auth()
        world.wait(2 * limits.REQUEST_S, bob, again)
        assert inbox(again) == [message(n).id for n in (1, 2, 3, 4)]

    def test_what_was_refused_comes_where_it_was_accepted(self, world: World, bob: Client) -> None:
        """[N6]"""
        assert codes(send(bob, 1, message(1, "bob", "eve"), message(2))) == ["unknown_recipient", ""]
        world.register("eve")
        assert codes(send(world.login("bob"), 1, message(1, "bob", "eve"), message(2))) == ["", ""]
        assert inbox(bob) == [message(2).id, message(1).id]

    @pytest.mark.parametrize("n", [1, 4, 5, 7, 100])
    def test_any_other_number_is_a_gap_and_does_nothing(self, bob: Client, n: int) -> None:
        """[N2]"""
        send(bob, 5)
        got = refused(send(bob, n, message(77)), "gap")
        assert got.expected == 6
        assert inbox(bob) == [message(5).id]

    def test_the_last_number_that_a_stream_can_have_is_taken_and_what_follows_can_be_said(self, bob: Client) -> None:
        """[N2]: found by the fuzzer, when the answer was no envelope."""
        send(bob, 2**53 - 1)
        assert refused(send(bob, 2**53 - 1), "gap").expected == 2**53

    def test_only_a_gap_says_what_is_expected(self, bob: Client) -> None:
        """[N2]"""
        assert refused(send(bob, 1, body=b""), "bad_request").expected is None

    def test_two_streams_do_not_wait_for_each_other(self, bob: Client) -> None:
        """[N1]"""
        assert codes(send(bob, 1, message(1))) == [""]
        assert codes(send(bob, 9, message(2), stream=b"t" * 16)) == [""]
        assert codes(send(bob, 2, message(3))) == [""]

    def test_a_stream_begins_anew_in_another_session(self, world: World, bob: Client) -> None:
        """[N1] [N5]"""
        send(bob, 1)
        send(bob, 2)
        assert codes(send(world.login("bob"), 2)) == [""]

    def test_what_waits_behind_a_look_up_does_not_overtake(self, world: World, bob: Client) -> None:
        """[N6]: the second envelope's recipient is known, the first one's is not."""
        eve = world.login("eve")
        codes(send(bob, 1, message(1, "bob")))
        world.auth_silent = True
        asked = len(world.asked)
        for n, to in ((2, ("eve", "bob")), (3, ("bob",))):
            request = e.Send.of(50 + n, bytes([7]) * 16, n, [message(n, *to)])
            assert bob.say(request, b"xx") == []
        assert len(world.asked) == asked + 1
        world.auth_silent = False
        world.tell_auth()
        assert [h.id for h in of_type(bob, e.Sent)][-2:] == [52, 53]
        assert inbox(bob) == [message(n).id for n in (1, 2, 3)]
        assert inbox(eve) == [message(2).id]

    def test_a_look_up_that_fails_refuses_all_that_waited_behind_it(self, world: World, bob: Client) -> None:
        """[N3]"""
        codes(send(bob, 1, message(1, "bob")))
        world.auth_silent = True
        bob.say(e.Send.of(52, bytes([7]) * 16, 2, [message(2, "eve")]), b"xx")
        bob.say(e.Send.of(53, bytes([7]) * 16, 3, [message(3)]), b"xx")
        world.tell_auth(auth_link.Refused(code="unavailable", text="no"))
        assert [(h.id, h.code, h.expected) for h in of_type(bob, e.Error)] == [
            (52, "unavailable", None),
            (53, "gap", 2),
        ]
        assert codes(send(bob, 2)) == [""]

    def test_too_many_behind_one_look_up(self, world: World, bob: Client) -> None:
        """[M9] [N3]"""
        codes(send(bob, 1, message(1, "bob")))
        world.auth_silent = True
        for n in range(2, 2 + limits.HELD_PER_STREAM_MAX):
            assert bob.say(e.Send.of(n, bytes([7]) * 16, n, [message(n, "eve")]), b"xx") == []
        refused(send(bob, 2 + limits.HELD_PER_STREAM_MAX), "busy")

    def test_one_stream_too_many(self, bob: Client) -> None:
        """[N7]"""
        for n in range(limits.STREAMS_PER_SESSION_MAX):
            assert codes(send(bob, 1, message(n + 1), stream=bytes([n]) * 16)) == [""]
        refused(send(bob, 1, message(99), stream=bytes([99]) * 16), "too_large")
        assert codes(send(bob, 2, message(98), stream=bytes(16))) == [""]

    def test_messages_keep_the_order_of_their_list(self, bob: Client) -> None:
        """[N6] [D1]"""
        got = send(bob, 1, *[message(n) for n in range(9, 0, -1)])
        assert seqs(got) == sorted(set(seqs(got)))
        assert inbox(bob) == [message(n).id for n in range(9, 0, -1)]
