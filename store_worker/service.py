"""The store's sockets and its journal: what arrives becomes an event, what the core wants done is done.

PULL    brokers' batches and queries         CURVE, enrolled keys
PUSH    confirmations and answers            one a broker and opening of its link (RULES 6)
ROUTER  a backup, where there is `--control` ipc, in a thread of its own (`runtime.control`)

The journal is called in the loop's own thread: while it syncs nothing else could be decided anyway, and what arrives
meanwhile makes the next batch larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from restante.wire import limits, links
from restante.wire.errors import RemoteProtocolError
from restante.wire.store_link import CountMailbox, Failed, Query, Reading, ReadPage, ReadStatus
from runtime import keys, sockets
from runtime.control import Control
from runtime.errors import SetupError
from runtime.lifeline import Notifier
from runtime.logging import get_logger
from runtime.loop import Loop
from runtime.pulse import pulse_at
from runtime.sockets import Socket
from runtime.watch import RefusalLog
from runtime.zap import Enrolled, Zap
from store_worker.backup import Copyable, Copying
from store_worker.core import Store
from store_worker.events import (
    Action,
    Arrived,
    CatchUp,
    CaughtUp,
    Commit,
    CommitFailed,
    Committed,
    Complain,
    Connect,
    CopyOver,
    CopyWanted,
    CountOpen,
    Disconnect,
    Drained,
    Due,
    End,
    Event,
    Found,
    Malformed,
    OpenCounted,
    OpenFailed,
    Read,
    Send,
    StepCopy,
    StopRequested,
    Unsendable,
)
from store_worker.journal import Journal, RolledBack, Write
from store_worker.settings import Settings

BROKERS = "brokers"
"""The ZAP domain of those who may say what is stored."""

LINGER_MS = 1_000
"""For the last confirmations, at an orderly end: lost they would only be asked for again."""

WallClock = Callable[[], int]
"""Microseconds since the epoch."""


def wall_clock() -> int:
    """Return wall time in microseconds since the epoch."""
    return time.time_ns() // 1_000


class BrokerInlet:
    """Brokers' envelopes."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def receive(self) -> Event | None:
        frames = sockets.receive_now(self.socket)
        if frames is None:
            return None
        try:
            return Arrived(*links.to_store.read(frames))
        except RemoteProtocolError as error:
            return Malformed(str(error))


class Service:
    """One running store. The journal is the caller's."""

    def __init__(self, settings: Settings, journal: Journal, clock: WallClock = wall_clock) -> None:
        """Begin to listen. Raises SetupError and JournalError, and then leaves nothing behind."""
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._log = get_logger()
        self._notifier = Notifier(settings.notify_fd)
        self._keys = keys.load_or_make(settings.keys)
        self._client = self._identity()
        started = journal.start()
        self._context = sockets.make_context()
        self._zap = Zap(self._context, {BROKERS: Enrolled(settings.keys, "broker")})
        self._ways: dict[str, Socket] = {}
        self._refusals: dict[str, RefusalLog] = {}
        pull = sockets.pull(self._context, frame_bytes_max=limits.LINK_FRAME_BYTES_MAX)
        self._loop: Loop[Event, Action] = Loop(
            Store(started),
            [BrokerInlet(pull)],
            self._perform,
            due=Due(),
            drained=Drained(),
            stop=StopRequested(),
            lifeline=settings.lifeline_fd,
            pulse=pulse_at(settings.pulse),
        )
        self._copying: Copying | None = None
        self._control: Control | None = None
        self._zap.start()
        try:
            self.endpoint = sockets.bind(pull, settings.listen, sockets.Server(self._keys, BROKERS))
            if settings.control is not None:
                self._listen_to_control(settings.control)
        except BaseException:
            self.close()
            raise
        self._log.info("listening", endpoint=self.endpoint, epoch=started.epoch, high=started.high)

    def run(self) -> bool:
        """Serve until stopped; False if it was stopped before it had finished.

        Raises OutcomeUnknown and Unusable: then nothing more is answered, and the process ends.
        """
        self._notifier.note(ready=True, endpoint=self.endpoint)
        return self._loop.run()

    def close(self, *, linger_ms: int = 0) -> None:
        """Free every socket, giving the last confirmations so long to get out."""
        if self._copying is not None:
            self._copying.close()
        if self._control is not None:
            self._control.close()
        self._loop.close()
        self._zap.stop()
        for refusals in self._refusals.values():
            refusals.close()  # before what it watches: see there
        self._context.destroy(linger=linger_ms)

    # --- performing ---------------------------------------------------------------------------------------

    def _perform(self, action: Action) -> Iterable[Event]:
        match action:
            case Commit(writes):
                return (self._commit(writes),)
            case Send(name, header, body):
                way = self._ways.get(name)
                if way is None or not sockets.send_now(way, links.store_frames(header, body)):
                    return (Unsendable(name),)
            case Read(ask):
                return (Found(ask, *self._read(action.query)),)
            case CountOpen(name, nonce):
                return (self._count_open(name, nonce),)
            case Connect(name):
                self._disconnect(name)
                self._connect(name)
            case Disconnect(name):
                self._disconnect(name)
            case StepCopy():
                return self._step_copy()
            case CatchUp():
                return (self._catch_up(),)
            case Complain(text):
                self._log.warning(text)
            case End():
                self._loop.end()
        return ()

    def _commit(self, writes: Sequence[Write]) -> Event:
        try:
            return Committed(self._journal.commit(writes, self._clock()))
        except RolledBack as error:
            return CommitFailed(error.code, error.text)

    def _catch_up(self) -> Event:
        try:
            return CaughtUp(self._journal.catch_up())
        except RolledBack as error:
            self._log.warning("nothing is lost, but less is in order than could be", why=error.text)
            return CaughtUp(False)

    def _step_copy(self) -> Iterable[Event]:
        assert self._copying is not None, "only the control socket wants copies"
        return (CopyOver(),) if self._copying.step() else ()

    def _listen_to_control(self, endpoint: str) -> None:
        if not isinstance(self._journal, Copyable):
            raise SetupError("This store keeps nothing on disk, so there is nothing to back up. Leave out --control.")
        self._copying = Copying(self._journal, lambda: self._loop.post(CopyWanted()))
        self._control = Control(self._context, endpoint, self._copying.make)

    def _read(self, query: Query) -> tuple[Reading, bytes]:
        try:
            if isinstance(query, ReadPage):
                return self._journal.page(query)
            if isinstance(query, ReadStatus):
                return self._journal.status(query), b""
            assert isinstance(query, CountMailbox)
            return self._journal.count(query), b""
        except RolledBack as error:
            return Failed(code=error.code, text=error.text), b""

    def _count_open(self, name: str, nonce: bytes) -> Event:
        try:
            generation = self._journal.open(name, nonce)
        except RolledBack as error:
            return OpenFailed(name, error.text)
        self._log.info("link opened", broker=name, generation=generation)
        return OpenCounted(name, nonce, generation)

    def _connect(self, name: str) -> None:
        way = sockets.push(self._context)
        self._ways[name] = way
        self._refusals[name] = refusals = RefusalLog(way, "broker")
        self._loop.add(refusals)
        sockets.connect(way, self._settings.broker, self._client)

    def _disconnect(self, name: str) -> None:
        way = self._ways.pop(name, None)
        if way is not None:
            refusals = self._refusals.pop(name)
            self._loop.remove(refusals)
            refusals.close()
            way.close(0)

    def _identity(self) -> sockets.Client | None:
        """What this store proves to the broker, and the broker to it. Raises SetupError if that key isn't enrolled."""
        if not self._settings.broker.startswith("tcp://"):
            return None
        return sockets.Client(self._keys, keys.peer(self._settings.keys, "broker"))


@contextmanager
def running(settings: Settings, journal: Journal) -> Iterator[Service]:
    """A store that is closed at the end: with time for its last confirmations if it ended well, at once if not."""
    service = Service(settings, journal)
    linger_ms = 0
    try:
        yield service
        linger_ms = LINGER_MS
    finally:
        service.close(linger_ms=linger_ms)
