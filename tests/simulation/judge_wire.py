"""G4, G6 and G7, of what passes the broker: who is answered, how often, with which right, and how much may wait.

A connection is in three states, as far as the wire shows: nobody's, an account's, and nobody's again once its token
has ended. A token is known by its secret, which `session` or `resume` carries, and, to whoever ends one, by a number,
which `token_list` tells with the device's name that the login gave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct, field

from restante.wire import envelopes
from restante.wire.envelopes import Error, LoggedIn, Login, Request, Resume
from tests.simulation.facts import Violation
from tests.simulation.history import History, Said
from tests.simulation.people import person_of

FREE = (envelopes.Welcome, envelopes.Registered, LoggedIn, Error)
"""What may be said to a connection that has no account."""


class Connection(Struct):
    """One connection, as the wire shows it."""

    key: str
    asked: dict[int, tuple[int, Said]] = field(default_factory=dict)
    """Requests by their ids, and their places on the wire."""
    heard: Counter[int] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    token: bytes = b""
    subscriptions: set[int] = field(default_factory=set)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    """Of requests that got what they asked for: when they came and were answered, by places on the wire; bytes."""


class Wire:
    """All that passed, from the first envelope to the last."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.connections: dict[int, Connection] = {}
        self.ended: dict[bytes, float] = {}
        """Tokens, and since when they are over."""
        self.labels: dict[bytes, str] = {}
        """Tokens, and the device that each was made for."""
        self.numbers: dict[tuple[str, int], str] = {}
        """(account, number), and the device of that token."""
        self.owners: dict[bytes, str] = {}
        self.doomed: dict[bytes, list[bytes]] = {}
        """By the operation of a change of password: the tokens that there were when it was first asked for."""
        self.changed: set[str] = set()
        """Accounts whose password was to be changed."""

    def violations(self) -> Iterator[Violation]:
        """All of them."""
        for place, said in enumerate(self.history.wire):
            connection = self.connections.setdefault(said.connection, Connection(said.key))
            if said.heard:
                self._heard(connection, said, place)
            else:
                yield from self._said(connection, said, place)
        yield from self._bounds()

    def _heard(self, connection: Connection, said: Said, place: int) -> None:
        if isinstance(said.header, Request):
            connection.asked.setdefault(said.header.id, (place, said))
            connection.heard[said.header.id] += 1
        if isinstance(said.header, envelopes.Passwd):
            own = [token for token, owner in self.owners.items() if owner == person_of(said.key)]
            self.doomed.setdefault(said.header.op, own)
            self.changed.add(person_of(said.key))

    def _said(self, connection: Connection, said: Said, place: int) -> Iterator[Violation]:
        header = said.header
        yield from self._right(connection, said)
        request_id: int | None = getattr(header, "id", None)
        if request_id is not None:
            connection.answers[request_id] += 1
            if connection.answers[request_id] > connection.heard[request_id]:
                times = f"{connection.answers[request_id]} answers to {connection.heard[request_id]} requests"
                yield Violation("G4", f"{said.key} gets {times} of number {request_id}: {_kind(said)}")
            if request_id not in connection.asked:
                return
            begun, request = connection.asked[request_id]
            yield from self._answered(connection, request, said)
            if not isinstance(header, Error) and connection.heard[request_id] == 1:
                connection.spans.append((begun, place, request.size))

    # --- whose it is (G6) ---------------------------------------------------------------------------------

    def _right(self, connection: Connection, said: Said) -> Iterator[Violation]:
        if isinstance(said.header, FREE):
            return
        if not connection.token:
            yield Violation("G6", f"{said.key} is not logged in, and is told {_kind(said)}")
        elif connection.token in self.ended:
            at = self.ended[connection.token]
            text = f"has a token that ended at {at:.3f} s, and is told {_kind(said)} at {said.at:.3f} s"
            yield Violation("G6", f"{said.key} {text}")
        if isinstance(said.header, envelopes.Page | envelopes.Deliver):
            owner = self.owners.get(connection.token, "")
            for entry in said.header.messages:
                if owner and owner not in entry.to:
                    yield Violation("G6", f"{said.key} is {owner}, and is shown {entry.seq} for {entry.to}")

    def _answered(self, connection: Connection, asked: Said, said: Said) -> Iterator[Violation]:
        """What an answer says of sessions, tokens and subscriptions."""
        request, header = asked.header, said.header
        if isinstance(header, LoggedIn):
            yield from self._logged_in(connection, asked, said)
        elif isinstance(header, envelopes.TokenList):
            for token in header.tokens:
                self.numbers[person_of(said.key), token.token] = token.device
        elif isinstance(header, envelopes.Subscribed):
            connection.subscriptions.add(header.sub)
            most = self.history.limits.get("SUBSCRIPTIONS_PER_SESSION_MAX", len(connection.subscriptions))
            if len(connection.subscriptions) > most:
                text = f"has {len(connection.subscriptions)} subscriptions, allowed are {most}"
                yield Violation("G7", f"a session of {said.key} {text}")
        elif isinstance(header, envelopes.Done):
            self._done(connection, asked, said)
        elif isinstance(header, Error) and header.code == "wrong_credentials" and isinstance(request, envelopes.Passwd):
            yield Violation("G4", f"{said.key} is told that the old password is wrong; nobody else changed it")

    def _logged_in(self, connection: Connection, asked: Said, said: Said) -> Iterator[Violation]:
        header, request = said.header, asked.header
        assert isinstance(header, LoggedIn), "the caller looks"
        secret = header.token or (request.token if isinstance(request, Resume) else b"")
        who = person_of(said.key)
        if header.name != who:
            yield Violation("G6", f"{said.key} is logged in as {header.name}")
        if secret in self.ended:
            at = self.ended[secret]
            yield Violation("G6", f"{said.key} is logged in at {said.at:.3f} s with a token that ended at {at:.3f} s")
        if isinstance(request, envelopes.Passwd):
            for token in self.doomed[request.op]:
                self.ended.setdefault(token, said.at)
        if isinstance(request, Login):
            self.labels[secret] = request.device
        connection.token = secret
        self.owners[secret] = header.name

    def _done(self, connection: Connection, asked: Said, said: Said) -> None:
        request = asked.header
        if isinstance(request, envelopes.Logout):
            self.ended.setdefault(connection.token, said.at)
        elif isinstance(request, envelopes.Revoke):
            device = self.numbers.get((person_of(said.key), request.token), "")
            if person_of(said.key) in self.changed:
                device = ""  # the token that a change of password made has the name of the one before it
            for token, label in self.labels.items():
                if device and label == device and token != connection.token:
                    self.ended.setdefault(token, said.at)
        elif isinstance(request, envelopes.Unsubscribe):
            connection.subscriptions.discard(request.sub)

    # --- how much may wait (G7) ---------------------------------------------------------------------------

    def _bounds(self) -> Iterator[Violation]:
        limits = self.history.limits
        everywhere: list[tuple[int, int, int]] = []
        for connection in self.connections.values():
            flight = _highest([(begin, end, 1) for begin, end, _ in connection.spans])
            if flight > limits.get("REQUESTS_IN_FLIGHT_MAX", flight):
                yield Violation("G7", f"{flight} requests of {connection.key} were taken at once")
            held = _highest(connection.spans)
            if held > limits.get("SESSION_BYTES_MAX", held):
                yield Violation("G7", f"{held} bytes of {connection.key} were held at once")
            everywhere += connection.spans
        held = _highest(everywhere)
        if held > limits.get("BROKER_BYTES_MAX", held):
            yield Violation("G7", f"{held} bytes were held at once")


def _highest(spans: list[tuple[int, int, int]]) -> int:
    """The most that was open at once."""
    steps = sorted([(begin, weight) for begin, _, weight in spans] + [(end, -weight) for _, end, weight in spans])
    now = highest = 0
    for _, weight in steps:
        now += weight
        highest = max(highest, now)
    return highest


def _kind(said: Said) -> str:
    return type(said.header).__name__


def violations(history: History) -> Iterator[Violation]:
    """Every violation on the wire."""
    return Wire(history).violations()
