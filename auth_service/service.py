"""Wires the worker: its link to the broker, its core, and the threads that answer.

    DEALER ──► Heard ──► core ──► Work ──► a thread ──► answers ──► Finished ──► core ──► Told ──► DEALER

Two pools of threads, so that nobody who resumes waits behind those who log in: `threads` for what hashes or changes,
one for what only reads. What waits for them is bounded by the core's capacity.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from auth_service import backup
from auth_service.accounts import Accounts
from auth_service.answers import READS, Answers, Policy
from auth_service.core import (
    Abandon,
    Action,
    Connect,
    Core,
    Due,
    End,
    Event,
    Finished,
    Garbled,
    Heard,
    Note,
    Say,
    Stopped,
    Work,
)
from auth_service.passwords import Argon2
from auth_service.settings import Settings
from auth_service.sqlite import SqliteAccounts
from restante.wire import auth_link, links
from restante.wire.errors import CODES, RemoteProtocolError
from restante.wire.limits import ID_BYTES
from runtime import keys, sockets
from runtime.control import Control, Facts, Job
from runtime.errors import SetupError
from runtime.lifeline import Notifier
from runtime.logging import get_logger
from runtime.loop import Loop
from runtime.pulse import pulse_at
from runtime.sockets import Socket
from runtime.watch import RefusalLog

DATABASE: Final = "accounts.db"
"""The file's name in the data directory."""


class Link:
    """One DEALER to the broker, and how what arrives on it becomes an event."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.refusals = RefusalLog(socket, "broker")

    def receive(self) -> Event | None:
        frames = sockets.receive_now(self.socket)
        if frames is None:
            return None
        try:
            return Heard(links.to_auth_worker.read(frames)[0])
        except RemoteProtocolError as error:
            return Garbled(error.code, error.text)

    def say(self, header: auth_link.FromWorker) -> bool:
        """Send it if that can be done at once."""
        return sockets.send_now(self.socket, links.auth_frames(header))

    def close(self) -> None:
        """Close, dropping what has not gone out."""
        self.refusals.close()
        self.socket.close(0)


class Service:
    """One running worker."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        """Raises SetupError if the keys or the endpoint can't be used."""
        self._settings = settings
        self._client = _identity(settings)
        self._answers = Answers(accounts, Argon2(), secrets.token_bytes, Policy(settings.token_days))
        self._log = get_logger()
        self._hashing = ThreadPoolExecutor(settings.threads, thread_name_prefix="hashing")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self._futures: dict[int, Future[auth_link.Outcome]] = {}
        self._context = sockets.make_context()
        self._link = self._connect()
        self._loop: Loop[Event, Action] = Loop(
            Core(secrets.token_bytes(ID_BYTES), time.monotonic()),
            [self._link, self._link.refusals],
            self._perform,
            due=Due(),
            stop=Stopped(),
            lifeline=settings.lifeline_fd,
            pulse=pulse_at(settings.pulse),
        )
        self._control = self._listen_to_control()

    def run(self) -> bool:
        """Serve until stopped. True if all that was in hand was answered."""
        self._log.info("serving", broker=self._settings.broker, threads=self._settings.threads)
        Notifier(self._settings.notify_fd).note(ready=True)
        return self._loop.run()

    def close(self) -> None:
        """Let the threads end what they have begun, and free the link."""
        if self._control is not None:
            self._control.close()
        for pool in (self._hashing, self._reading):
            pool.shutdown(cancel_futures=True)
        self._loop.close()
        self._link.close()
        self._context.term()

    # --- performing ---------------------------------------------------------------------------------------

    def _perform(self, action: Action) -> Iterable[Event]:
        match action:
            case Say(header):
                if not self._link.say(header):
                    self._log.warning("not sent, the link is full", what=type(header).__name__)
            case Work(job, question):
                self._begin(job, question)
            case Abandon(job):
                self._abandon(job)
            case Connect():
                self._reconnect()
            case Note(what, trouble):
                (self._log.warning if trouble else self._log.info)(what)
            case End():
                self._loop.end()
        return ()

    def _connect(self) -> Link:
        link = Link(sockets.worker_dealer(self._context))
        try:
            sockets.connect(link.socket, self._settings.broker, self._client)
        except SetupError:
            self._context.destroy(0)
            raise
        return link

    def _listen_to_control(self) -> Control | None:
        """Any worker may be asked for a backup: it is made in a thread of its own, and no log-in waits for it."""
        if self._settings.control is None:
            return None
        try:
            return Control(self._context, self._settings.control, self._back_up)
        except SetupError:
            self._loop.close()
            self._context.destroy(0)
            raise

    def _back_up(self, path: Path, job: Job) -> Facts:
        return backup.make(self._settings.data / DATABASE, path, job)

    def _reconnect(self) -> None:
        for inlet in (self._link, self._link.refusals):
            self._loop.remove(inlet)
        self._link.close()
        self._link = self._connect()
        for inlet in (self._link, self._link.refusals):
            self._loop.add(inlet)

    def _begin(self, job: int, question: auth_link.Question) -> None:
        pool = self._reading if isinstance(question, READS) else self._hashing
        future = pool.submit(self._answer, question)
        self._futures[job] = future
        future.add_done_callback(lambda done: self._done(job, done))

    def _abandon(self, job: int) -> None:
        future = self._futures.get(job)
        if future is not None:
            future.cancel()

    def _answer(self, question: auth_link.Question) -> auth_link.Outcome:
        """In a thread."""
        outcome = self._answers.answer(question, time.time_ns() // 1000)
        if isinstance(outcome, auth_link.Refused) and outcome.code in _TROUBLE:
            self._log.error("refused", question=type(question).__name__, code=outcome.code, why=outcome.text)
        return outcome

    def _done(self, job: int, future: Future[auth_link.Outcome]) -> None:
        """In a thread; in the loop's for one that was cancelled. An exception is answered too: what nobody answers
        goes to the next worker.
        """
        self._futures.pop(job, None)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._log.error("a question can't be answered", exc_info=error)
            self._loop.post(Finished(job, auth_link.Refused(code="internal", text=CODES["internal"].meaning)))
        else:
            self._loop.post(Finished(job, future.result()))


_TROUBLE: Final = frozenset({"storage_full", "storage_failed", "unavailable"})
"""Refusals that whoever runs the server must hear of."""


def _identity(settings: Settings) -> sockets.Client | None:
    """Our keys and the broker's, where the link is TCP."""
    if not settings.broker.startswith("tcp://"):
        return None
    if settings.keys is None:
        raise SetupError(f"{settings.broker} is TCP, which needs keys. Give --keys, the auth service's key directory.")
    return sockets.Client(keys.load(settings.keys), keys.peer(settings.keys, "broker"))


@contextmanager
def running(settings: Settings) -> Iterator[Service]:
    """A worker with its database, which ends with it. Raises SetupError if it can't start."""
    accounts = SqliteAccounts(settings.data / DATABASE)
    try:
        service = Service(settings, accounts)
        try:
            yield service
        finally:
            service.close()
    finally:
        accounts.close()
