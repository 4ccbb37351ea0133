"""The store's process: what `store_worker.service` is with sockets and a disk. Durable: the journal."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from restante.wire import links, store_link
from restante.wire.store_link import CountMailbox, ReadPage, ReadStatus
from store_worker import core as store_core
from store_worker import events as store_events
from store_worker.journal import OutcomeUnknown, RolledBack
from store_worker.memory import MemoryJournal
from tests.simulation.network import Envelope, Line, Network
from tests.simulation.process import Process
from tests.simulation.world import World

COMMIT_S = 0.0003
"""What a commit takes: fdatasync, as measured (FACTS)."""


class Disk(Struct):
    """How the disk does."""

    commit_s: float = COMMIT_S
    full: float = 0.0
    """The share of commits for which there is no room: a large one may not fit where a small one does."""
    code: str = "storage_full"
    """Why not: there is no room, or the device refuses."""
    unsure: float = 0.0
    """The share of commits whose outcome is unknown: the store ends, unanswered (RULES 9)."""


class StoreProcess(Process[store_events.Event, store_events.Action]):
    """The store. Durable: the journal."""

    drained = store_events.Drained()
    due = store_events.Due()

    def __init__(self, world: World, network: Network, journal: MemoryJournal) -> None:
        super().__init__(world, "store")
        self._network = network
        self._dice = world.dice("store")
        self.journal = journal
        self.disk = Disk()
        self.clock_skew_us = 0
        self.aborts = 0
        """Commits that were rolled back."""
        self._inlets: list[Line[Envelope[store_link.ToStore]]] = []
        self._ways: dict[str, Line[Envelope[store_link.FromStore]]] = {}

    def boot(self) -> store_core.Store:
        for line in self._inlets:
            line.release()
        return store_core.Store(self.journal.start())

    def died(self) -> None:
        for line in self._inlets:
            line.tear()
            line.hold()
        del self._inlets[:-1]  # nobody writes to those before it
        for way in self._ways.values():
            way.cut()
        self._ways.clear()

    def add_inlet(self, line: Line[Envelope[store_link.ToStore]]) -> None:
        """A broker connects a PUSH to our PULL."""
        self._inlets.append(line)
        if not self.up:
            line.hold()

    def broker_says(self, envelope: Envelope[store_link.ToStore]) -> None:
        """A broker's PUSH reached our PULL."""
        self.receive(store_events.Arrived(*envelope))

    def broker_died(self) -> None:
        """Our ways to it stay, and what is in them goes to its successor."""
        for way in self._ways.values():
            way.tear()
            way.hold()

    def broker_is_back(self) -> None:
        """Our ways to it are mended by libzmq."""
        for way in self._ways.values():
            way.release()

    def stand_still(self, seconds: float) -> None:
        """The connections that there are to the broker stand still; those made from now on don't."""
        for way in self._ways.values():
            way.stand_still(seconds)

    def tear_ways(self) -> None:
        """The connections to the broker break and are mended by libzmq."""
        for way in self._ways.values():
            way.tear()

    # --- performing ---------------------------------------------------------------------------------------

    def perform(self, action: store_events.Action) -> Iterable[store_events.Event]:
        match action:
            case store_events.Commit():
                return self._commit(action)
            case store_events.Read(ask):
                return (store_events.Found(ask, *self._read(ask.query)),)
            case store_events.CountOpen(name, nonce):
                self.lag_s += self.disk.commit_s
                if self._no_room():
                    return (store_events.OpenFailed(name, "the disk is full"),)
                return (store_events.OpenCounted(name, nonce, self.journal.open(name, nonce)),)
            case store_events.Send(name, header, body):
                way = self._ways.get(name)
                if way is None:
                    return (store_events.Unsendable(name),)
                way.send((header, body), self.lag_s)
            case store_events.Connect(name):
                self._disconnect(name)
                self._ways[name] = self._network.line("store>broker", self._network.broker.store_says, links.from_store)
                if not self._network.broker.up:
                    self._ways[name].hold()
            case store_events.Disconnect(name):
                self._disconnect(name)
            case store_events.CatchUp():
                return (store_events.CaughtUp(self.journal.catch_up()),)
            case store_events.End():
                self.kill()
        return ()

    def _commit(self, commit: store_events.Commit) -> Iterable[store_events.Event]:
        self.lag_s += self.disk.commit_s
        now_us = self.world.wall_us + self.clock_skew_us
        try:
            if self._no_room():
                self.aborts += 1
                raise RolledBack(self.disk.code, "the disk takes nothing")
            if self.disk.unsure and self._dice.random() < self.disk.unsure:
                if self._dice.random() < 0.5:
                    self.journal.commit(commit.writes, now_us)
                raise OutcomeUnknown("storage_failed", "the disk did not say")
            return (store_events.Committed(self.journal.commit(commit.writes, now_us)),)
        except RolledBack as error:
            return (store_events.CommitFailed(error.code, error.text),)
        except OutcomeUnknown:
            self.kill()
            return ()

    def _no_room(self) -> bool:
        return self.disk.full > 0.0 and self._dice.random() < self.disk.full

    def _read(self, query: store_link.Query) -> tuple[store_link.Reading, bytes]:
        match query:
            case ReadPage():
                return self.journal.page(query)
            case ReadStatus():
                return self.journal.status(query), b""
            case CountMailbox():
                return self.journal.count(query), b""

    def _disconnect(self, name: str) -> None:
        way = self._ways.pop(name, None)
        if way is not None:
            way.cut()
