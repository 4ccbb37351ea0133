"""Both clients over real sockets, by one suite: what holds for one holds for the other."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from restante import AsyncClient, Client, Outcome, Outgoing, Receipt
from restante.driver import GIVEN_MAX, UNSETTLED_BYTES_MAX, UNSETTLED_MAX
from restante.events import Followed
from restante.lookout import HELD_S
from restante.sending import EAGER_ENVELOPES
from restante.waiting import Batch, Waiter
from restante.wire import envelopes, errors, limits
from restante.wire.address import Address
from restante.wire.envelopes import TEXT, Ack, Credit, Fetch, Hello, Login, Overview, Passwd, Register, Send
from restante.wire.ids import once_id
from tests.unit.restante.fake_broker import VERSION, FakeBroker

PASSWORD = "correct horse"


class Awaited:
    """An AsyncClient that is used like a Client: a loop of its own carries each call to its end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self.client = AsyncClient(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            if isinstance(result, AsyncIterator):
                return self._each(result)
            result = self._loop.run_until_complete(result)
            return Settled(self._loop, result) if isinstance(result, asyncio.Future) else result

        return call

    def _each(self, found: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                item = self._loop.run_until_complete(anext(found))
                if hasattr(item, "ack"):
                    item = Wrapped(self._loop, item)
                yield item
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(found.aclose())  # type: ignore[attr-defined]

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.run_until_complete(self.client.close())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self._loop.run_until_complete(self.client.flush())
        finally:
            self.close()


class Settled:
    """A future that is awaited when it is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._loop, self._future = loop, future

    def result(self) -> Any:
        return self._loop.run_until_complete(self._future)


class Wrapped:
    """A message whose `ack` is awaited."""

    def __init__(self, loop: asyncio.AbstractEventLoop, message: Any) -> None:
        self._loop, self._message = loop, message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    def ack(self) -> Any:
        return self._loop.run_until_complete(self._message.ack())


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        broker.passwords.update(alice=PASSWORD, bob=PASSWORD)
        yield broker


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "asyncio"])
def connect(
    request: pytest.FixtureRequest, broker: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Makes clients of one kind, and closes them."""
    monkeypatch.setenv("CHAT_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("CHAT_STATE_DIR", str(tmp_path))
    for name in ("CHAT_ADDRESS", "CHAT_TOKEN", "CHAT_TOKEN_FILE", "CHAT_PROFILE", "CHAT_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def connect(name: str | None = "alice", *, address: Address | str | None = None, timeout_s: float = 10.0) -> Any:
        client = request.param(str(address or broker.address), timeout_s=timeout_s)
        made.append(client)
        if name is not None:
            client.login(name, PASSWORD)
        return client

    yield connect
    for client in made:
        client.close()


Connect = Callable[..., Any]


def bodies(broker: FakeBroker) -> list[bytes]:
    return [content for _, _, content in broker.log]


class TestAccounts:
    def test_nothing_is_said_before_the_first_call(self, connect: Connect, broker: FakeBroker) -> None:
        connect(None)
        broker.order(lambda: None)
        assert broker.seen == []

    def test_hello_needs_no_account(self, connect: Connect) -> None:
        welcome = connect(None).hello()
        assert (welcome.version, welcome.server, welcome.auth) == (1, VERSION, True)

    def test_register_login_and_who_one_is(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect(None)
        assert client.register("eve", PASSWORD).name == "eve"
        assert client.token is None
        session = client.login("eve", PASSWORD, device="laptop")
        assert (client.account, client.name, client.token) == (3, "eve", session.token)
        assert client.address == str(broker.address)
        assert client.overview().name == "eve"

    def test_the_rest_of_an_account(self, connect: Connect) -> None:
        client = connect()
        assert client.lookup(["bob", "nobody", "alice"]) == ["bob", "alice"]
        assert [info.device for info in client.tokens()] == ["d"]
        client.revoke(1)
        old = client.token
        assert client.passwd(PASSWORD, "battery staple").token == client.token != old
        client.logout()
        with pytest.raises(errors.NotLoggedIn):
            client.overview()

    def test_a_wrong_password_is_an_exception_of_its_own(self, connect: Connect) -> None:
        with pytest.raises(errors.WrongCredentials):
            connect(None).login("alice", "wrong horse")

    def test_a_token_is_enough(self, connect: Connect, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        from restante.profiles import show_token

        monkeypatch.setenv("CHAT_TOKEN", show_token(connect().token))
        assert connect(None).overview().name == "alice"

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("x" * 33, PASSWORD), errors.BadName),
            (("eve", "x" * 1_025), errors.BadPassword),
            (("eve", "ü" * 600), errors.BadPassword),
        ],
    )
    def test_what_is_no_header_is_refused_here(
        self, connect: Connect, broker: FakeBroker, arguments: tuple[str, str], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            connect(None).register(*arguments)
        assert broker.seen == []

    def test_long_lists_are_asked_in_lots(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        assert client.lookup(f"nobody{n}" for n in range(limits.NAMES_PER_LOOKUP_MAX + 1)) == []
        assert broker.count(envelopes.Lookup) == 2
        assert (
            len(client.status([os.urandom(16) for _ in range(limits.STATUS_IDS_MAX + 1)])) == limits.STATUS_IDS_MAX + 1
        )


class TestSending:
    def test_a_receipt_says_where_it_is(self, connect: Connect, broker: FakeBroker) -> None:
        receipt = connect().send("bob", "hello", reply_to=b"r" * 16)
        ((sender, entry, content),) = broker.log
        assert (sender, content, entry.content_type, entry.reply_to) == ("alice", b"hello", TEXT, b"r" * 16)
        assert (receipt.id, receipt.seq, receipt.again) == (entry.id, 1, False)
        assert str(receipt) == receipt.id_text
        assert abs(entry.sent_at_us / 1e6 - time.time()) < 60

    def test_once_is_once(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        first, second = client.send("bob", "hello", once="k"), client.send("bob", "hello", once="k")
        assert first.id == second.id == once_id(1, "k")
        assert (first.again, second.again) == (False, True)
        assert len(broker.log) == 1

    def test_once_finds_out_who_one_is(
        self, connect: Connect, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from restante.profiles import show_token

        monkeypatch.setenv("CHAT_TOKEN", show_token(connect("bob").token))
        assert connect(None).send("alice", "hello", once="k").id == once_id(2, "k")

    @pytest.mark.parametrize(
        ("body", "content_type", "stored"),
        [
            (b"\xff\xfe", None, "application/octet-stream"),
            ("grüße".encode(), None, TEXT),
            ("{}", "application/json", "application/json"),
        ],
    )
    def test_what_a_body_is(
        self, connect: Connect, broker: FakeBroker, body: str | bytes, content_type: str | None, stored: str
    ) -> None:
        connect().send("bob", body, content_type=content_type)
        assert broker.log[0][1].content_type == stored
        assert broker.log[0][2] == (body if isinstance(body, bytes) else body.encode())

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"body": ""}, errors.EmptyBody),
            ({"body": b"x" * (limits.MESSAGE_BYTES_MAX + 1)}, errors.BodyTooLarge),
            ({"body": "\ud800"}, errors.BadRequest),
            ({"once": ""}, errors.BadRequest),
            ({"once": "x" * 201}, errors.BadRequest),
            ({"once": "k", "id": b"i" * 16}, errors.BadRequest),
            ({"id": b"short"}, errors.BadRequest),
            ({"reply_to": b"short"}, errors.BadRequest),
            ({"content_type": "x" * 128}, errors.BadRequest),
            ({"to": []}, errors.BadRequest),
            ({"to": "x" * 33}, errors.BadName),
            ({"to": ["bob", ""]}, errors.BadName),
            ({"to": "bób"}, errors.BadName),
            ({"to": [f"n{n}" for n in range(1_001)]}, errors.TooLarge),
        ],
    )
    def test_what_can_never_be_sent_is_refused_here(
        self, connect: Connect, broker: FakeBroker, fields: dict[str, Any], error: type[Exception]
    ) -> None:
        client = connect()
        with pytest.raises(error):
            client.send(**{"to": "bob", "body": "hello", **fields})
        assert broker.count(Send) == 0

    def test_one_unknown_recipient_refuses_that_message_alone(self, connect: Connect, broker: FakeBroker) -> None:
        outgoings = [Outgoing("bob", "1"), Outgoing(["bob", "nobody"], "2"), Outgoing("bob", ""), Outgoing("bob", "4")]
        outcomes = list(connect().send_many(outgoings))
        assert [type(outcome.error) for outcome in outcomes] == [
            type(None), errors.UnknownRecipient, errors.EmptyBody, type(None),
        ]  # fmt: skip
        assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
        assert [outcome.outgoing for outcome in outcomes] == outgoings
        assert bodies(broker) == [b"1", b"4"]

    @pytest.mark.parametrize("kind", [list, iter], ids=["list", "generator"])
    def test_many_are_sent_in_order_and_few_envelopes(
        self, connect: Connect, broker: FakeBroker, kind: Callable[[Iterable[Outgoing]], Iterable[Outgoing]]
    ) -> None:
        count = 3_000
        outcomes: list[Outcome] = list(connect().send_many(kind([Outgoing("bob", str(n)) for n in range(count)])))
        assert [outcome.index for outcome in outcomes] == list(range(count))
        assert all(outcome.receipt is not None and outcome.receipt.id == outcome.id for outcome in outcomes)
        assert bodies(broker) == [str(n).encode() for n in range(count)]
        assert broker.count(Send) < count / 4

    def test_submitted_messages_travel_together(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        broker.refuse_next(Send, "busy", wait_ms=1_000)  # so that the others wait, on a busy machine too
        pendings = [client.submit("bob", str(n)) for n in range(1_000)]
        client.flush()
        assert [pending.result().seq for pending in pendings] == list(range(1, 1_001))
        assert broker.count(Send) < 500

    def test_an_error_that_nobody_looked_at_is_raised_by_flush(self, connect: Connect) -> None:
        client = connect()
        client.submit("bob", "1")
        client.submit("nobody", "2")
        with pytest.raises(errors.UnknownRecipient):
            client.flush()
        client.flush()

    def test_an_error_that_nobody_looked_at_is_raised_on_leaving(self, connect: Connect) -> None:
        with pytest.raises(errors.UnknownRecipient), connect() as client:
            client.submit("nobody", "2")

    def test_what_the_iterator_raises_comes_through(self, connect: Connect, broker: FakeBroker) -> None:
        def broken() -> Iterator[Outgoing]:
            yield Outgoing("bob", "1")
            raise ZeroDivisionError

        outcomes = connect().send_many(broken())
        with pytest.raises(ZeroDivisionError):
            for _ in outcomes:
                pass

    def test_who_stops_taking_outcomes_can_go_on_with_the_client(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        for _ in client.send_many(Outgoing("bob", str(n)) for n in range(500)):
            break
        assert client.send("bob", "last").seq > 0


class TestReading:
    @staticmethod
    def fill(client: Any, count: int) -> None:
        for outcome in client.send_many([Outgoing("bob", str(n)) for n in range(count)]):
            assert outcome.error is None

    def test_a_page_has_places_and_messages(self, connect: Connect) -> None:
        self.fill(connect(), 5)
        bob = connect("bob")
        page = bob.fetch(limit=3)
        assert ([message.text for message in page.messages], page.more, page.through) == (["0", "1", "2"], True, 3)
        page = bob.fetch(page.through, limit=3, history=page.history)
        assert ([message.seq for message in page.messages], page.more) == ([4, 5], False)

    def test_the_inbox_is_all_pages_and_reads_nothing(self, connect: Connect) -> None:
        self.fill(connect(), 1_200)
        bob = connect("bob")
        messages = list(bob.inbox())
        assert [message.text for message in messages] == [str(n) for n in range(1_200)]
        message = messages[0]
        assert (message.sender, message.to, message.content_type) == ("alice", ["bob"], TEXT)
        assert bob.overview().unread == 1_200

    def test_a_limit_asks_for_no_more(self, connect: Connect, broker: FakeBroker) -> None:
        self.fill(connect(), 10)
        assert [message.text for message in connect("bob").inbox(limit=2)] == ["0", "1"]
        (fetch,) = [header for header in broker.seen if isinstance(header, Fetch)]
        assert fetch.limit == 2

    def test_acknowledging_in_every_way(self, connect: Connect) -> None:
        self.fill(connect(), 5)
        bob = connect("bob")
        first, second, third, fourth, _ = bob.inbox()
        assert first.ack().changed == 1
        assert bob.ack(second.seq).changed == 1
        assert bob.ack([third.id, fourth.seq]).changed == 2
        assert bob.ack([99, b"u" * 16]).unknown_seqs == [99]
        assert [message.text for message in bob.inbox()] == ["4"]
        assert bob.ack([first.seq], read=False).changed == 1
        assert [message.text for message in bob.inbox()] == ["0", "4"]
        assert [message.text for message in bob.inbox(unread=False)] == ["0", "1", "2", "3", "4"]

    def test_a_message_given_itself_is_acknowledged_by_its_seq(self, connect: Connect, broker: FakeBroker) -> None:
        self.fill(connect(), 2)
        bob = connect("bob")
        page = bob.fetch()
        assert bob.ack(page.messages).changed == 2
        assert [header.seqs for header in broker.seen if isinstance(header, Ack)] == [[1, 2]]

    @pytest.mark.parametrize("fields", [{"limit": 0}, {"limit": limits.PAGE_MESSAGES_MAX + 1}, {"after": -1}], ids=str)
    def test_what_is_no_page_is_refused_here(self, connect: Connect, fields: dict[str, int]) -> None:
        with pytest.raises(errors.BadRequest):
            connect("bob").fetch(**fields)

    def test_bytes_that_are_no_text_raise_and_are_kept(self, connect: Connect) -> None:
        connect().send("bob", b"\xff")
        (message,) = connect("bob").inbox()
        assert message.body == b"\xff"
        with pytest.raises(UnicodeDecodeError):
            _ = message.text


class TestFollowing:
    def test_first_what_waits_then_what_comes(self, connect: Connect) -> None:
        alice, bob = connect(), connect("bob")
        alice.send("bob", "waits")
        seen = []
        for message in bob.inbox(follow=True, limit=3):
            seen.append(message.text)
            alice.send("bob", f"after {message.text}")
        assert seen == ["waits", "after waits", "after after waits"]

    def test_who_takes_more_than_half_a_window_gives_credit_for_more(
        self, connect: Connect, broker: FakeBroker
    ) -> None:
        alice, bob = connect(), connect("bob")
        count = Followed(1).messages * 3 // 4
        alice.send("bob", "waits")
        found = bob.inbox(follow=True, limit=count + 1)
        next(found)
        assert not any(outcome.error for outcome in alice.send_many([Outgoing("bob", "comes")] * count))
        assert len(list(found)) == count
        bob.ack([1])  # answered after what went before it on this connection: the broker has read all of it
        credits = [header.messages for header in broker.seen if isinstance(header, Credit)]
        assert credits, "it would stand still at the window's end"
        assert credits[-1] > Followed(1).messages

    def test_it_ends_when_nothing_comes(self, connect: Connect) -> None:
        assert list(connect("bob").inbox(follow=True, wait_s=0.05)) == []

    def test_with_all_it_begins_with_what_was_read(self, connect: Connect) -> None:
        alice, bob = connect(), connect("bob")
        for n in range(3):
            alice.send("bob", str(n))
        bob.ack([1, 2])
        seen = []
        for message in bob.inbox(follow=True, unread=False, limit=4):
            seen.append(message.text)
            if message.text == "2":
                alice.send("bob", "3")
        assert seen == ["0", "1", "2", "3"]

    def test_it_goes_on_over_a_loss_and_nothing_comes_twice(self, connect: Connect, broker: FakeBroker) -> None:
        alice, bob = connect(), connect("bob")
        seen = []
        alice.send("bob", "0")
        for message in bob.inbox(follow=True, limit=4):
            seen.append(message.text)
            broker.cut()
            alice.send("bob", str(len(seen)))
        assert seen == ["0", "1", "2", "3"]

    def test_whoever_wants_is_told_of_each_loss_and_of_its_end(self, connect: Connect, broker: FakeBroker) -> None:
        alice, bob = connect(), connect("bob")
        told: list[bool] = []
        client = bob.client if isinstance(bob, Awaited) else bob  # it has nothing to wait for
        client.on_connection(told.append)
        alice.send("bob", "0")
        for _ in bob.inbox(follow=True, limit=3):
            broker.cut()
            alice.send("bob", "more")
        assert told[0] is True
        assert told[1:5] == [False, True, False, True]

    def test_who_follows_may_acknowledge_and_send(self, connect: Connect) -> None:
        alice, bob = connect(), connect("bob")
        alice.send("bob", "ping")
        for message in bob.inbox(follow=True, limit=1):
            assert message.ack().changed == 1
            bob.send("alice", "pong")
        assert [message.text for message in alice.inbox()] == ["pong"]

    def test_its_end_ends_the_subscription(self, connect: Connect, broker: FakeBroker) -> None:
        alice, bob = connect(), connect("bob")
        alice.send("bob", "1")
        list(bob.inbox(follow=True, limit=1))
        bob.overview()
        assert broker.subs == {}

    def test_it_cannot_peek(self, connect: Connect) -> None:
        with pytest.raises(errors.BadRequest):
            list(connect("bob").inbox(follow=True, peek=True))


class TestTrouble:
    def test_busy_is_waited_out(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        broker.refuse_next(Send, "busy", wait_ms=20)
        assert client.send("bob", "hello").seq == 1
        assert broker.count(Send) == 2

    def test_a_cut_connection_is_made_again(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        broker.cut()
        assert client.send("bob", "hello").seq == 1
        assert broker.count(Login) == 1

    def test_a_forgotten_session_is_made_again(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        broker.forget_sessions()
        assert client.overview().name == "alice"

    def test_a_batch_goes_on_over_losses_and_nothing_is_doubled(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        outcomes = []
        for outcome in client.send_many(Outgoing("bob", str(n)) for n in range(2_000)):
            outcomes.append(outcome)
            if outcome.index in (10, 700, 1_500):
                broker.cut()
        assert all(outcome.receipt is not None for outcome in outcomes)
        assert bodies(broker) == [str(n).encode() for n in range(2_000)]

    def test_a_register_whose_answer_is_lost_is_repeated_with_its_op(
        self, connect: Connect, broker: FakeBroker
    ) -> None:
        broker.refuse_next(Register, "no_session", fatal=True)
        connect(None).register("eve", PASSWORD)
        first, second = [header for header in broker.seen if isinstance(header, Register)]
        assert first.op == second.op

    def test_no_answer_to_a_send_is_outcome_unknown(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        broker.silent.add(Send)
        with pytest.raises(errors.OutcomeUnknown) as caught:
            client.send("bob", "hello", id=b"i" * 16, timeout_s=0.2)
        assert caught.value.message_id == b"i" * 16

    def test_no_answer_to_a_change_is_outcome_unknown(self, connect: Connect, broker: FakeBroker) -> None:
        broker.silent.add(Passwd)
        client = connect(timeout_s=0.5)
        with pytest.raises(errors.OutcomeUnknown):
            client.passwd(PASSWORD, "battery staple")

    def test_no_server_is_unreachable_and_says_where(self, connect: Connect, broker: FakeBroker) -> None:
        nowhere = Address("127.0.0.1", 1, broker.address.key)
        with pytest.raises(errors.UnreachableError, match=r"127\.0\.0\.1:1 .*refused"):
            connect(None, address=nowhere, timeout_s=0.3).hello()

    def test_no_name_is_unreachable(self, connect: Connect, broker: FakeBroker) -> None:
        nowhere = Address("no.such.host.invalid", 5570, broker.address.key)
        with pytest.raises(errors.UnreachableError):
            connect(None, address=nowhere, timeout_s=0.3).hello()

    def test_a_wrong_key_is_told_within_five_seconds(self, connect: Connect, broker: FakeBroker) -> None:
        wrong = Address(broker.address.host, broker.address.port, b"k" * 32)
        begin = time.monotonic()
        with pytest.raises(errors.WrongServerKey):
            connect(None, address=wrong).hello()
        assert time.monotonic() - begin < 5

    def test_a_server_that_says_nothing_is_unreachable(self, connect: Connect, broker: FakeBroker) -> None:
        broker.silent.add(Hello)
        with pytest.raises(errors.UnreachableError):
            connect(None, timeout_s=0.3).hello()

    def test_closing_does_not_wait_for_anything(self, connect: Connect, broker: FakeBroker) -> None:
        client = connect()
        broker.silent.add(Send)
        client.submit("bob", "hello")
        begin = time.monotonic()
        client.close()
        client.close()
        assert time.monotonic() - begin < 1


class TestBlocking:
    """What only the blocking client has."""

    @pytest.fixture
    def client(self, broker: FakeBroker) -> Iterator[Client]:
        client = Client(str(broker.address), timeout_s=10)
        client.login("alice", PASSWORD)
        yield client
        client.close()

    def test_what_was_taken_is_sent_though_the_next_is_long_in_coming(self, broker: FakeBroker, client: Client) -> None:
        """A burst that fills the window, and then nothing: all of it arrives, with nobody calling."""
        burst, arrived = 50, threading.Event()

        def lines() -> Iterator[Outgoing]:
            for n in range(burst):
                yield Outgoing("bob", str(n))
            deadline = time.monotonic() + 10
            while len(broker.log) < burst and time.monotonic() < deadline:
                arrived.wait(0.01)
            yield Outgoing("bob", "last")

        broker.refuse_next(Send, "busy", wait_ms=50)
        outcomes = list(client.send_many(lines()))
        assert bodies(broker) == [*(str(n).encode() for n in range(burst)), b"last"]
        assert all(outcome.receipt is not None for outcome in outcomes)
        assert not [thread for thread in threading.enumerate() if thread.name == "restante-attendance"]

    def test_large_messages_wait_for_each_other(self, client: Client) -> None:
        most = 0
        for _ in range(70):
            client.submit("bob", b"x" * limits.MESSAGE_BYTES_MAX)
            most = max(most, client._driver.session.stream.unsettled_bytes)
        client.flush()
        assert most < UNSETTLED_BYTES_MAX

    def test_a_result_may_be_waited_for_with_a_limit(self, broker: FakeBroker, client: Client) -> None:
        broker.silent.add(Send)
        pending = client.submit("bob", "hello")
        with pytest.raises(TimeoutError):
            pending.result(0.05)
        assert not pending.done()

    def test_who_has_an_answer_is_forgotten(self, client: Client) -> None:
        client.overview()
        client.lookup(["bob"])
        assert client._driver._waiters == {}

    def test_an_interrupted_call_leaves_a_client_that_works(
        self, broker: FakeBroker, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        broker.silent.add(Overview)
        with monkeypatch.context() as patch:
            patch.setattr(client._driver.link, "wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.overview()
        broker.silent.clear()
        assert client.overview().name == "alice"

    def test_an_error_of_whoever_is_told_of_the_connection_is_only_theirs(
        self, broker: FakeBroker, client: Client
    ) -> None:
        def notice(connected: bool) -> None:
            if not connected:
                raise ZeroDivisionError

        client.on_connection(notice)
        client.overview()
        session = client._driver.session
        broker.cut()
        with pytest.raises(ZeroDivisionError):
            client.overview()
        assert client.overview().name == "alice"
        assert client._driver.session is session
        client.on_connection(lambda _: None)

    def test_what_is_no_message_takes_with_it_all_that_did_not_go(self, broker: FakeBroker, client: Client) -> None:
        client.overview()
        broker.silent.add(Send)
        wrong = Outgoing("bob", cast("bytes", {"no": "body"}))
        outgoings = [Outgoing("bob", str(n)) for n in range(9)]
        with pytest.raises(TypeError):
            list(client.send_many([*outgoings[:7], wrong, *outgoings[7:]]))
        assert (client._driver.session.stream.unsettled, client._driver._given) == (0, [])

    def test_what_makes_messages_needs_a_client_of_its_own(self, client: Client) -> None:
        def asking() -> Iterator[Outgoing]:
            yield Outgoing("bob", "first")
            client.lookup(["bob"])
            yield Outgoing("bob", "second")

        with pytest.raises(RuntimeError, match="a client of its own"):
            list(client.send_many(asking()))
        assert client.overview().name == "alice"


class TestAsyncio:
    """What only the asyncio client has."""

    @staticmethod
    def run(broker: FakeBroker, body: Callable[[AsyncClient], Any]) -> None:
        async def main() -> None:
            async with AsyncClient(str(broker.address), timeout_s=10) as client:
                await client.login("alice", PASSWORD)
                await body(client)

        asyncio.run(main())

    def test_sends_at_once_travel_together_and_in_order(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            await asyncio.gather(*(client.send("bob", str(n)) for n in range(12_000)))

        self.run(broker, body)
        assert bodies(broker) == [str(n).encode() for n in range(12_000)]
        assert broker.count(Send) < 1_200

    def test_what_is_sent_in_one_turn_of_the_loop_travels_in_one_envelope(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            await asyncio.gather(*(client.send("bob", str(n)) for n in range(200)))

        self.run(broker, body)
        sizes = [len(header.messages) for header in broker.seen if isinstance(header, Send)]
        assert sizes == [1, 199], "the first goes at once, since nothing is on its way"

    def test_a_deadline_sooner_than_all_others_is_not_slept_through(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            broker.silent.add(Send)
            patient = await client.submit("bob", "patient")
            begin = time.monotonic()
            with pytest.raises(errors.OutcomeUnknown):
                await client.send("bob", "hasty", timeout_s=0.2)
            assert time.monotonic() - begin < 5
            patient.cancel()

        self.run(broker, body)

    def test_what_waits_for_answers_has_a_deadline_and_takes_no_look_each(
        self, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def body(client: AsyncClient) -> None:
            broker.silent.add(Send)
            out = []
            for n in range(EAGER_ENVELOPES):
                out.append(await client.submit("bob", f"out {n}"))
                await client.overview()  # goes behind it: now each is out, in an envelope of its own
            assert broker.count(Send) == EAGER_ENVELOPES
            looks, drain = 0, client._lookout.driver.drain

            def counted() -> int:
                nonlocal looks
                looks += 1
                return drain()

            monkeypatch.setattr(client._lookout.driver, "drain", counted)
            begin, held = time.monotonic(), []
            for n in range(GIVEN_MAX - 1):
                held.append(asyncio.create_task(client.send("bob", f"held {n}", timeout_s=0.2)))
                await asyncio.sleep(0)  # a turn of the loop each
            assert looks <= 1 + (time.monotonic() - begin) / HELD_S
            for sending in held:
                with pytest.raises(errors.UnreachableError):
                    await sending
            assert time.monotonic() - begin < 5
            for future in out:
                future.cancel()

        self.run(broker, body)

    def test_what_comes_while_it_takes_in_and_sends_is_not_overlooked(
        self, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A send takes the edge of the descriptor with it, and no other comes for what is there already."""

        async def body(client: AsyncClient) -> None:
            driver = client._lookout.driver
            drain, asked = driver.drain, list[Waiter]()

            def drain_and_ask() -> int:
                found = drain()
                if found and not asked:
                    asked.append(driver.ask(Overview(id=1), time.monotonic() + 10))
                    driver.link.wait(5)
                return found

            monkeypatch.setattr(driver, "drain", drain_and_ask)
            await client.overview()
            answered = asyncio.Event()
            asked[0].notify = answered.set
            if not asked[0].done:
                await asyncio.wait_for(answered.wait(), 5)

        self.run(broker, body)

    def test_what_ends_with_the_client_is_no_complaint_of_asyncio(self, broker: FakeBroker) -> None:
        """Whoever leaves by an error flushes nothing, and looks at no future."""
        complaints: list[object] = []

        async def leave() -> None:
            async with AsyncClient(str(broker.address), timeout_s=10) as client:
                await client.login("alice", PASSWORD)
                await client.submit("bob", "hello")
                raise KeyError

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            broker.silent.add(Send)
            with pytest.raises(KeyError):
                await leave()
            gc.collect()

        asyncio.run(main())
        assert complaints == []

    def test_a_cancelled_call_loses_nothing_for_others(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            for _ in range(50):
                cancelled = asyncio.ensure_future(client.overview())
                other = asyncio.ensure_future(client.lookup(["bob"]))
                await asyncio.sleep(0)
                cancelled.cancel()
                assert await other == ["bob"]

        self.run(broker, body)

    def test_sends_that_are_cancelled_together_are_withdrawn_together(
        self, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def body(client: AsyncClient) -> None:
            await client.overview()
            broker.silent.add(Send)
            driver, withdrawals = client._lookout.driver, list[int]()
            withdraw = driver.withdraw

            def counted(places: Mapping[Batch, Collection[int] | None]) -> None:
                withdrawals.append(len(places))
                withdraw(places)

            monkeypatch.setattr(driver, "withdraw", counted)
            sends = [asyncio.create_task(client.send("bob", str(n))) for n in range(2_000)]
            await client.overview()  # is answered after all of them were given
            assert driver.session.stream.unsettled == 2_000
            for each in reversed(sends):
                each.cancel()
            assert set(map(type, await asyncio.gather(*sends, return_exceptions=True))) == {asyncio.CancelledError}
            await asyncio.sleep(0)
            assert driver.session.stream.unsettled == 0
            assert len(withdrawals) <= 3

        self.run(broker, body)

    def test_who_is_cancelled_as_the_client_is_closed_is_cancelled(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            broker.silent.add(Send)
            sends = [asyncio.create_task(client.send("bob", str(n))) for n in range(4)]
            await client.overview()  # is answered after all of them were given
            assert client._lookout.driver.session.stream.unsettled == 4
            sends[0].cancel()
            await asyncio.sleep(0)
            await client.close()
            sends[1].cancel()
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            assert isinstance(outcomes[0], asyncio.CancelledError)
            assert all(isinstance(each, (asyncio.CancelledError, errors.OutcomeUnknown)) for each in outcomes)
            with pytest.raises(RuntimeError, match="closed"):
                await client.send("bob", "late")

        self.run(broker, body)

    def test_an_error_in_the_middle_of_its_work_leaves_nobody_waiting(self, broker: FakeBroker) -> None:
        """It is raised in the event loop, where nobody asked for anything."""
        raised = []

        def broken() -> list[Any]:
            raise MemoryError

        async def body(client: AsyncClient) -> None:
            loop, driver = asyncio.get_running_loop(), client._lookout.driver
            loop.set_exception_handler(lambda _, context: raised.append(type(context["exception"])))
            broker.silent.add(Send)
            sends = [asyncio.create_task(client.send("bob", str(n))) for n in range(4)]
            await client.overview()  # is answered after all of them were given
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(driver.link, "drain", broken)
                sends.append(asyncio.create_task(client.send("bob", "last")))
                outcomes = await asyncio.gather(*sends, client.overview(), return_exceptions=True)
            assert [type(each) for each in outcomes[:4]] == [errors.OutcomeUnknown] * 4
            assert raised[0] is MemoryError
            broker.silent.clear()
            assert (await client.send("bob", "after")).seq > 0

        self.run(broker, body)

    def test_after_an_error_there_is_room_for_who_waits_for_room(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            link = client._lookout.driver.link
            broker.silent.add(Send)
            sends = [asyncio.create_task(client.send("bob", str(n))) for n in range(UNSETTLED_MAX + 9)]
            await client.overview()
            broker.silent.clear()

            def broken() -> list[Any]:
                patch.undo()
                raise MemoryError

            patch = pytest.MonkeyPatch()
            patch.setattr(link, "drain", broken)
            client._lookout.look_soon()
            outcomes = await asyncio.wait_for(asyncio.gather(*sends, return_exceptions=True), 9)
            assert [type(each) for each in outcomes[UNSETTLED_MAX:]] == [Receipt] * 9

        self.run(broker, body)

    def test_a_cancelled_follower_loses_no_message(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            seen: list[str] = []
            following = client.inbox(follow=True)
            for n in range(20):
                waiting = asyncio.ensure_future(anext(following))
                await client.send("alice", str(n))
                message = await waiting
                seen.append(message.text)
            assert seen == [str(n) for n in range(20)]

        self.run(broker, body)

    def test_acknowledgements_at_once_travel_together(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            async for outcome in client.send_many(Outgoing("alice", str(n)) for n in range(500)):
                assert outcome.receipt is not None
            messages = [message async for message in client.inbox()]
            await asyncio.gather(*(message.ack() for message in messages))

        self.run(broker, body)
        assert len(broker.read) == 500
        assert broker.count(Ack) <= 3

    def test_messages_may_come_from_an_asynchronous_iterator(self, broker: FakeBroker) -> None:
        async def lines() -> AsyncIterator[Outgoing]:
            for n in range(5):
                await asyncio.sleep(0)
                yield Outgoing("bob", str(n))

        async def body(client: AsyncClient) -> None:
            assert [outcome.index async for outcome in client.send_many(lines())] == [0, 1, 2, 3, 4]

        self.run(broker, body)

    def test_an_outcome_comes_before_the_next_message_is_there(self, broker: FakeBroker) -> None:
        async def body(client: AsyncClient) -> None:
            told = asyncio.Event()

            async def lines() -> AsyncIterator[Outgoing]:
                yield Outgoing("bob", "first")
                await told.wait()
                yield Outgoing("bob", "second")

            async for _ in client.send_many(lines()):
                told.set()

        self.run(broker, body)
        assert bodies(broker) == [b"first", b"second"]
