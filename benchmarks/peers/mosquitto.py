"""Mosquitto: MQTT at QoS 1. A mailbox is a persistent session with a subscription to a topic of its own.

*What its OK promises about the disk.* Nothing. A PUBACK says that the broker has the message in memory and has queued
it for every session; with `persistence true` the whole is written to a file every half hour (`autosave_interval`) and
at a regular end, so a crash loses what came since. https://mosquitto.org/man/mosquitto-conf-5.html
Traced: of messages sent one at a time none is written.

*Settings*: `persistence true`, and `max_queued_messages 0`: by default a session's queue holds 1,000 messages, and
drops the others silently. Else defaults.

*Client*: paho-mqtt 2, MQTT 3.1.1, its network loop turned by this thread ("external event loop"): with the loop in a
thread of its own, half as much got through. Acknowledgements are sent by hand (`manual_ack`), after the message was
taken. PUBACK has no answer; MQTT takes things in order, so the broker has had all of them when it closes what was told
to disconnect.

All mailboxes subscribe to one more topic: one message to it reaches everybody. A session's queue can't be looked at.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.peers.child import HOST, ChildServer, find, listens
from benchmarks.peers.flight import ANSWER_S, NOTHING_S, STOP_LOOK_S, in_flight
from benchmarks.peers.peer import Message, NotOffered, Peer, Server
from benchmarks.processes import free_port, raise_file_limit

QOS: Final = 1
EVERYBODY: Final = "everybody"
"""The topic of what is for all."""

UNLIMITED: Final = 65_535
"""As many as there are packet ids: an open loop has no limit, and `send` keeps its own."""


class Place(msgspec.Struct):
    """Where the server is, and the file that says for how many mailboxes it has sessions."""

    port: int
    sessions: str


@cache  # who sends has names, and makes none for each message
def topic(mailbox: int) -> str:
    """What a mailbox is subscribed to."""
    return f"mailbox/{mailbox}"


class Ended(Exception):
    """The server closed a connection, or refused something."""


class Session:
    """A connection, and the session that it makes or takes up again."""

    def __init__(self, place: Place, client_id: str, *, lasting: bool) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.unanswered = 0
        self.accepted = self.subscribed = self.ended = False
        self._taken: Callable[[bytes], bool] | None = None
        client: Any = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not lasting, manual_ack=True
        )
        client.max_inflight_messages_set(UNLIMITED)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.connect(HOST, place.port, keepalive=0)
        self._client = client

    # --- what it does

    def publish(self, to: str, body: bytes) -> None:
        """Send one; its PUBACK comes later."""
        self.unanswered += 1
        self._client.publish(to, body, QOS)

    def subscribe(self, topics: list[str]) -> None:
        """Wait until it is subscribed to these."""
        self.until(lambda: self.accepted)
        self._client.subscribe([(one, QOS) for one in topics])
        self.until(lambda: self.subscribed)

    def take(self, taken: Callable[[bytes], bool]) -> None:
        """From now on hand out bodies, and acknowledge those that were taken."""
        self._taken = taken

    def end(self) -> None:
        """Disconnect, and wait until the server has had everything and closes."""
        if not self.ended:
            self._client.disconnect()
            self.until(lambda: self.ended)

    # --- its loop

    def fileno(self) -> int:
        """Its socket's; -1 once it has ended."""
        return -1 if self._client.socket() is None else int(self._client.socket().fileno())

    def until(self, done: Callable[[], bool]) -> None:
        """Turn the loop until then. Raises TimeoutError if nothing comes for long."""
        while not done():
            if self.ended:
                raise Ended("the server closed the connection")
            if not self.turn(ANSWER_S):
                raise TimeoutError("no answer")

    def turn(self, seconds: float) -> bool:
        """Wait for something to read or write, do that, and say whether there was any."""
        writing = [self] if self._client.want_write() else []
        readable, writable, _ = select.select([self], writing, [], max(0.0, seconds))
        if readable:
            self.read()
        if writable:
            self._client.loop_write()
        return bool(readable or writable)

    def read(self) -> None:
        """Take what has come, and send what that asked for: within a callback the library doesn't."""
        self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()

    # --- what the library calls

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        if reason.is_failure:
            raise Ended(f"refused: {reason}")
        self.accepted = True

    def _on_disconnect(self, *_: Any) -> None:
        self.ended = True

    def _on_subscribe(self, _: Any, __: Any, ___: Any, reasons: Any, ____: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            raise Ended(f"not subscribed: {reasons}")
        self.subscribed = True

    def _on_publish(self, *_: Any) -> None:
        self.unanswered -= 1

    def _on_message(self, client: Any, _: Any, message: Any) -> None:
        if self._taken is not None and self._taken(message.payload):
            client.ack(message.mid, message.qos)


class MosquittoClient:
    """One session to send by; those of the mailboxes are taken up while something is read."""

    def __init__(self, endpoint: str, number: int) -> None:
        self._place = msgspec.json.decode(endpoint, type=Place)
        self._number = number
        self._session: Session | None = None
        self._mailboxes = 0

    # --- sending

    def prepare(self, mailboxes: int) -> None:
        """One client makes the sessions: a second that connects by the same id ends the first."""
        with Path(self._place.sessions).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for mailbox in range(int(file.read() or 0), mailboxes):
                session = self._mailbox(mailbox)
                session.subscribe([topic(mailbox), EVERYBODY])
                session.end()
                file.seek(0)
                file.write(str(mailbox + 1))
        self._mailboxes = mailboxes
        self._session = Session(self._place, f"sender-{self._number}", lasting=False)
        self._session.until(lambda: self._sender.accepted)

    def _mailbox(self, mailbox: int) -> Session:
        return Session(self._place, f"mailbox-{mailbox}", lasting=True)

    @property
    def _sender(self) -> Session:
        assert self._session is not None, "prepare comes first"
        return self._session

    def send(self, messages: Sequence[Message]) -> None:
        limit = in_flight(messages)
        sender = self._sender
        for mailbox, body in messages:
            if sender.unanswered >= limit:
                sender.until(lambda: sender.unanswered < limit)
            sender.publish(topic(mailbox), body)
        sender.until(lambda: sender.unanswered == 0)

    send_each = send  # one call a message is what the protocol has

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        sender = self._sender
        for at, (mailbox, body) in schedule:
            sender.turn(0)
            while (rest := at - time.monotonic()) > 0:
                sender.turn(rest)
            sender.publish(topic(mailbox), body)
        sender.until(lambda: sender.unanswered == 0)

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        assert mailboxes == self._mailboxes, "the topic reaches all mailboxes, not some"
        sender = self._sender
        sender.publish(EVERYBODY, body)
        sender.until(lambda: sender.unanswered == 0)

    # --- reading

    def open_mailboxes(self, mailboxes: int) -> None:
        """To connect is to be sent messages: that is timed."""
        raise_file_limit()

    def drain(self, mailboxes: int, expected: int) -> int:
        drained = 0

        def taken(_: bytes) -> bool:
            nonlocal drained
            if drained == expected:
                return False  # somebody else's: it stays
            drained += 1
            return True

        with selectors.DefaultSelector() as selector:
            for mailbox in range(mailboxes):
                session = self._mailbox(mailbox)
                session.take(taken)
                selector.register(session, selectors.EVENT_READ, session)
            last, last_at = 0, time.monotonic()
            while drained < expected and time.monotonic() - last_at < NOTHING_S:
                for key, _ in selector.select(STOP_LOOK_S):
                    key.data.read()
                if drained > last:
                    last, last_at = drained, time.monotonic()
            for key in list(selector.get_map().values()):
                key.data.end()
        return drained

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        def taken(body: bytes) -> bool:
            if stop.is_set():
                return False
            got(body)
            return True

        session = self._mailbox(mailbox)
        session.take(taken)
        session.until(lambda: session.accepted)
        ready()
        while not stop.is_set() and not session.ended:
            session.turn(STOP_LOOK_S)
        session.end()

    def newest(self, mailbox: int, count: int) -> int:
        raise NotOffered("MQTT lets nobody look at what a session holds")

    def close(self) -> None:
        if self._session is not None:
            self._session.end()


class Mosquitto:
    """Mosquitto with persistence on."""

    key = "mosquitto"
    name = "Mosquitto QoS 1"
    promise = "In memory; written to disk every half hour and at a regular end (`persistence true`)."
    durable = False

    def missing(self) -> str | None:
        if find("mosquitto") is None:
            return "no mosquitto: apt-get install mosquitto"
        if find_spec("paho") is None:
            return "no paho-mqtt: pip install paho-mqtt"
        return None

    def version(self) -> str:
        """Its help says it, and exits with 3."""
        text = subprocess.run([_server(), "-h"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"mosquitto version ([\d.]+)", text)
        return f"{found[1] if found else '?'}, paho-mqtt {version('paho-mqtt')}"

    def start(self, folder: Path) -> Server:
        server = ChildServer(folder)
        port = free_port()
        settings = {
            "listener": f"{port} {HOST}",
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{server.data}/",
            "max_queued_messages": "0",
        }
        if os.geteuid() == 0:
            settings["user"] = "root"  # else it becomes somebody who can't write here
        configuration = folder / "mosquitto.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        server.run("mosquitto", [_server(), "-c", configuration])
        server.wait_until(lambda: listens(port))
        sessions = folder / "sessions"
        sessions.touch()
        server.endpoint = msgspec.json.encode(Place(port, str(sessions))).decode()
        return server

    def client(self, endpoint: str, number: int) -> MosquittoClient:
        return MosquittoClient(endpoint, number)


def _server() -> str:
    return find("mosquitto") or "mosquitto"


PEERS: Final[tuple[Peer, ...]] = (Mosquitto(),)
