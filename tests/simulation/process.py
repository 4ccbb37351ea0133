"""A process around a core: it takes turns as `runtime.loop` does, and can be killed at any step.

One turn takes in what has arrived, event by event; performs each event's actions, in order; then `drained`; then, if
the core's deadline has passed, `due` and `drained` again. A turn takes time, and what arrives meanwhile makes the next
one larger. To kill a process takes its core, its inbox and what it had not sent yet; what is durable lies outside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from tests.simulation.world import World

E = TypeVar("E")
A = TypeVar("A")
E_contra = TypeVar("E_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)

CONSEQUENCES_MAX = 10_000
"""Events that performing one event's actions may give back, as in `runtime.loop`."""

INFINITY = float("inf")

TURN_S = 0.0002
"""What a turn takes at least."""


class Core(Protocol[E_contra, A_co]):
    """What is simulated."""

    def handle(self, event: E_contra, now: float) -> Sequence[A_co]: ...

    def next_deadline(self) -> float | None: ...


class Killed(BaseException):  # like KeyboardInterrupt: nothing below may catch it
    """The process died in the middle of a turn."""


class Process(ABC, Generic[E, A]):
    """One process, over all its lives. `on_death` is called when it dies, with the process: somebody may restart it."""

    drained: E | None = None
    due: E

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.core: Core[E, A]
        self.up = False
        self.life = 0
        self.crashes = 0
        self.lag_s = 0.0
        """How long the present turn has taken so far."""
        self.on_death: Callable[[str], None] = lambda name: None
        self._inbox: deque[E] = deque()
        self._paused = False
        self._wake_at: float | None = None
        self._busy_until = 0.0
        self._deadline: float | None = None
        """The core's, as it was at the end of the last turn."""
        self._steps_left: int | None = None

    # --- what each kind of process is ---------------------------------------------------------------------

    @abstractmethod
    def boot(self) -> Core[E, A]:
        """A new core, from what is durable."""

    @abstractmethod
    def perform(self, action: A) -> Iterable[E]:
        """Do it; the events that come of it."""

    def died(self) -> None:
        """Its sockets close, and its memory goes. `core` is still there to be looked at."""

    def turned(self) -> None:
        """A turn is over."""

    # --- its life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life."""
        if self.up:
            return
        self.life += 1
        self.up, self._paused = True, False
        self._steps_left, self._wake_at = None, None
        self._busy_until = self.world.now
        self.world.say(self.name, f"── starts, life {self.life}")
        self.core = self.boot()
        self._wake(self.world.now)

    def kill(self) -> None:
        """End it here and now."""
        if not self.up:
            return
        self.world.say(self.name, "── is killed")
        self.up, self._paused = False, False
        self.crashes += 1
        self._inbox.clear()
        self.died()
        self.on_death(self.name)

    def doom(self, steps: int) -> None:
        """Kill it when it has performed so many actions more."""
        self._steps_left = steps

    def spare(self) -> None:
        """It is not to be killed after all; and if it is stopped, it goes on."""
        self._steps_left = None
        self._go_on(self.life)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later."""
        if not self.up or self._paused:
            return
        self.world.say(self.name, f"── is stopped for {seconds:.1f} s")
        self._paused = True
        life = self.life
        self.world.after(seconds, lambda: self._go_on(life))

    def receive(self, event: E) -> None:
        """Something has arrived, or is wanted of it."""
        if self.up:
            self._inbox.append(event)
            self._wake(max(self.world.now, self._busy_until))

    def _go_on(self, life: int) -> None:
        if self.up and self._paused and self.life == life:
            self.world.say(self.name, "── goes on")
            self._paused = False
            self._wake(self.world.now)

    # --- its turns ----------------------------------------------------------------------------------------

    def _wake(self, at: float) -> None:
        """Take a turn then, unless one comes before."""
        if self._wake_at is not None and self._wake_at <= at:
            return
        self._wake_at = at
        life = self.life
        self.world.at(at, lambda: self._woken(life, at))

    def _woken(self, life: int, at: float) -> None:
        if not self.up or self.life != life or self._wake_at != at:
            return
        self._wake_at = None
        if self._paused:
            return
        if self.world.now < self._busy_until:
            self._wake(self._busy_until)
            return
        try:
            self._turn()
        except Killed:
            return
        self._sleep()

    def _turn(self) -> None:
        self.lag_s = TURN_S
        if self._inbox:
            for _ in range(len(self._inbox)):
                self._step(self._inbox.popleft())
            if self.drained is not None:
                self._step(self.drained)
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.world.now:
            self._step(self.due)
            if self.drained is not None:
                self._step(self.drained)
            deadline = self.core.next_deadline()
        self._deadline = deadline
        self._busy_until = self.world.now + self.lag_s
        self.turned()

    def _sleep(self) -> None:
        """Until something arrives, or the deadline."""
        if not self.up:
            return
        if self._inbox:
            self._wake(self._busy_until)
        if self._deadline is not None and self._deadline < INFINITY:
            self._wake(max(self._deadline, self._busy_until))

    def _step(self, event: E) -> None:
        """One event, all its actions, and what comes of them."""
        events = deque([event])
        for _ in range(CONSEQUENCES_MAX):
            if not events:
                return
            event = events.popleft()
            for action in self._decide(event):
                self._live_or_die()
                events.extend(self.perform(action))
                if not self.up:
                    raise Killed
        raise AssertionError(f"{self.name}: performing gives back events without end")

    def _decide(self, event: E) -> Sequence[A]:
        actions = self.core.handle(event, self.world.now)
        if self.world.tracing:
            if event is not self.drained and event is not self.due:
                self.world.say(self.name, f"{event!r}"[:400])
            for action in actions:
                self.world.say(self.name, f"    → {action!r}"[:400])
        return actions

    def _live_or_die(self) -> None:
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left < 0:
                self.kill()
                raise Killed
