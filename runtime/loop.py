"""The loop that all services share: it polls, receives, lets the core decide, and performs what it decided.

One turn::

    poll until the core's next deadline
      ├─ drain readable inlets, in turn, SLICE events each, at most WAKE_MAX an inlet   handle(event) …
      ├─ posted events (from other threads), the stop event                             handle(event) …
      └─ once, if there was anything: one wake-up, one batch                            handle(drained)
    if the deadline has passed                                                handle(due), handle(drained)

Each event's actions are performed in order. Events that performing gives back (a send that failed) are
handled next, after that event's own actions and before anything new is received.

Sockets are drained before deadlines fire (RULES 22): a process that was stopped wakes late, and what
arrived meanwhile must count first. Under a flood that outlasts a turn the deadline is held back for
POSTPONED_MAX turns and no more.

SIGTERM, SIGINT or the closing of the lifeline give the core its stop event, once. The loop ends when
performing calls ``end()``, when the grace is over, or at a second signal.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import zmq

from runtime.logging import get_logger
from runtime.pulse import Pulse

E = TypeVar("E")
A = TypeVar("A")
E_co = TypeVar("E_co", covariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)

#: Events taken from one inlet before the next one's turn. Small: it bounds how long a flood holds up the
#: others.
SLICE = 64
#: Events taken from one inlet in one wake-up: how large a batch can grow, and how late a deadline can be.
WAKE_MAX = 1_024
#: Turns by which a deadline is held back while inlets still have more, or the process was stopped.
POSTPONED_MAX = 8
#: A deadline missed by more says that the process was stopped, and so were libzmq's I/O threads: give them
#: LATE_POLL_MS a turn to bring in what the kernel holds.
LATE_S = 0.25
LATE_POLL_MS = 5
#: Events that performing may give back in answer to one. More is a core that answers failure with failure:
#: our bug.
CONSEQUENCES_MAX = 100_000


class Core(Protocol[E_contra, A_co]):
    """A pure state machine: no socket, clock, randomness or file."""

    def handle(self, event: E_contra, now: float) -> Sequence[A_co]:
        """Return what to do about ``event``, in order. ``now`` is monotonic, in seconds."""

    def next_deadline(self) -> float | None:
        """Return when the core wants its due event, in ``now``'s terms; None if it waits for nothing."""


class Inlet(Protocol[E_co]):
    """A socket, and how what arrives on it becomes an event."""

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """The socket to poll."""

    def receive(self) -> E_co | None:
        """Return the next event, None if there is none. Never blocks; never raises because of what a peer
        sent.

        Bad input becomes an event too: skipping it in here would let a flood of it hold up the loop.
        """


class Loop(Generic[E, A]):
    """Runs one core. Everything but :meth:`post` and :meth:`end` belongs to the thread that runs it.

    ``perform`` does one action and returns the events that came of it, usually none. It never blocks.
    ``grace_s`` is how long a stop may take. ``lifeline`` is an inherited descriptor whose end of file
    means: stop. ``pulse`` is shown at every turn, and makes the loop turn for it alone.
    """

    def __init__(
        self,
        core: Core[E, A],
        inlets: Iterable[Inlet[E]],
        perform: Callable[[A], Iterable[E]],
        *,
        due: E,
        stop: E,
        drained: E | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace_s: float = 10.0,
        lifeline: int | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._core = core
        self._perform = perform
        self._due, self._stop, self._drained = due, stop, drained
        self._clock = clock
        self._began_at = clock()  # a core may be due from the start: that is not late
        self._grace_s = grace_s
        self._poller = zmq.Poller()
        self._inlets: dict[Any, Inlet[E]] = {}
        self._changes = 0  # counts adds and removes: a drain under way looks again
        self._posted: deque[E] = deque()
        self._wake_reader, self._wake_writer = _pipe()
        self._wake_lock = threading.Lock()
        self._poller.register(self._wake_reader, zmq.POLLIN)
        self._pulse = pulse
        self._lifeline = lifeline
        if lifeline is not None:
            os.set_inheritable(lifeline, False)
            self._poller.register(lifeline, zmq.POLLIN)
        self._signals = 0
        self._stop_wanted = False
        self._stop_why = "it was asked to"
        self._stop_at: float | None = None  # when the grace is over; None until stopping
        self._ended = False
        self._finished = False  # ended by end(), not by force
        self._postponed = 0
        for inlet in inlets:
            self.add(inlet)

    # ── what a service calls ──

    def add(self, inlet: Inlet[E]) -> None:
        """Poll one inlet more."""
        self._inlets[inlet.socket] = inlet
        self._poller.register(inlet.socket, zmq.POLLIN)
        self._changes += 1

    def remove(self, inlet: Inlet[E]) -> None:
        """Poll it no longer. Call this before closing its socket."""
        del self._inlets[inlet.socket]
        self._poller.unregister(inlet.socket)
        self._changes += 1

    def post(self, event: E) -> None:
        """Hand in an event from any thread, and wake the loop. Posting after the end is harmless."""
        self._posted.append(event)
        self._wake()

    def stop(self) -> None:
        """Give the core its stop event at the next turn, once, as SIGTERM does."""
        self._stop_wanted = True
        self._wake()

    def end(self) -> None:
        """End the loop, once the actions in hand are performed."""
        self._ended = self._finished = True
        self._wake()

    def run(self) -> bool:
        """Turn until ended. True if :meth:`end` was called; False if the grace ran out or a second signal
        came.

        In the main thread SIGTERM and SIGINT are taken over for as long as it runs. What the core or
        ``perform`` raises goes through: a service that finds itself in error dies, and its supervisor
        starts a clean one.
        """
        with _Signals(self._on_signal, self._wake_writer):
            while not self._ended:
                self.turn()
        if self._stop_at is not None:
            get_logger().info("stopped", finished=self._finished)
        return self._finished

    def close(self) -> None:
        """Free the loop's own descriptors. Sockets belong to whoever made them."""
        with self._wake_lock:
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            self._wake_writer = -1

    def turn(self) -> None:
        """Wait once, and deal with all that came of it."""
        ready = self._poller.poll(self._timeout_ms())
        handled, more = self._drain(ready)
        if self._posted or self._stop_wanted:
            self._drain_posted()
            handled = True
        if handled and self._drained is not None:
            self._step(self._drained)
        self._fire(more)
        if self._pulse is not None:
            self._pulse.beat(self._clock())

    # ── inside a turn ──

    def _timeout_ms(self) -> int | None:
        if self._posted or self._ended or self._stop_wanted:
            return 0
        if self._postponed:
            return LATE_POLL_MS
        deadline = self._deadline()
        if self._pulse is not None and (deadline is None or deadline > self._pulse.beat_at):
            deadline = self._pulse.beat_at
        if deadline is None:
            return None
        wait_s = deadline - self._clock()
        return math.ceil(wait_s * 1000) if wait_s > 0 else 0

    def _deadline(self) -> float | None:
        deadline = self._core.next_deadline()
        if self._stop_at is None:
            return deadline
        return self._stop_at if deadline is None else min(deadline, self._stop_at)

    def _drain(self, ready: list[tuple[Any, int]]) -> tuple[bool, bool]:
        """Take what has arrived. Return whether anything was handled, and whether more is known to wait."""
        inlets = [self._inlets[socket] for socket, _ in ready if socket in self._inlets]
        if len(inlets) < len(ready):
            self._read_descriptors(ready)
        handled = False
        for _ in range(WAKE_MAX // SLICE):
            if not inlets or self._ended:
                break
            inlets, took = self._drain_slice(inlets)
            handled = handled or took
        return handled, bool(inlets)

    def _drain_slice(self, inlets: list[Inlet[E]]) -> tuple[list[Inlet[E]], bool]:
        """Take up to SLICE events of each. Return those inlets that may have more, and whether there were
        any.
        """
        unfinished, handled = [], False
        for inlet in inlets:
            if inlet.socket not in self._inlets:
                continue  # removed meanwhile
            changes, receive, step = self._changes, inlet.receive, self._step
            for _ in range(SLICE):
                event = receive()
                if event is None:
                    break
                handled = True
                step(event)
                if self._changes != changes:
                    if inlet.socket not in self._inlets:
                        break
                    changes = self._changes
            else:
                unfinished.append(inlet)
        return unfinished, handled

    def _drain_posted(self) -> None:
        for _ in range(len(self._posted)):  # those that are there now: posting may go on meanwhile
            self._step(self._posted.popleft())
        if self._stop_wanted:
            self._begin_stop()

    def _step(self, event: E) -> None:
        """Let the core decide about one event, and perform that; then what came of it."""
        perform = self._perform
        consequences: list[E] | None = None
        for action in self._core.handle(event, self._clock()):
            events = perform(action)
            if events:
                consequences = [*(consequences or ()), *events]
        if consequences:
            self._handle_consequences(deque(consequences))

    def _handle_consequences(self, events: deque[E]) -> None:
        count = 0
        while events:
            count += 1
            assert count <= CONSEQUENCES_MAX, "performing actions gives back events without end"
            for action in self._core.handle(events.popleft(), self._clock()):
                events.extend(self._perform(action))

    def _fire(self, more: bool) -> None:
        """Give the core its due event if its time has come."""
        now = self._clock()
        if self._stop_at is not None and now >= self._stop_at:
            self._ended = True
        deadline = self._core.next_deadline()
        if deadline is None or deadline > now or self._ended:
            self._postponed = 0
            return
        if (more or now - max(deadline, self._began_at) > LATE_S) and self._postponed < POSTPONED_MAX:
            self._postponed += 1
            return
        self._postponed = 0
        self._step(self._due)
        if self._drained is not None:
            self._step(self._drained)

    # ── stopping and waking ──

    def _read_descriptors(self, ready: list[tuple[Any, int]]) -> None:
        for descriptor, _ in ready:
            if descriptor == self._wake_reader:
                os.read(descriptor, 4096)
            elif descriptor == self._lifeline and not os.read(descriptor, 4096):
                self._poller.unregister(descriptor)
                self._lifeline = None
                self._stop_wanted, self._stop_why = True, "lifeline ended"

    def _begin_stop(self) -> None:
        self._stop_wanted = False
        if self._stop_at is None:
            self._stop_at = self._clock() + self._grace_s
            get_logger().info("stopping", why=self._stop_why)
            self._step(self._stop)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._stop_why = signal.Signals(number).name
        if self._signals > 1:
            self._ended = True
        self._stop_wanted = True

    def _wake(self) -> None:
        # The lock keeps a late post() from writing to a descriptor that is another file's by now.
        with self._wake_lock, contextlib.suppress(BlockingIOError):  # full: a wake-up is under way already
            if self._wake_writer >= 0:
                os.write(self._wake_writer, b"\0")


class _Signals:
    """Takes over SIGTERM and SIGINT, in the main thread only, and gives them back.

    The wake-up descriptor closes a gap: a signal that comes just before poll() begins would else wait for
    its end.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], None], wake_writer: int) -> None:
        self._handler = handler
        self._wake_writer = wake_writer
        self._saved: dict[int, Any] = {}
        self._saved_descriptor = -1

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._saved_descriptor = signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._saved[number] = signal.signal(number, self._handler)

    def __exit__(self, *_exception: object) -> None:
        if self._saved:
            for number, handler in self._saved.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._saved_descriptor)


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
