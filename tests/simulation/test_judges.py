"""The judges of answers and of the wire: nothing is wrong with a sound history, each unsound one has its complaint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from restante.wire import envelopes
from restante.wire.envelopes import Account, MessageStatus, RecipientState, Result
from tests.simulation.checker import check
from tests.simulation.history import Asking, History, Said, Span
from tests.simulation.test_checker import a_content, an_id, sending, sound

OLD, NEW = b"o" * 32, b"n" * 32

Wrong = Callable[[History], None]
WRONGS: dict[str, tuple[str, str, Wrong]] = {}
"""By name: the guarantee, a part of the complaint, and what is done to a sound history."""


def wrong(guarantee: str, complaint: str) -> Callable[[Wrong], Wrong]:
    def register(do: Wrong) -> Wrong:
        WRONGS[do.__name__] = guarantee, complaint, do
        return do

    return register


# --- a sound history that has everything ------------------------------------------------------------------


def heard(history: History, connection: int, header: envelopes.ToBroker, size: int = 0, key: str = "bob") -> None:
    history.wire.append(Said(float(len(history.wire)), connection, key, header, size, heard=True))


def said(history: History, connection: int, header: envelopes.ToClient, key: str = "bob") -> None:
    history.wire.append(Said(float(len(history.wire)), connection, key, header, 0, heard=False))


def logged_in(history: History, connection: int, token: bytes = OLD, device: str = "bob#1") -> None:
    login = envelopes.Login(id=1, op=bytes(16), name="bob", password="right", device=device)
    heard(history, connection, login)
    answer = envelopes.LoggedIn(id=1, account=2, name="bob", expires_at_us=1, token=token)
    said(history, connection, answer)


def pinged(history: History, connection: int, number: int = 9) -> None:
    heard(history, connection, envelopes.Ping(id=number))
    said(history, connection, envelopes.Pong(id=number))


def asking(history: History, request: envelopes.Request, at: float = 20.0) -> Asking:
    asked = Asking(at, at + 0.5, "alice" if isinstance(request, envelopes.Status) else "bob", request)
    history.askings.append(asked)
    return asked


def status_of(history: History, number: int, seq: int, state: envelopes.State, at: float = 20.0) -> None:
    asked = asking(history, envelopes.Status(id=1, ids=[an_id(number)]), at)
    states = [RecipientState(name="bob", state=state)] if seq else []
    asked.statuses = [MessageStatus(id=an_id(number), seq=seq, recipients=states)]


def overview(history: History, unread: int, total: int) -> None:
    told = Account(id=1, account=2, name="bob", unread=unread, total=total)
    asking(history, envelopes.Overview(id=1)).overview = told


def found(history: History, *names: str) -> None:
    asking(history, envelopes.Lookup(id=1, names=["alice", "ghost"])).names = [*names]


def whole() -> History:
    """`test_checker.sound`, asked about and logged in to; Bob has two devices."""
    history = sound()
    status_of(history, 1, 10, "read")
    status_of(history, 4, 13, "delivered")
    overview(history, 2, 3)
    found(history, "alice")
    for name, mailbox in history.mailboxes.items():
        told = Account(id=1, account=1, name=name, unread=len(mailbox.unread), total=len(mailbox.entries))
        mailbox.overview, mailbox.followed = told, [*mailbox.unread]
    logged_in(history, 1)
    logged_in(history, 2, NEW, "bob#2")
    pinged(history, 1)
    pinged(history, 2)
    return history


def test_nothing_is_wrong_with_a_sound_history() -> None:
    assert check(whole()) == []


# --- answers ----------------------------------------------------------------------------------------------


@wrong("G5", "unknown")
def a_state_that_forgets_a_message(history: History) -> None:
    status_of(history, 1, 0, "stored")


@wrong("G2", "is said to be at 12")
def a_state_at_another_place(history: History) -> None:
    status_of(history, 1, 12, "read")


@wrong("G5", "who had not acknowledged it")
def a_state_that_runs_ahead(history: History) -> None:
    status_of(history, 4, 13, "read")


@wrong("G5", "who had acknowledged it")
def a_state_that_lags(history: History) -> None:
    status_of(history, 1, 10, "delivered")


@wrong("G5", "it had 2 to 2")
def a_count_that_forgets_an_acknowledgement(history: History) -> None:
    overview(history, 3, 3)


@wrong("G5", "it had 3 to 3")
def a_count_that_forgets_a_message(history: History) -> None:
    overview(history, 2, 2)


@wrong("G5", "is said to have 1 unread of 3")
def a_count_at_the_end(history: History) -> None:
    history.mailboxes["bob"].overview = Account(id=1, account=2, name="bob", unread=1, total=3)


@wrong("G5", "hands over [11]")
def a_subscription_at_the_end_that_stops(history: History) -> None:
    history.mailboxes["bob"].followed = [11]


@wrong("G4", "was told there is nobody")
def a_name_that_is_not_found(history: History) -> None:
    found(history)


@wrong("G4", "there was not")
def a_name_of_nobody(history: History) -> None:
    found(history, "alice", "ghost")


@wrong("G4", "no token was to end")
def ousted_for_nothing(history: History) -> None:
    given = sending(history, 5, "bob")
    given.result, given.failure = None, "bad_token"


# --- refusals ---------------------------------------------------------------------------------------------


@wrong("G2", "had been accepted under that id before")
def refused_after_it_was_accepted(history: History) -> None:
    sending(history, 1, "bob", code="mailbox_full").at = 3.0


@wrong("G2", "had been accepted under that id before")
def accepted_with_other_content(history: History) -> None:
    other = sending(history, 1, "bob", seq=10)
    other.at, other.content = 3.0, b"other"


@wrong("G4", "there is nothing else of that id")
def a_conflict_with_nothing(history: History) -> None:
    sending(history, 5, "bob", code="id_conflict")


@wrong("G4", "there was room")
def full_though_there_is_room(history: History) -> None:
    history.limits["unread"] = 10
    sending(history, 5, "bob", code="mailbox_full")


@wrong("G7", "has 3 unread")
def fuller_than_full(history: History) -> None:
    history.limits["unread"] = 2


@wrong("G4", "unknown are []")
def unknown_though_registered(history: History) -> None:
    sending(history, 5, "bob", code="unknown_recipient")


@wrong("G4", "unknown are ['bob']")
def accepted_before_there_was_an_account(history: History) -> None:
    history.joinings["bob"] = Span(5.0, 6.0)


@wrong("G4", "whose mailbox was closed")
def accepted_by_a_closed_mailbox(history: History) -> None:
    history.closings["bob"] = Span(2.0, 3.0)


@wrong("G3", "was stored before what lies before it")
def a_time_that_goes_back(history: History) -> None:
    for entry in history.mailboxes["bob"].entries[:1]:
        history.mailboxes["bob"].entries[0] = envelopes.Entry(
            seq=10, id=entry.id, sender="alice", to=["bob"], size=entry.size, stored_at_us=99, state="read"
        )


# --- the wire ---------------------------------------------------------------------------------------------


@wrong("G4", "gets 2 answers to 1 requests of number 9")
def answered_twice(history: History) -> None:
    said(history, 1, envelopes.Pong(id=9))


@wrong("G6", "is not logged in")
def served_without_a_login(history: History) -> None:
    pinged(history, 3)


@wrong("G6", "has a token that ended")
def served_after_a_logout(history: History) -> None:
    heard(history, 1, envelopes.Logout(id=2, op=bytes(16)))
    said(history, 1, envelopes.Done(id=2))
    pinged(history, 1, 10)


@wrong("G6", "has a token that ended")
def served_after_another_device_changed_the_password(history: History) -> None:
    heard(history, 1, envelopes.Passwd(id=2, op=bytes(16), old="right", new="righter"))
    said(history, 1, envelopes.LoggedIn(id=2, account=2, name="bob", expires_at_us=1, token=b"3" * 32))
    pinged(history, 2, 10)


@wrong("G6", "has a token that ended")
def served_after_it_was_revoked(history: History) -> None:
    heard(history, 1, envelopes.Tokens(id=2))
    info = envelopes.TokenInfo(token=7, device="bob#2", created_at_us=1, last_used_at_us=1, expires_at_us=9)
    said(history, 1, envelopes.TokenList(id=2, tokens=[info]))
    heard(history, 1, envelopes.Revoke(id=3, op=bytes(16), token=7))
    said(history, 1, envelopes.Done(id=3))
    pinged(history, 2, 10)


@wrong("G6", "with a token that ended")
def resumed_with_a_dead_token(history: History) -> None:
    heard(history, 1, envelopes.Logout(id=2, op=bytes(16)))
    said(history, 1, envelopes.Done(id=2))
    heard(history, 4, envelopes.Resume(id=1, token=OLD))
    said(history, 4, envelopes.LoggedIn(id=1, account=2, name="bob", expires_at_us=1))


@wrong("G6", "is logged in as alice")
def logged_in_as_somebody_else(history: History) -> None:
    heard(history, 4, envelopes.Resume(id=1, token=OLD))
    said(history, 4, envelopes.LoggedIn(id=1, account=1, name="alice", expires_at_us=1))


@wrong("G6", "is shown 10 for ['carol']")
def shown_what_is_for_another(history: History) -> None:
    heard(history, 1, envelopes.Fetch(id=2))
    entry = envelopes.Entry(seq=10, id=an_id(1), sender="alice", to=["carol"], size=len(a_content(1)), stored_at_us=1)
    said(history, 1, envelopes.Page(id=2, history=bytes(16), through=10, messages=[entry]))


@wrong("G4", "the old password is wrong")
def a_change_that_forgot_that_it_was_made(history: History) -> None:
    heard(history, 1, envelopes.Passwd(id=2, op=bytes(16), old="right", new="righter"))
    said(history, 1, envelopes.Error(id=2, code="wrong_credentials"))


def three_sends(history: History) -> None:
    for number in (2, 3, 4):
        item = envelopes.Item(id=an_id(number), to=["bob"], size=100)
        heard(history, 1, envelopes.Send.of(number, bytes(16), number, [item]), 100)
    for number in (2, 3, 4):
        said(history, 1, envelopes.Sent.of(number, [Result(seq=number)]))


@wrong("G7", "3 requests of bob were taken at once")
def too_many_requests(history: History) -> None:
    history.limits["REQUESTS_IN_FLIGHT_MAX"] = 2
    three_sends(history)


@wrong("G7", "300 bytes of bob were held at once")
def too_much_of_one(history: History) -> None:
    history.limits["SESSION_BYTES_MAX"] = 299
    three_sends(history)


@wrong("G7", "300 bytes were held at once")
def too_much_of_all(history: History) -> None:
    history.limits["BROKER_BYTES_MAX"] = 299
    three_sends(history)


@wrong("G7", "has 2 subscriptions, allowed are 1")
def too_many_subscriptions(history: History) -> None:
    history.limits["SUBSCRIPTIONS_PER_SESSION_MAX"] = 1
    for number in (2, 3):
        heard(history, 1, envelopes.Subscribe(id=number, sub=number))
        said(history, 1, envelopes.Subscribed(id=number, sub=number, history=bytes(16)))


@pytest.mark.parametrize("name", WRONGS)
def test_what_is_wrong_is_found(name: str) -> None:
    guarantee, complaint, do = WRONGS[name]
    history = whole()
    do(history)
    found = check(history)
    assert any(v.guarantee == guarantee and complaint in v.text for v in found), found


def test_what_waits_within_the_limits_is_not_wrong() -> None:
    history = whole()
    bounds = {"REQUESTS_IN_FLIGHT_MAX": 3, "SESSION_BYTES_MAX": 300, "BROKER_BYTES_MAX": 300}
    history.limits.update(bounds)
    three_sends(history)
    assert check(history) == []


def test_a_device_that_logs_in_anew_after_a_change_of_password_is_served() -> None:
    history = whole()
    passwd = envelopes.Passwd(id=2, op=bytes(16), old="right", new="righter")
    session = envelopes.LoggedIn(id=2, account=2, name="bob", expires_at_us=1, token=b"3" * 32)
    heard(history, 1, passwd)
    said(history, 1, session)
    logged_in(history, 5, b"4" * 32, "bob#3")
    heard(history, 1, passwd)  # a copy of the first, answered the same
    said(history, 1, session)
    pinged(history, 5)
    pinged(history, 1, 11)
    assert check(history) == []
