"""What runs on a device, and what it does beside sending and reading: ask how things stand, log out, end tokens, change
the password.
"""

from __future__ import annotations

from restante.wire import envelopes
from tests.simulation.client import ClientProcess, Outcome, Program, ended
from tests.simulation.history import Asking
from tests.simulation.people import GHOST, NAMES
from tests.simulation.workload import (
    OUSTED,
    PASSING,
    PASSWORD,
    Crowd,
    Seat,
    browse,
    enter,
    explain,
    follow,
    join,
    send,
)

TRIES_MAX = 4
"""How often a chore is tried by hand. Who fails so often leaves it."""

IDS_ASKED = 12
"""Messages asked about at once."""


def programs(seat: Seat, crowd: Crowd, client: ClientProcess) -> list[Program]:
    """What a person runs on a device, at every start of its process."""
    seat.entering = False
    return [_live(seat, crowd, client)]


def _live(seat: Seat, crowd: Crowd, client: ClientProcess) -> Program:
    """Have an account, then send, read and do chores side by side."""
    yield from join(seat, crowd)
    client.begin(send(seat, crowd))
    client.begin(work(seat, crowd))
    client.begin(follow(seat, crowd) if seat.habits.follows else browse(seat, crowd))


def work(seat: Seat, crowd: Crowd) -> Program:
    """Do all chores, each at its time."""
    client, chores = seat.client, seat.device.chores
    while seat.chores < len(chores):
        chore = chores[seat.chores]
        if client.world.now < chore.at:
            yield chore.at - client.world.now
        match chore.what:
            case "status" | "overview" | "lookup":
                yield from _ask(seat, crowd, chore.what)
            case "logout":
                yield from _log_out(seat, chore.at)
            case "revoke":
                yield from _revoke(seat, chore.at)
            case "passwd":
                yield from _change_password(seat, chore.at)
        seat.chores += 1


def _op(seat: Seat, at: float) -> bytes:
    """The operation id of a chore: the same whenever it is tried, also by the next life of the process."""
    return seat.user.op[:8] + int(at * 1e6).to_bytes(8, "big")


def _oust(seat: Seat) -> None:
    """From now on some of the person's sessions may end."""
    history = seat.client.history
    history.oustings.setdefault(seat.user.name, seat.client.world.now)


# --- asking -----------------------------------------------------------------------------------------------


def _ask(seat: Seat, crowd: Crowd, what: str) -> Program:
    yield from enter(seat)
    client = seat.client
    request: envelopes.Request = envelopes.Overview(id=1)
    if what == "lookup":
        request = envelopes.Lookup(id=1, names=[*NAMES, GHOST])
    elif what == "status":
        ids = dict.fromkeys(s.id for s in client.history.sendings if s.sender == seat.user.name)
        if not ids:
            return
        request = envelopes.Status(id=1, ids=[*ids][-IDS_ASKED:])
    asked_at = client.world.now
    outcome = client.request(request, 30.0)
    yield ended([outcome])
    explain(outcome, PASSING | OUSTED)
    asking = Asking(asked_at, client.world.now, seat.user.name, request)
    if isinstance(outcome.answer, envelopes.Found):
        asking.names = outcome.answer.names
    elif isinstance(outcome.answer, envelopes.Statuses):
        asking.statuses = outcome.answer.messages
    elif isinstance(outcome.answer, envelopes.Account):
        asking.overview = outcome.answer
    else:
        return
    client.history.askings.append(asking)


# --- tokens -----------------------------------------------------------------------------------------------


def _log_out(seat: Seat, at: float) -> Program:
    yield from enter(seat)
    _oust(seat)
    outcome = seat.client.request(envelopes.Logout(id=1, op=_op(seat, at)), 20.0)
    yield ended([outcome])
    explain(outcome, PASSING | OUSTED | {"unknown_token"})  # another device was faster


def _revoke(seat: Seat, at: float) -> Program:
    """End another of one's tokens, the newest."""
    yield from enter(seat)
    outcome = seat.client.request(envelopes.Tokens(id=1), 20.0)
    yield ended([outcome])
    explain(outcome, PASSING | OUSTED)
    if not isinstance(outcome.answer, envelopes.TokenList):
        return
    others = [token.token for token in outcome.answer.tokens if not token.current]
    if others:
        _oust(seat)
        outcome = seat.client.request(envelopes.Revoke(id=1, op=_op(seat, at), token=others[-1]), 20.0)
        yield ended([outcome])
        explain(outcome, PASSING | OUSTED | {"unknown_token"})


def _change_password(seat: Seat, at: float) -> Program:
    """As long as it is not known to have happened either password may be right, and either is tried."""
    user, new = seat.user, f"{PASSWORD} {at}"
    for _ in range(TRIES_MAX):
        yield from enter(seat)
        _oust(seat)
        user.passwords = [new, PASSWORD]
        outcome: Outcome = seat.client.request(envelopes.Passwd(id=1, op=_op(seat, at), old=PASSWORD, new=new), 20.0)
        yield ended([outcome])
        explain(outcome, PASSING | OUSTED | {"wrong_credentials"})
        if outcome.error is None:
            user.passwords = [new]
            return
        yield 0.5
