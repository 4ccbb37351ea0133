"""Notices that a handshake was refused: what a connecting socket never says by itself.

A DEALER or PUSH whose key isn't admitted (ZAP 400), or that speaks another mechanism, is closed by libzmq for good: it
does not reconnect, and what is sent vanishes or gets EAGAIN (measured, libzmq 4.3.5). Only the socket's monitor tells.
Other ends (nobody listens, a host dies, a limit on connections) are tried again by libzmq, and are not reported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from runtime.logging import get_logger
from runtime.sockets import Socket, receive_now

E = TypeVar("E")

_FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class RefusalWatch(Generic[E]):
    """An inlet for ``Loop``: each refused handshake of ``watched`` becomes one event, made by ``event(reason)``.

    Make it before the socket connects. After a refusal the socket is dead: make a new one, or end and be restarted.
    ``reason`` is a sentence without secrets.
    """

    def __init__(self, watched: Socket, event: Callable[[str], E]) -> None:
        self._watched = watched
        self._event = event
        self.socket: Socket = watched.get_monitor_socket(_FAILED)

    def receive(self) -> E | None:
        """Return the next refusal, None if there is none."""
        frames = receive_now(self.socket)
        if frames is None or len(frames) < 2:
            return None
        told = parse_monitor_message(frames)
        return self._event(_reason(told["event"], told["value"], told["endpoint"].decode("utf-8", "replace")))

    def close(self) -> None:
        """Stop watching: before the watched socket is closed, and after the loop has let go of this.

        libzmq's I/O thread would wait for ever to tell a monitor that is closed, and all its sockets with it.
        """
        self._watched.disable_monitor()
        self.socket.close(0)


class RefusalLog:
    """An inlet that logs each refused handshake of ``watched`` as ``peer``'s, and gives the core no event.

    For services that call again over a new socket anyway once their peer is silent: enrolling the key is then enough.
    """

    def __init__(self, watched: Socket, peer: str) -> None:
        self._watch: RefusalWatch[str] = RefusalWatch(watched, str)
        self._peer = peer
        self.socket = self._watch.socket

    def receive(self) -> None:
        """Log what there is."""
        while (reason := self._watch.receive()) is not None:
            get_logger().error(f"the {self._peer} refuses us", why=reason)

    def close(self) -> None:
        """Stop watching. Take it out of the loop before."""
        self._watch.close()


def _reason(event: int, code: int, endpoint: str) -> str:
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return f"{endpoint} refused this key ({code}). Enrol it in the peer's key directory."
    return f"{endpoint} refused the handshake: wrong key of the peer, or not the same security on both sides."
