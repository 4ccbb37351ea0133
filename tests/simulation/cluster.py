"""A whole server and its users in one world: built from a plan, run, and asked in the end what it holds.

0 s        FAULTS_S                                   at most SETTLE_S later
├─ mishaps ────┤ everything runs again, the weather clears ─┤ audit ─┤ checker
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any, Final

from auth_service.memory import MemoryAccounts
from store_worker.memory import MemoryJournal
from tests.simulation.auth_process import AuthProcess
from tests.simulation.broker_process import BrokerProcess
from tests.simulation.client import ClientProcess
from tests.simulation.history import History, Mailbox
from tests.simulation.network import RECONNECT_S, Network
from tests.simulation.plan import FAULTS_S, Mishap, Plan, auth_names
from tests.simulation.process import Process
from tests.simulation.store_process import COMMIT_S, StoreProcess
from tests.simulation.workload import User, audit, meet, programs
from tests.simulation.world import Trace, World

SETTLE_S: Final = 240.0
"""How long all that was begun may take once nothing goes wrong any more. The longest waits: a client gives up a
half-open connection after 60 s, the broker a client after 90 s; and some of it comes one after the other."""

AUDIT_S: Final = 60.0
"""How long reading two mailboxes may take."""


class Cluster:
    """One world, from its beginning to its end."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.history = History()
        self.world = World(plan.seed, trace)
        self.network = Network(self.world, plan.weather, real_frames=plan.real_frames)
        self.journal = MemoryJournal(history=self.world.dice("history").randbytes(16))
        self.accounts = MemoryAccounts()
        self.broker = self.network.broker = BrokerProcess(self.world, self.network, self.history)
        self.store = self.network.store = StoreProcess(self.world, self.network, self.journal)
        self.store.disk.unsure = plan.unsure_disk
        names = auth_names(plan.auth_workers)
        self.workers = [AuthProcess(self.world, name, self.network, self.accounts) for name in names]
        self.users = meet(plan.clients, self.world.dice("users"))
        self.clients = [self._client(user) for user in self.users]
        self.processes: dict[str, Process[Any, Any]] = {}
        everybody: list[Process[Any, Any]] = [self.broker, self.store, *self.workers, *self.clients]
        for process in everybody:
            process.on_death = self._restart
            self.processes[process.name] = process
        self._down_s: dict[str, float] = {}
        self._healed = False
        self._dice = self.world.dice("cluster")

    def _client(self, user: User) -> ClientProcess:
        run = partial(programs, user, self.users)
        return ClientProcess(self.world, user.name, self.network, self.history, run)

    def run(self) -> History:
        """All of it. Raises what a core raises, and Endless."""
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

    def _settled(self) -> bool:
        return all(client.idle for client in self.clients)

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
            case "still":
                self._stand_still(mishap)
            case "tear":
                self._tear(mishap.whom)
            case _:
                self._trouble_disk(mishap)

    def _client_named(self, name: str) -> ClientProcess:
        return next(client for client in self.clients if client.name == name)

    def _stand_still(self, mishap: Mishap) -> None:
        if mishap.whom == "broker":
            self.broker.stand_still(mishap.for_s)
        elif mishap.whom == "store":
            self.store.stand_still(mishap.for_s)
        else:
            self._client_named(mishap.whom).stand_still(mishap.for_s)

    def _tear(self, whom: str) -> None:
        if whom == "broker":
            self.broker.tear_store_line()
        elif whom == "store":
            self.store.tear_ways()
        else:
            next(worker for worker in self.workers if worker.name == whom).reconnect()

    def _trouble_disk(self, mishap: Mishap) -> None:
        disk = self.store.disk
        if mishap.kind == "disk_full":
            disk.full = self._dice.choice([0.5, 1.0])
            disk.commit_s = self._dice.choice([disk.commit_s, 0.1, 0.4])  # what is nearly full is slow
            self.world.after(mishap.for_s, self._mend_disk)
        elif mishap.kind == "slow_disk":
            disk.commit_s = 0.4
            self.world.after(mishap.for_s, self._mend_disk)
        else:
            self.store.clock_skew_us = int(self._dice.uniform(-3_600e6, 3_600e6))

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
        self.plan.weather.clear()
        self._mend_disk()
        self.store.disk.unsure = 0.0
        for name, process in self.processes.items():
            process.spare()
            self._start(name)

    # --- the end ------------------------------------------------------------------------------------------

    def _audit(self) -> None:
        self.world.say("fate", "── the audit")
        self.history.names = [user.name for user in self.users if user.registered]
        auditors = []
        for user in self.users:
            mailbox = self.history.mailboxes[user.name] = Mailbox()
            page = random.Random(f"{self.plan.seed}/audit/{user.name}").choice([1, 3, 1000])
            name = f"{user.name}'s auditor"
            auditor = ClientProcess(
                self.world,
                name,
                self.network,
                History(),
                lambda client, u=user, m=mailbox, p=page: [audit(u, m, p, client)],  # type: ignore[misc]
            )
            auditors.append(auditor)
            auditor.start()
        if not self.world.run(self.world.now + AUDIT_S, lambda: all(auditor.idle for auditor in auditors)):
            self.history.unfinished += [auditor.doing for auditor in auditors if not auditor.idle]
