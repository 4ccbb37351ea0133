"""The broker's sockets: what arrives becomes an event, what the core wants done is done.

ROUTER  clients          CURVE, any key; ZAP tells which
ROUTER  workers          CURVE, enrolled keys
PULL    the store's confirmations     CURVE, enrolled keys
PUSH    to the store     one an opening of the link (RULES 6)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from broker.core import Broker, Config
from broker.events import (
    Action,
    Announce,
    Arrived,
    AskWorker,
    CutOff,
    Drained,
    Due,
    End,
    Event,
    Malformed,
    OpenLink,
    Peer,
    Push,
    PushFailed,
    Reply,
    Report,
    StopRequested,
    StoreArrived,
    Unreachable,
    WorkerArrived,
    WorkerUnreachable,
)
from broker.settings import Settings
from restante.wire import codec, limits, links
from restante.wire.address import Address
from restante.wire.errors import RemoteProtocolError
from runtime import keys, sockets
from runtime.errors import SetupError
from runtime.guard import Excess, Guard
from runtime.lifeline import Notifier
from runtime.logging import get_logger
from runtime.loop import Loop
from runtime.pulse import pulse_at
from runtime.sockets import Context, Socket
from runtime.watch import RefusalLog
from runtime.zap import Enrolled, Rule, Zap, anyone

CLIENTS, AUTH_WORKERS, STORES = "clients", "auth-workers", "stores"
"""The ZAP domains, one a kind of peer (RULES 2)."""


class ClientInlet:
    """Clients' envelopes. `trusts` says whether a peer has logged in: a stranger's large header is not decoded."""

    def __init__(self, socket: Socket, trusts: Callable[[Peer], bool], guard: Guard) -> None:
        self.socket = socket
        self._trusts = trusts
        self._guard = guard

    def receive(self) -> Event | None:
        routed = sockets.receive_routed(self.socket)
        if routed is None:
            return None
        frames = routed.frames
        self._guard.took(routed.routing_id, routed.descriptor, sum(map(len, frames)), len(frames))
        peer = Peer(routed.routing_id, routed.user_id, routed.address)
        size = codec.header_size(frames)
        if size > limits.GREETING_BYTES_MAX and not self._trusts(peer):
            text = f"the header has {size} bytes, the limit before a login is {limits.GREETING_BYTES_MAX}"
            return Malformed(peer, RemoteProtocolError("too_large", text))
        try:
            envelope, body = codec.from_client.read(frames)
        except RemoteProtocolError as error:
            return Malformed(peer, error)
        return Arrived(peer, envelope, body)


class WorkerInlet:
    """Authentication workers' envelopes. What is none is a fault of our own house: it is logged and dropped."""

    def __init__(self, socket: Socket, *, curve: bool) -> None:
        self.socket = socket
        self._curve = curve

    def receive(self) -> Event | None:
        while (routed := sockets.receive_routed(self.socket, curve=self._curve)) is not None:
            try:
                return WorkerArrived(routed.routing_id, links.from_auth_worker.read(routed.frames)[0])
            except RemoteProtocolError as error:
                get_logger().error("an authentication worker sent what is no envelope", why=str(error))
        return None


class StoreInlet:
    """The store's envelopes, likewise."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket

    def receive(self) -> Event | None:
        while (frames := sockets.receive_now(self.socket)) is not None:
            try:
                return StoreArrived(*links.from_store.read(frames))
            except RemoteProtocolError as error:
                get_logger().error("the store sent what is no envelope", why=str(error))
        return None


class Service:
    """One running broker."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._keys = keys.load_or_make(settings.keys)
        self._log = get_logger()
        self._notifier = Notifier(settings.notify_fd)
        self._push: Socket | None = None
        self._refusals: RefusalLog
        self._clients = sockets.client_router(
            context,
            frame_bytes_max=limits.FRAME_BYTES_MAX,
            receive_hwm=limits.RECEIVE_HWM,
            send_hwm=limits.SEND_HWM,
        )
        self._workers = sockets.worker_router(context)
        self._confirms = sockets.pull(context, frame_bytes_max=limits.LINK_FRAME_BYTES_MAX)
        self.endpoint = self._bind(self._clients, settings.listen, CLIENTS)
        self._bind(self._workers, settings.workers, AUTH_WORKERS)
        self._bind(self._confirms, settings.confirms, STORES)
        self.address = self._address()
        self._reason = ""
        core = Broker(self._config())
        self._guard = Guard(int(self.endpoint.rpartition(":")[2]), self._cut_off, core.knows)
        self._loop: Loop[Event, Action] = Loop(
            core,
            [
                ClientInlet(self._clients, core.trusts, self._guard),
                WorkerInlet(self._workers, curve=settings.workers.startswith("tcp://")),
                StoreInlet(self._confirms),
            ],
            self._perform,
            due=Due(),
            drained=Drained(),
            stop=StopRequested(),
            lifeline=settings.lifeline_fd,
            pulse=pulse_at(settings.pulse),
        )

    def run(self) -> str:
        """Serve until stopped. Returns why it had to end, "" after a wished stop."""
        self._log.info("listening", endpoint=self.endpoint, registration_open=self._settings.registration_open)
        self._guard.start()
        finished = self._loop.run()
        return self._reason or ("" if finished else "it was stopped before it had finished")

    def close(self) -> None:
        """Free every socket, at once."""
        self._guard.stop()
        self._loop.close()
        if self._push is not None:
            self._refusals.close()
        for socket in (self._clients, self._workers, self._confirms, self._push):
            if socket is not None:
                socket.close(0)

    # --- performing ---------------------------------------------------------------------------------------

    def _perform(self, action: Action) -> Iterable[Event]:
        match action:
            case Reply(routing_id, envelope, body):
                frames = codec.client_frames(envelope, body)
                if not sockets.send_now(self._clients, [routing_id, *frames]):
                    return (Unreachable(routing_id),)
                self._guard.gave(routing_id, len(frames[1]) + len(body))
            case Push(envelope, parts):
                frames = links.store_frames(envelope, parts[0] if len(parts) == 1 else b"".join(parts))
                if self._push is None or not sockets.send_now(self._push, frames):
                    return (PushFailed(),)
            case AskWorker(routing_id, question):
                if not sockets.send_now(self._workers, [routing_id, *links.auth_frames(question)]):
                    return (WorkerUnreachable(routing_id),)
            case OpenLink():
                self._open_link()
            case Announce(ready):
                self._log.info("ready" if ready else "not ready: a worker is missing")
                self._notifier.note(ready=ready, endpoint=self.endpoint, address=str(self.address))
            case Report(counts):
                self._log.warning("refused or thrown away", **counts)
            case End(reason):
                self._reason = reason
                self._loop.end()
        return ()

    def _cut_off(self, excess: Excess) -> None:
        """Called by the guard, in its thread."""
        if not excess.idle:  # those come and go: a network fails, a laptop is closed
            self._log.warning("a connection was cut: too much waits", untaken=excess.untaken, unread=excess.unread)
        self._loop.post(CutOff())

    def _open_link(self) -> None:
        """A new PUSH to the store: what the old one held must not reach it any more (RULES 6)."""
        if self._push is not None:
            self._loop.remove(self._refusals)
            self._refusals.close()
            self._push.close(0)
        self._push = sockets.push(self._context)
        self._refusals = RefusalLog(self._push, "store")
        self._loop.add(self._refusals)
        client = None
        if self._settings.store.startswith("tcp://"):
            client = sockets.Client(self._keys, keys.peer(self._settings.keys, "store"))
        sockets.connect(self._push, self._settings.store, client)

    # --- setting up ---------------------------------------------------------------------------------------

    def _bind(self, socket: Socket, endpoint: str, domain: str) -> str:
        return sockets.bind(socket, endpoint, sockets.Server(self._keys, domain))

    def _address(self) -> Address:
        """What clients need: the advertised host and port, else those it listens on."""
        host, _, port = self.endpoint.removeprefix("tcp://").rpartition(":")
        advertised = self._settings.advertise
        if advertised:
            name, colon, told = advertised.rpartition(":")
            if colon and told.isdigit():
                host, port = name, told
            else:
                host = advertised
        if host in ("0.0.0.0", "[::]", "*"):
            host = "127.0.0.1"
        return Address(host=host, port=int(port), key=keys.raw_key(self._keys.public))

    def _config(self) -> Config:
        return Config(
            name=durable_name(self._settings.data),
            seed=secrets.token_bytes(limits.ID_BYTES),
            server=f"restante/{version('restante')}",
            registration_open=self._settings.registration_open,
            sessions_max=self._settings.sessions_max,
        )


def durable_name(data: Path) -> str:
    """This broker's name on the store link, made on its first start: a restarted broker must be the same one."""
    path = data / "broker-name"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            keys.write_durably(path, f"broker-{secrets.token_hex(8)}\n", 0o600)
        name = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SetupError(f"Can't use {data}: {error.strerror}. Make it writable for this user.") from error
    if not name:
        raise SetupError(f"{path} is empty. Remove it: the broker then takes a new name.")
    return name


@contextmanager
def running(settings: Settings) -> Iterator[Service]:
    """A broker with its context and its ZAP handler, which all end with it."""
    context = sockets.make_context()
    rules: dict[str, Rule] = {
        CLIENTS: anyone,
        AUTH_WORKERS: Enrolled(settings.keys, "auth"),
        STORES: Enrolled(settings.keys, "store"),
    }
    try:
        with Zap(context, rules):
            service = Service(settings, context)
            try:
                yield service
            finally:
                service.close()
    finally:
        # Not term(): a service that failed in its making may have left sockets open, and term() would wait for them.
        context.destroy(0)
