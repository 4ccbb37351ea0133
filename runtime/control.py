"""A service's control socket: what whoever runs the server asks of a service while it runs.

    chat admin ── DEALER ──▶ ROUTER, ipc, served by a thread of its own
                 BackUp ──▶
                            ◀── Progress, Progress …        every BEAT_S while it is worked on
                            ◀── Done, or Refused

It is no part of the wire, and never leaves the machine: ipc only, in a directory that this user alone can enter.
Whoever can enter it can read the databases too; the system's permissions are the authentication.

One request is worked on at a time; what comes meanwhile is refused `busy`. An asker that hears nothing for SILENCE_S
knows that the service is gone; an asker that is gone is noticed at the next Progress, and the work is abandoned.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets_of_the_system
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import zmq
from msgspec import Struct

from runtime import sockets
from runtime.errors import SetupError
from runtime.ipc import PATH_BYTES_MAX, private_ipc_dir
from runtime.logging import get_logger

PROTOCOL: Final = b"CONTROL/1"

FRAME_BYTES_MAX: Final = 64 * 1024
"""A path and a few figures: libzmq cuts who sends more."""

WAITING_MAX: Final = 16
"""Requests that wait to be read. There is one person at the other end."""

BEAT_S: Final = 0.2
"""Between two words about what is under way: often enough for a bar that moves."""

SILENCE_S: Final = 15.0
"""The control thread speaks whatever the service does; a machine that swaps is slow."""

Facts: TypeAlias = dict[str, int | str]
"""What a service says about what it has made."""


class BackUp(Struct, frozen=True, tag="back_up"):
    """Make a consistent copy of the database at `path`, which must not exist. → `Done`."""

    path: str


class Hello(Struct, frozen=True, tag="hello"):
    """Is anybody there? → `Done`."""


class Progress(Struct, frozen=True, tag="progress"):
    """So many of so many pages are done. Both grow with what is stored meanwhile."""

    done: int
    total: int


class Done(Struct, frozen=True, tag="done"):
    """It is done."""

    facts: Facts


class Refused(Struct, frozen=True, tag="refused"):
    """It is not done, and nothing is left of it. `text` is for a person."""

    code: str
    text: str


Request = BackUp | Hello
Reply = Progress | Done | Refused

_requests: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_replies: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)


class BackupFailed(Exception):
    """A backup was not made: a stable code, and a text for a person."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Unanswered(Exception):
    """Nobody answers at a control socket."""


class Job:
    """A request that is being worked on, as the worker sees it."""

    def __init__(self) -> None:
        self._progress = Progress(0, 0)
        self._abandoned = threading.Event()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    def report(self, done: int, total: int) -> None:
        """Say how far it is. Raises BackupFailed if nobody waits for it any more."""
        self._progress = Progress(done, total)
        if self._abandoned.is_set():
            raise BackupFailed("abandoned", "Nobody waits for this backup any more.")

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._abandoned.set()


Worker: TypeAlias = Callable[[Path, Job], Facts]
"""Makes a backup at a path, in the worker's thread. Raises BackupFailed, and then leaves nothing behind."""


class Control:
    """Serves one control socket until closed."""

    def __init__(self, context: sockets.Context, endpoint: str, back_up: Worker) -> None:
        """Listen. Raises SetupError: not ipc, a directory that others can enter, or a socket in use."""
        if not endpoint.startswith("ipc://"):
            raise SetupError(f"{endpoint!r} can't be a control socket: it never leaves the machine. Give ipc:///PATH.")
        private_ipc_dir(Path(endpoint.removeprefix("ipc://")).parent)
        self._back_up = back_up
        self._socket = sockets.worker_router(context, frame_bytes_max=FRAME_BYTES_MAX, hwm=WAITING_MAX)
        try:
            sockets.bind(self._socket, endpoint)
        except SetupError:
            self._socket.close(0)
            raise
        self._wake_reader, self._wake_writer = os.pipe()
        self._closing = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="backup")
        self._asker = b""
        self._job: Job | None = None
        self._future: Future[Facts] | None = None
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Abandon what is under way, and free the socket. Twice is harmless."""
        if not self._socket.closed:
            self._closing = True
            self._wake()
            self._thread.join()
            self._worker.shutdown()
            self._socket.close(0)
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    # --- the control thread -------------------------------------------------------------------------------

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_reader, zmq.POLLIN)
        while not self._closing:
            ready = dict(poller.poll(None if self._job is None else round(BEAT_S * 1000)))
            if self._wake_reader in ready:
                os.read(self._wake_reader, 64)
            while (routed := sockets.receive_routed(self._socket, curve=False)) is not None:
                self._receive(routed)
            if self._job is not None:
                self._tell(self._job)
        if self._job is not None:
            self._job.abandon()

    def _receive(self, routed: sockets.Routed) -> None:
        try:
            request = _request_of(routed.frames)
        except ValueError as error:  # msgspec's errors are ValueErrors too
            self._say(routed.routing_id, Refused("bad_request", f"That is no request: {error}"))
            return
        if isinstance(request, Hello):
            self._say(routed.routing_id, Done({"process": os.getpid()}))
        elif self._job is not None:
            self._say(routed.routing_id, Refused("busy", "Another backup is being made. Try again when it is done."))
        else:
            self._asker, self._job = routed.routing_id, Job()
            self._future = self._worker.submit(self._back_up, Path(request.path), self._job)
            self._future.add_done_callback(lambda _future: self._wake())
            get_logger().info("backup begun", path=request.path)

    def _wake(self) -> None:
        os.write(self._wake_writer, b"\0")

    def _tell(self, job: Job) -> None:
        assert self._future is not None
        if self._future.done():
            self._job, reply = None, _outcome(self._future)
            get_logger().info("backup ended", outcome=type(reply).__name__, **_said(reply))
            self._say(self._asker, reply)
        elif not self._say(self._asker, job.progress):
            job.abandon()

    def _say(self, asker: bytes, reply: Reply) -> bool:
        return sockets.send_now(self._socket, [asker, PROTOCOL, msgspec.json.encode(reply)])


def _request_of(frames: list[bytes]) -> Request:
    if len(frames) != 2 or frames[0] != PROTOCOL:
        raise ValueError(f"two frames were expected, the first {PROTOCOL.decode()}")
    return _requests.decode(frames[1])


def _outcome(future: Future[Facts]) -> Done | Refused:
    try:
        return Done(future.result())
    except BackupFailed as failed:
        return Refused(failed.code, failed.text)
    except Exception as error:  # noqa: BLE001 - whatever it was: it is told, logged, and the service goes on
        get_logger().error("a backup can't be made", exc_info=error)
        return Refused("internal", f"It failed in a way that was not foreseen: {error!r}. The log says more.")


def _said(reply: Done | Refused) -> dict[str, str]:
    return {"why": reply.text} if isinstance(reply, Refused) else {}


def parse_reply(text: bytes) -> Reply:
    """What a service said. Raises ValueError."""
    return _replies.decode(text)


# --- the asking end ---------------------------------------------------------------------------------------


def ask(
    endpoint: str,
    request: Request,
    *,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    silence_s: float = SILENCE_S,
) -> Facts:
    """Ask a service, and wait for as long as it shows signs of life; `silence_s` in seconds.

    Raises Unanswered if nobody listens there or it falls silent; BackupFailed if it refuses.
    """
    _knock(endpoint)
    context = sockets.make_context()
    try:
        socket = sockets.worker_dealer(context, frame_bytes_max=FRAME_BYTES_MAX)
        sockets.connect(socket, endpoint)
        sockets.send_now(socket, [PROTOCOL, msgspec.json.encode(request)])
        while True:
            reply = _hear(socket, silence_s)
            if isinstance(reply, Done):
                return reply.facts
            if isinstance(reply, Refused):
                raise BackupFailed(reply.code, reply.text)
            on_progress(reply)
    finally:
        context.destroy(0)


def _knock(endpoint: str) -> None:
    """Find out at once whether somebody listens: libzmq would wait for one to come. Raises Unanswered."""
    path = endpoint.removeprefix("ipc://")
    with contextlib.closing(sockets_of_the_system.socket(sockets_of_the_system.AF_UNIX)) as knock:
        try:
            if len(os.fsencode(path)) > PATH_BYTES_MAX:
                raise FileNotFoundError(path)
            knock.settimeout(SILENCE_S)
            knock.connect(path)
        except PermissionError as error:
            raise Unanswered(f"{path} belongs to another user: run the command as the server's") from error
        except OSError as error:
            raise Unanswered(f"nobody listens at {path}") from error


def _hear(socket: sockets.Socket, silence_s: float) -> Reply:
    deadline = time.monotonic() + silence_s
    while (left_s := deadline - time.monotonic()) > 0:
        if socket.poll(max(1, round(left_s * 1000))):
            frames = sockets.receive_now(socket)
            if frames is not None and len(frames) == 2 and frames[0] == PROTOCOL:
                return parse_reply(frames[1])
    raise Unanswered(f"nothing was heard for {silence_s:g} s")
