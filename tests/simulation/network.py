"""What may befall an envelope between two processes.

A `Line` is one direction of one connection: first in, first out. That much TCP and ZeroMQ promise, and no more, so:

- it is late, each envelope by another time, and sometimes the line stands still for seconds;
- it is *cut*: of what is under way only a first part arrives, the rest is lost, and nothing sent later arrives;
- between services, its reader dies or the connection breaks, and libzmq mends it without a word: then what was under
  way is lost up to some place, and what lies behind it arrives (RULES 6). A client's is never mended (RULES 3).

Harsher than either, in some worlds an envelope comes again some time later, on any line; and one is lost by itself, on
the lines that libzmq mends, where a hole is nothing new.

A `Connection` is what a client has: two lines and a routing id. When it is cut, neither end is told at once, and
sometimes neither ever is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from restante.wire import auth_link, codec, envelopes
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.broker_process import BrokerProcess
    from tests.simulation.store_process import StoreProcess

M = TypeVar("M")

RECONNECT_S = 0.1
"""How soon libzmq mends a connection to a peer that is there."""


class Weather(Struct):
    """How bad it is. One for all lines; it clears up when the faults are over."""

    delay_s: float
    """The mean of how long an envelope takes."""
    loss: float = 0.0
    """The share of envelopes that vanish by themselves, where lines are mended."""
    copies: float = 0.0
    """The share that comes twice."""

    def clear(self) -> None:
        """From now on only time passes."""
        self.delay_s = min(self.delay_s, 0.002)
        self.loss = self.copies = 0.0


class Line(Generic[M]):
    """One direction of a connection. `deliver` is called with what arrives."""

    def __init__(
        self, world: World, name: str, weather: Weather, deliver: Callable[[M], None], *, mended: bool
    ) -> None:
        self._world = world
        self._name = name
        self._dice = world.dice(f"line/{name}")
        self._weather = weather
        self._deliver = deliver
        self._mended = mended
        self._under_way: deque[tuple[float, float, M]] = deque()
        """When it left, when it arrives, what it is."""
        self._still_until = 0.0
        self._open = True
        self._ready = True

    def send(self, message: M, lag_s: float = 0.0) -> None:
        """Send it; it leaves `lag_s` from now, since whoever sends it is still at work."""
        if not self._open:
            return
        if self._mended and self._weather.loss and self._dice.random() < self._weather.loss:
            self._say("lost", message)
            return
        self._take(message, lag_s)
        if self._weather.copies and self._dice.random() < self._weather.copies:
            self._world.after(lag_s + self._dice.uniform(0.0, 4.0), lambda: self._repeat(message))

    def cut(self) -> None:
        """It is over: a first part of what is under way still arrives, maybe late."""
        now = self._world.now
        left = [row for row in self._under_way if row[0] <= now]
        keep = self._dice.randint(0, len(left))
        for _, _, message in [*self._under_way][keep:]:
            self._say("lost in a cut", message)
        self._under_way = deque(left[:keep])
        self._open = False

    def drop(self) -> None:
        """It is over, and nothing of what is under way arrives."""
        self._under_way.clear()
        self._open = False

    def tear(self) -> None:
        """It is broken and mended: what is under way is lost up to some place, and what lies behind it arrives."""
        lose = self._dice.randint(0, len(self._under_way))
        for _ in range(lose):
            self._say("lost in a tear", self._under_way.popleft()[2])
        self.stand_still(RECONNECT_S)

    def stand_still(self, seconds: float) -> None:
        """Nothing arrives for so long."""
        self._still_until = max(self._still_until, self._world.now + seconds)
        self._world.at(self._still_until, self._arrive)

    def hold(self) -> None:
        """Its reader is not there: what arrives waits."""
        self._ready = False

    def release(self) -> None:
        """Its reader is there again."""
        self._ready = True
        self.stand_still(RECONNECT_S)

    def _take(self, message: M, lag_s: float) -> None:
        leaves = self._world.now + lag_s
        mean_s = self._weather.delay_s
        arrives = leaves + min(self._dice.expovariate(1 / mean_s), 20 * mean_s)
        self._under_way.append((leaves, arrives, message))
        self._world.at(arrives, self._arrive)

    def _repeat(self, message: M) -> None:
        if self._open:
            self._say("comes again", message)
            self._take(message, 0.0)

    def _arrive(self) -> None:
        """Hand over what is due, up to the first that is not: what lies behind that waits for it."""
        now = self._world.now
        while self._under_way and self._under_way[0][1] <= now and self._ready and self._still_until <= now:
            self._deliver(self._under_way.popleft()[2])

    def _say(self, what: str, message: M) -> None:
        if self._world.tracing:
            self._world.say("network", f"{self._name}: {what}: {message!r}"[:300])


Envelope = tuple[M, bytes]
"""A header and its body."""

Up = TypeVar("Up")
Down = TypeVar("Down")


class Connection(Generic[Up, Down]):
    """A connection to a ROUTER. `routing_id` is what that one calls it."""

    def __init__(
        self, up: Line[Envelope[Up]], down: Line[Envelope[Down]], routing_id: bytes, number: int, name: str
    ) -> None:
        self.up = up
        self.down = down
        self.routing_id = routing_id
        self.number = number
        """Which connection it is: routing ids may be claimed, numbers not."""
        self.name = name
        """The connecting process's."""
        self.on_cut: Callable[[], None] = lambda: None
        """Tells the connecting end that it broke, when that hears of it."""

    def cut(self) -> None:
        """Both directions are over; the ends hear of it from others, or not."""
        self.up.cut()
        self.down.cut()

    def stand_still(self, seconds: float) -> None:
        """Nothing arrives for so long, either way."""
        self.up.stand_still(seconds)
        self.down.stand_still(seconds)


ClientConnection = Connection[envelopes.ToBroker, envelopes.ToClient]
WorkerConnection = Connection[auth_link.FromWorker, auth_link.ToWorker]


class Network:
    """Everybody's lines. Who is to be reached is put in when all processes exist."""

    broker: BrokerProcess
    store: StoreProcess

    def __init__(self, world: World, weather: Weather, *, real_frames: bool) -> None:
        self.world = world
        self.weather = weather
        self._real_frames = real_frames
        """Whether every envelope is made into frames and read again, by the real codec: ten times the work."""
        self._lines: dict[str, int] = {}
        """How many there were of each name: what is said on one changes no other's dice."""

    def line(
        self, name: str, deliver: Callable[[Envelope[M]], None], reader: codec.Reader[M], *, mended: bool = True
    ) -> Line[Envelope[M]]:
        """A new line, to whoever `deliver` is; `mended` if libzmq mends it."""
        number = self._lines[name] = self._lines.get(name, 0) + 1
        arrives = partial(_as_frames, reader, deliver) if self._real_frames else deliver
        return Line(self.world, f"{name}/{number}", self.weather, arrives, mended=mended)


def _as_frames(reader: codec.Reader[M], deliver: Callable[[Envelope[M]], None], envelope: Envelope[M]) -> None:
    header, body = envelope
    assert isinstance(header, Struct), "every header is one"
    deliver((reader.read_header(codec.pack_header(header)), body))
