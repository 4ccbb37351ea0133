"""An authentication worker's process: what `auth_service.service` is with a socket and threads.

Durable, and shared with the other workers: the accounts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial

from auth_service import core as auth_core
from auth_service.answers import Answers, Policy
from auth_service.memory import MemoryAccounts
from auth_service.passwords import Checked
from restante.wire import auth_link
from tests.simulation.network import Envelope, Network, WorkerConnection
from tests.simulation.process import Process
from tests.simulation.world import World


class PlainPasswords:
    """Passwords under one round of SHA-256: for a world in which nobody steals a database."""

    def hash(self, password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    def check(self, password: str, stored: str | None) -> Checked:
        return Checked(right=self.hash(password) == stored)


class AuthProcess(Process[auth_core.Event, auth_core.Action]):
    """One authentication worker. Durable, and shared with the others: the accounts."""

    due = auth_core.Due()

    def __init__(self, world: World, name: str, network: Network, accounts: MemoryAccounts) -> None:
        super().__init__(world, name)
        self._network = network
        self._dice = world.dice(name)
        self._answers = Answers(accounts, PlainPasswords(), self._dice.randbytes, Policy())
        self._link: WorkerConnection | None = None
        self._unsent: list[auth_link.FromWorker] = []
        self._abandoned: set[int] = set()
        self.clock_skew_us = 0

    def boot(self) -> auth_core.Core:
        self._abandoned.clear()
        self.connect()
        return auth_core.Core(self._dice.randbytes(16), self.world.now)

    def died(self) -> None:
        self._drop_link()

    def connect(self) -> None:
        """A new DEALER, which finds the broker if that one is there; if not, libzmq goes on trying."""
        self._unsent.clear()
        self._attach()

    def reconnect(self) -> None:
        """The connection is mended by libzmq, without a word: to the broker it is another. What waits goes over it."""
        if self.up:
            self._attach()

    def _attach(self) -> None:
        self._drop_link()
        if not self._network.broker.up:
            return
        self._link = self._network.broker.accept_worker(self.name, partial(self._heard, self.life))
        unsent, self._unsent = self._unsent, []
        for header in unsent:
            self._link.up.send((header, b""))

    def _heard(self, life: int, envelope: Envelope[auth_link.ToWorker]) -> None:
        if self.life == life:
            self.receive(auth_core.Heard(envelope[0]))

    def stand_still(self, seconds: float) -> None:
        """Nothing gets through for so long, either way."""
        if self._link is not None:
            self._link.stand_still(seconds)

    def broker_died(self) -> None:
        """What is said from now on waits for its successor."""
        self._link = None

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.cut()
            self._network.broker.forget_worker(self._link)
            self._link = None

    def perform(self, action: auth_core.Action) -> Iterable[auth_core.Event]:
        match action:
            case auth_core.Say(header):
                if self._link is not None:
                    self._link.up.send((header, b""), self.lag_s)
                else:
                    self._unsent.append(header)
            case auth_core.Work(job, question):
                self._begin(job, question)
            case auth_core.Abandon(job):
                self._abandoned.add(job)
            case auth_core.Connect():
                self.connect()
            case auth_core.End():
                self.kill()
        return ()

    def _begin(self, job: int, question: auth_link.Question) -> None:
        """In a thread: it is done some time from now, and told some time after that."""
        life, seconds = self.life, self._dice.expovariate(1 / 0.02)

        def work() -> None:
            if self.up and self.life == life and job not in self._abandoned:
                outcome = self._answers.answer(question, self.world.wall_us + self.clock_skew_us)
                self.world.after(seconds / 2, lambda: self._finished(life, job, outcome))

        self.world.after(self.lag_s + seconds / 2, work)

    def _finished(self, life: int, job: int, outcome: auth_link.Outcome) -> None:
        if self.life == life:
            self.receive(auth_core.Finished(job, outcome))
