"""What the fuzzer attacks: every decoder, and behind the broker's its real core, with a real store's core and the
accounts' real rules; and somebody well-meant who must notice nothing.

    round of inputs ─▶ decoder ─▶ handle ─▶ …            any exception but RemoteProtocolError is a find
        └─ now and then: the good client sends, reads, acknowledges     else a find
    then everybody falls silent ─▶ nothing may be left in the core      else a find
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from broker import events as b
from restante.wire import auth_link, codec, limits, links
from restante.wire import envelopes as e
from restante.wire.errors import RemoteProtocolError
from tests.attack.mutate import Frames
from tests.protocol.dialogue import PASSWORD, Client, World
from tests.protocol.speech import message, send

READERS: Final[dict[str, codec.Reader[object]]] = {
    "client→broker": codec.from_client,  # type: ignore[dict-item]  # whatever it reads
    "broker→client": codec.from_broker,  # type: ignore[dict-item]
    "auth→broker": links.from_auth_worker,  # type: ignore[dict-item]
    "broker→auth": links.to_auth_worker,  # type: ignore[dict-item]
    "store→broker": links.from_store,  # type: ignore[dict-item]
    "broker→store": links.to_store,  # type: ignore[dict-item]
}

STRANGER: Final = b"stranger"
"""The routing id of an authentication worker that was enrolled and went bad."""

PAUSE_S: Final = 6.0
"""Time goes by now and then, so that limits on attempts do not end the attack."""

SECRET: Final = "no vector has this one"

SILENCE_S: Final = limits.HEARTBEAT_S * limits.SILENCES_MAX + 2
"""After this no session is left; and no question to a worker waits."""


class Find(AssertionError):
    """The attack succeeded."""


class House:
    """One world and its inhabitants. It lasts for a cycle of inputs, so that what the store keeps is bounded."""

    def __init__(self) -> None:
        self.world = World()
        self.world.register("bob", "eve")
        self._good = self._well_meant()
        self._good_n = 0
        self._connections = 0
        self._hostile = [self._one_more(stage) for stage in range(4)]
        self._turn = 0
        self.read: Counter[str] = Counter()
        """What decoders made of the inputs: `decoded`, or the code they refused with."""
        self.handled = 0

    def _well_meant(self) -> Client:
        """Somebody with a password of their own: the others' stands in the vectors, and is the attackers' too."""
        good = self.world.greet()
        good.ask(e.Register(id=good.next_id(), op=self.world.op(), name="good", password=SECRET))
        session = good.ask(e.Login(id=good.next_id(), op=self.world.op(), name="good", password=SECRET))
        assert isinstance(session, e.LoggedIn), session
        return good

    # --- inputs -------------------------------------------------------------------------------------------

    def feed(self, direction: str, frames: Frames) -> None:
        """One input for one decoder; what it reads goes to the core behind it. Raises Find, or what was raised."""
        try:
            envelope, body = READERS[direction].read(frames)
        except RemoteProtocolError as error:
            self.read[error.code] += 1
            if direction == "client→broker":
                self._tell(partial(_malformed, error))
            return
        self.read["decoded"] += 1
        if direction == "client→broker":
            self._tell(lambda peer: b.Arrived(peer, envelope, body))  # type: ignore[arg-type]  # as that direction reads
        elif direction == "auth→broker" and not isinstance(envelope, auth_link.Ready):
            # an enrolled worker gone bad; had it said `ready`, questions would go there, and wait
            self.world.happen(b.WorkerArrived(STRANGER, envelope))  # type: ignore[arg-type]
            self.handled += 1

    def _tell(self, event_from: Callable[[b.Peer], b.Event]) -> None:
        """Somebody hostile says it to the broker, and connects anew where that ends the session."""
        self._turn = (self._turn + 1) % len(self._hostile)
        client = self._hostile[self._turn]
        self.world.happen(event_from(client.peer))
        self.handled += 1
        if self._is_done(client):
            self._leave(client)
            self._hostile[self._turn] = self._one_more(self._turn)
        client.heard.clear()
        self.world.asked.clear()

    def _is_done(self, client: Client) -> bool:
        """Whether nothing more can be had from this connection."""
        return any(isinstance(header, e.Error) and header.fatal for header, _ in client.heard)

    def _one_more(self, stage: int) -> Client:
        """A connection that says nothing yet, or is greeted, or has an account."""
        self._connections += 1
        client = self.world.connect(address=f"198.51.100.{self._connections % 250}")
        if stage > 0:
            client.say(e.Hello(id=client.next_id()))
        if stage > 1 and not self._logs_in(client, ("bob", "eve")[stage - 2]):
            newcomer = f"p{self._connections}"
            client.say(e.Register(id=client.next_id(), op=self.world.op(), name=newcomer, password=PASSWORD))
            self._logs_in(client, newcomer)
        return client

    def _logs_in(self, client: Client, name: str) -> bool:
        """Log in; not so if somebody hostile has changed the password by now, or guessed too often."""
        login = e.Login(id=client.next_id(), op=self.world.op(), name=name, password=PASSWORD)
        return any(isinstance(header, e.LoggedIn) for header in client.say(login))

    def _leave(self, client: Client) -> None:
        """Its connection is gone; the broker is told at its next answer."""
        self.world.happen(b.Unreachable(client.peer.routing_id))

    # --- what must hold -----------------------------------------------------------------------------------

    def ask_as_the_good_client(self) -> None:
        """Send, read, acknowledge: all of it answered, as if nobody else were there. Raises Find."""
        self._good_n += 1
        n, good = self._good_n, self._good
        sent = send(good, n, message(10**9 + n, "good", size=5))
        seq = sent.results[0].seq if isinstance(sent, e.Sent) else 0
        if not seq:
            raise Find(f"the good client's send was answered {sent}")
        page = good.ask(e.Fetch(id=good.next_id(), limit=limits.PAGE_MESSAGES_MAX))
        entries = page.messages if isinstance(page, e.Page) else []
        # Anybody may write to the good client, and some inputs do. Nobody may do so in its name.
        if [entry.seq for entry in entries if entry.sender == "good"] != [seq]:
            raise Find(f"the good client's one unread message of its own is {seq}, and it got {page}")
        acked = good.ask(e.Ack(id=good.next_id(), seqs=[entry.seq for entry in entries]))
        if acked.__class__ is not e.Acked:
            raise Find(f"the good client's ack was answered {acked}")
        good.heard.clear()
        self.world.wait(PAUSE_S)

    def fall_silent(self) -> None:
        """Nobody says anything more, and time goes by: nothing may be left. Raises Find."""
        self.world.wait(SILENCE_S)
        left = at_rest(self.world)
        if left:
            raise Find(f"after {SILENCE_S:g} s of silence the broker still holds {left}")

    def let_the_store_go_bad(self, inputs: list[Frames]) -> None:
        """The store, or what holds its key, says anything: the broker may stop serving; it must not raise."""
        for frames in inputs:
            try:
                envelope, body = links.from_store.read(frames)
            except RemoteProtocolError:
                continue
            self.world.happen(b.StoreArrived(envelope, body))
            self.handled += 1


def _malformed(error: RemoteProtocolError, peer: b.Peer) -> b.Event:
    return b.Malformed(peer, error)


def at_rest(world: World) -> dict[str, int]:
    """What the broker's core still holds, by name; empty at rest."""
    broker = world.broker
    link, sending, accounts = broker._link, broker._sending, broker._accounts
    held = {
        "sessions": len(broker._sessions),
        "subscriptions": len(broker._subscriptions._by_mailbox),
        "batches": len(link._unconfirmed) + len(link._pending),
        "queries": len(link._queries) + len(link._unasked),
        "weight": link.weight,
        "bytes of sends": sending.held_bytes,
        "look-ups under way": len(sending.guesses._open),
        "questions": 0 if broker._pool.idle else 1,
        "marks": len(broker._marks._through),
        "failed logins": len(accounts._logins._full_at),
    }
    return {name: count for name, count in held.items() if count}
