"""A whole server and its users in one world: built from a plan, run, and asked in the end what it holds.

0 s        FAULTS_S                                   at most SETTLE_S later
├─ mishaps ────┤ everything runs again, the weather clears ─┤ audit ─┤ checker
"""

from __future__ import annotations

import random
from copy import copy
from functools import partial
from typing import Any, Final, Protocol

from auth_service.memory import MemoryAccounts
from restante.wire.limits import HEARTBEAT_S, MAILBOX_UNREAD_MAX, SILENCES_MAX
from store_worker.memory import MemoryJournal
from tests.simulation import narrow
from tests.simulation.auth_process import AuthProcess
from tests.simulation.broker_process import BrokerProcess
from tests.simulation.chores import programs
from tests.simulation.client import ClientProcess, Program
from tests.simulation.history import History, Mailbox, Span
from tests.simulation.network import RECONNECT_S, Network
from tests.simulation.plan import FAULTS_S, Mishap, Plan, auth_names
from tests.simulation.process import Process
from tests.simulation.store_process import COMMIT_S, StoreProcess
from tests.simulation.strangers import forgeries
from tests.simulation.workload import Crowd, Seat, User, audit
from tests.simulation.world import Trace, World

SETTLE_S: Final = 240.0
"""How long all that was begun may take once nothing goes wrong any more. The longest waits: a client gives up a
half-open connection after 60 s, the broker a client after 90 s; and some of it comes one after the other."""

AUDIT_S: Final = HEARTBEAT_S * SILENCES_MAX + 60.0
"""How long reading all mailboxes may take: also if a word that is still on its way ends the broker, and a reader whose
connection is gone without a sign has only silence to find it out by.
"""


class Stopping(Protocol):
    """Whose connection can stand still."""

    def stand_still(self, seconds: float) -> None: ...


class Cluster:
    """One world, from its beginning to its end."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.weather = copy(plan.weather)
        self.history = History()
        self.world = World(plan.seed, trace)
        self.network = Network(self.world, self.weather, real_frames=plan.real_frames)
        unread_max = plan.unread_max or MAILBOX_UNREAD_MAX
        self.journal = MemoryJournal(history=self.world.dice("history").randbytes(16), unread_max=unread_max)
        self.accounts = MemoryAccounts()
        self.broker = self.network.broker = BrokerProcess(self.world, self.network, self.history)
        self.store = self.network.store = StoreProcess(self.world, self.network, self.journal)
        self.store.disk.unsure = plan.unsure_disk
        names = auth_names(plan.auth_workers)
        self.workers = [AuthProcess(self.world, name, self.network, self.accounts) for name in names]
        self.broker.narrow = bool(plan.bounds)
        self.crowd = Crowd(plan.people, self.world.dice("people"))
        self.clients = [self._client(seat) for seat in self.crowd.seats]
        self.history.limits = {"unread": unread_max, **narrow.usual(), **plan.bounds}
        self.processes: dict[str, Process[Any, Any]] = {}
        everybody: list[Process[Any, Any]] = [self.broker, self.store, *self.workers, *self.clients]
        for process in everybody:
            process.on_death = self._restart
            self.processes[process.name] = process
        self._down_s: dict[str, float] = {}
        self._healed = False
        self.cuts = 0
        """Connections that broke, of clients, workers and the store link."""
        self._busiest = self.clients[0]
        self._dice = self.world.dice("cluster")

    def _client(self, seat: Seat) -> ClientProcess:
        run = partial(programs, seat, self.crowd)
        seat.client = ClientProcess(self.world, seat.device.name, self.network, self.history, run)
        return seat.client

    def run(self) -> History:
        """All of it. Raises what a core raises, and Endless."""
        with narrow.limits(self.plan.bounds):
            return self._run()

    def _run(self) -> History:
        for name in self.processes:
            self.world.at(self._dice.uniform(0.0, 0.2), partial(self._start, name))
        for mishap in self.plan.mishaps:
            self.world.at(mishap.at, partial(self._befall, mishap))
        self.world.run(FAULTS_S, self._settled)
        self._heal()
        if self.world.run(self.world.now + SETTLE_S, self._settled):
            self._audit()
        else:
            self.history.unfinished += [client.doing for client in self.clients if not client.idle]
        return self.history

    @property
    def crashes(self) -> int:
        """Processes that were killed, or died of something."""
        return sum(process.crashes for process in self.processes.values())

    def _settled(self) -> bool:
        """Asked after every event, so it looks first at whoever was not idle last time."""
        if not self._busiest.idle:
            return False
        busy = next((client for client in self.clients if not client.idle), None)
        self._busiest = busy or self._busiest
        return busy is None

    # --- what goes wrong ----------------------------------------------------------------------------------

    def _befall(self, mishap: Mishap) -> None:
        if self._healed:
            return
        self.world.say("fate", f"{mishap}")
        match mishap.kind:
            case "kill":
                self._down_s[mishap.whom] = mishap.for_s
                process = self.processes[mishap.whom]
                if mishap.steps:
                    process.doom(mishap.steps)
                else:
                    process.kill()
            case "pause":
                self.processes[mishap.whom].pause(min(mishap.for_s, FAULTS_S - self.world.now))
            case "cut":
                self._client_named(mishap.whom).cut()
                self.cuts += 1
            case "still":
                self._stand_still(mishap)
            case "part":
                self._part(mishap)
            case "tear":
                self._tear(mishap.whom)
                self.cuts += 1
            case "stranger":
                self._let_a_stranger_in(mishap.whom)
            case "close":
                self._close(mishap.whom)
            case "clock":
                skew_us = int(self._dice.uniform(-3_600e6, 3_600e6))
                self._clocked(mishap.whom).clock_skew_us = skew_us
            case _:
                self._trouble_disk(mishap)

    def _client_named(self, name: str) -> ClientProcess:
        return next(client for client in self.clients if client.name == name)

    def _worker_named(self, name: str) -> AuthProcess | None:
        return next((worker for worker in self.workers if worker.name == name), None)

    def _clocked(self, name: str) -> AuthProcess | StoreProcess:
        return self._worker_named(name) or self.store

    def _stand_still(self, mishap: Mishap) -> None:
        """A line stands still; between broker and store in one direction."""
        one: Stopping = self._worker_named(mishap.whom) or self.store
        if mishap.whom == "broker":
            one = self.broker
        elif mishap.whom in self.plan.devices:
            one = self._client_named(mishap.whom)
        one.stand_still(mishap.for_s)

    def _part(self, mishap: Mishap) -> None:
        """A partition: nothing gets through, either way, for long."""
        self._stand_still(mishap)
        if mishap.whom == "store":
            self.broker.stand_still(mishap.for_s)

    def _let_a_stranger_in(self, name: str) -> None:
        """Somebody's connection breaks, and a stranger claims the routing id that it had (RULES 1)."""
        claim = self._client_named(name).make_way() if self.broker.up else None
        if claim is not None:
            stranger = self.broker.accept_client("mallory", lambda envelope: None, claim=claim)
            for envelope in forgeries(name, self._dice, greets=self._dice.random() < 0.5):
                stranger.up.send(envelope)

    def _close(self, name: str) -> None:
        """An account ends, as far as the store can tell."""
        accounts = self.accounts.find([name])
        if accounts and self.broker.up and name not in self.history.closings:
            span = self.history.closings[name] = Span(self.world.now)
            self.broker.close_mailbox(accounts[0].account, span)

    def _tear(self, whom: str) -> None:
        if whom == "broker":
            self.broker.tear_store_line()
        elif whom == "store":
            self.store.tear_ways()
        else:
            next(worker for worker in self.workers if worker.name == whom).reconnect()

    def _trouble_disk(self, mishap: Mishap) -> None:
        disk = self.store.disk
        if mishap.kind in ("disk_full", "disk_failed"):
            disk.full, disk.code = self._dice.choice([0.3, 0.5, 1.0]), mishap.kind.replace("disk", "storage")
            disk.commit_s = self._dice.choice([0.1, 0.4])  # what is nearly full is slow
        else:
            disk.commit_s = self._dice.choice([0.4, 0.4, 2.0, 6.0])
        self.world.after(mishap.for_s, self._mend_disk)

    def _mend_disk(self) -> None:
        self.store.disk.full, self.store.disk.commit_s = 0.0, COMMIT_S

    def _restart(self, name: str) -> None:
        """A process died; its supervisor starts it again, or its user does."""
        if name == "broker":
            for client in self.clients:
                client.broker_died()
            self.store.broker_died()
            for worker in self.workers:
                worker.broker_died()
        delay_s = self._down_s.pop(name, 0.1)
        self.world.after(delay_s, partial(self._start, name))

    def _start(self, name: str) -> None:
        process = self.processes[name]
        if process.up:
            return
        process.start()
        if name == "broker":
            self.store.broker_is_back()
            for worker in self.workers:
                self.world.after(self._dice.uniform(0.0, 2 * RECONNECT_S), worker.reconnect)

    def _heal(self) -> None:
        """From now on nothing goes wrong that has not gone wrong already."""
        self.world.say("fate", "── nothing goes wrong from now on")
        self._healed = True
        self.weather.clear()
        self._mend_disk()
        self.store.disk.unsure = 0.0
        for name, process in self.processes.items():
            process.spare()
            self._start(name)

    # --- the end ------------------------------------------------------------------------------------------

    def _audit(self) -> None:
        self.world.say("fate", "── the audit")
        self.history.names = [user.name for user in self.crowd.users if user.registered]
        auditors = []
        for user in self.crowd.users:
            mailbox = self.history.mailboxes[user.name] = Mailbox()
            page = random.Random(f"{self.plan.seed}/audit/{user.name}").choice([1, 3, 1000])
            run = partial(_audited, user, mailbox, page)
            auditor = ClientProcess(self.world, f"{user.name}/auditor", self.network, History(), run)
            auditors.append(auditor)
            auditor.start()
        if not self.world.run(self.world.now + AUDIT_S, lambda: all(auditor.idle for auditor in auditors)):
            self.history.unfinished += [auditor.doing for auditor in auditors if not auditor.idle]


def _audited(user: User, mailbox: Mailbox, page: int, client: ClientProcess) -> list[Program]:
    return [audit(user, mailbox, page, client)]
