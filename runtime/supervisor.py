"""The embedded server's parent: it starts the services as child processes and keeps them running.

* The lock on the data directory is an open file that every child inherits: it lasts while one of them lives, so a
  second ``chat serve`` can't write beside the first one's remains (RULES 23).
* Every child holds the read end of one pipe, its lifeline. When this process is gone, even by SIGKILL, they stop.
* What dies is started again, after a wait that doubles; what can't be kept running ends everything, non-zero, with its
  last words. One that says that it can't start as it is configured ends everything at once, if it never ran before (a
  restarted broker may have to wait until its port is free).
* SIGTERM, SIGINT and SIGHUP stop the children in the reverse order of their start, each with a deadline. A second
  signal kills what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from runtime.child import CANT_START, Child, ChildSpec, Policy
from runtime.errors import SetupError, cant_use
from runtime.logging import get_logger

__all__ = ["ChildSpec", "Policy", "Supervisor", "take_lock"]

#: How often processes are looked at, in seconds. In the main thread SIGCHLD tells of a death at once.
LOOK_S = 0.25
LOOK_MAIN_S = 5.0
#: A new lock is waited for this long: the children of a killed predecessor are ending.
LOCK_WAIT_S = 0.0


def take_lock(path: Path, *, wait_s: float = LOCK_WAIT_S) -> int:
    """Lock ``path``, made if absent, for as long as the returned descriptor or an inherited copy of it is
    open.

    Raises :class:`SetupError`, naming the holder's process if it is known, if it is held after ``wait_s``
    seconds, or if the file can't be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cant_use(path.parent, error) from error
    deadline = time.monotonic() + wait_s
    while not _try_lock(descriptor):
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise SetupError(_in_use(path, holder))
        threading.Event().wait(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


class Supervisor:
    """Runs ``children``, started in this order.

    ``lock`` is what :func:`take_lock` returned. ``on_note(name, note)`` gets every note of a child.
    ``args_for(name)`` is asked at every start for further arguments: a restart can so be given the port
    that the first start got.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        lock: int,
        *,
        on_note: Callable[[str, dict[str, Any]], None] = lambda _name, _note: None,
        args_for: Callable[[str], Sequence[str]] = lambda _name: (),
        policy: Policy | None = None,
    ) -> None:
        self._policy = policy or Policy()
        self._children = [Child(spec, self._policy) for spec in children]
        self._lock = lock
        self._on_note = on_note
        self._args_for = args_for
        self._selector = selectors.DefaultSelector()
        self._lifeline_reader, self._lifeline_writer = os.pipe()
        self._wake_reader, self._wake_writer = os.pipe()
        for descriptor in (self._wake_reader, self._wake_writer):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._signals = 0
        self._stopping: list[Child] | None = None  # those still to be stopped, the next one last
        self._kill_at = 0.0
        self._exit_code = 0
        self._why = ""  # what it stops for
        self.unable = ""
        """The child that couldn't start as it is configured, if that ended it: its stderr has said why."""
        self._log = get_logger()

    def run(self) -> int:
        """Supervise until stopped; return the exit code: 0, or 1 if a child crashed for good or had to be
        killed.
        """
        for child in self._children:
            child.start_at = time.monotonic()
        with self._handling_signals():
            while not self._done():
                self._turn()
        self._close()
        self._log.info("stopped", exit_code=self._exit_code)
        return self._exit_code

    def stop(self, why: str = "it was asked to") -> None:
        """Stop, as a signal does. May be called from ``on_note`` or from another thread."""
        self._why = self._why or why
        self._signals = max(self._signals, 1)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"\0")

    # ── one turn ──

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            self._read(key)
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child)
        if self._signals and self._stopping is None:
            self._begin_stop()
        if self._stopping is not None:
            self._go_on_stopping(time.monotonic())
        else:
            self._start_due(time.monotonic())

    def _wait_s(self) -> float:
        times = [child.start_at for child in self._children if child.start_at is not None and self._may_start(child)]
        if self._stopping is not None:
            times = [self._kill_at]
        look_s = LOOK_MAIN_S if threading.current_thread() is threading.main_thread() else LOOK_S
        return max(0.0, min([look_s, *(at - time.monotonic() for at in times)]))

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data is None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_reader, 4096)
            return
        child: Child = key.data
        if key.fd == child.stderr:
            goes_on = child.read_stderr(_pass_on)
        else:
            notes, goes_on = child.read_notes()
            for note in notes:
                self._on_note(child.spec.name, note)
        if not goes_on:
            self._selector.unregister(key.fd)

    def _may_start(self, child: Child) -> bool:
        first = {other.spec.name: other.was_ready_ever for other in self._children}
        return child.was_ready_ever or all(first[name] for name in child.spec.after)

    def _start_due(self, now: float) -> None:
        for child in self._children:
            if child.start_at is not None and child.start_at <= now and self._may_start(child):
                self._start(child, now)

    def _start(self, child: Child, now: float) -> None:
        try:
            child.start(now, self._args_for(child.spec.name), (self._lock,), self._lifeline_reader)
        except OSError as error:
            child.last_lines.append(f"{child.spec.argv[0]}: {error.strerror}")
            self._plan_restart(child, "it can't be started")
            child.close()
        for descriptor in child.pipes():
            self._selector.register(descriptor, selectors.EVENT_READ, child)

    def _bury(self, child: Child) -> None:
        """Take in the last words of a child that has died, and plan what follows."""
        assert child.process is not None
        for note in child.read_last(_pass_on):
            self._on_note(child.spec.name, note)
        for descriptor in child.pipes():
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        status = child.process.returncode
        if self._stopping is not None:
            self._log.info("service stopped", child=child.spec.name, how=_how(status))
        elif status in CANT_START and not child.was_ready_ever:
            self._exit_code, self.unable = 1, child.spec.name
            self.stop(f"the {child.spec.name} can't start as it is configured")
        else:
            self._plan_restart(child, _how(status))
        child.close()

    def _plan_restart(self, child: Child, how: str) -> None:
        now = time.monotonic()
        wait_s = child.restarts.died(now, ran_s=now - child.started_at, was_ready=child.ready)
        if wait_s is None:
            self._give_up(child, how)
            return
        child.start_at = now + wait_s
        self._log.warning("service died: starting it again", child=child.spec.name, how=how, wait_s=wait_s)

    def _give_up(self, child: Child, how: str) -> None:
        self._exit_code = 1
        self.stop(f"the {child.spec.name} can't be kept running")
        words = "\n".join(f"  {line}" for line in child.last_lines) or "  (nothing)"
        _pass_on(f"{child.spec.name} can't be kept running ({how}). Its last words:\n{words}\n".encode())

    # ── stopping ──

    def _begin_stop(self) -> None:
        for child in self._children:
            child.start_at = None
        self._log.info("stopping", why=self._why)
        self._stopping = list(self._children)
        self._stop_next()

    def _go_on_stopping(self, now: float) -> None:
        assert self._stopping is not None
        while self._stopping and self._stopping[-1].process is None:
            self._stopping.pop()
            self._stop_next()
        if self._stopping and (now >= self._kill_at or self._signals > 1):
            self._exit_code = 1
            self._stopping[-1].signal(signal.SIGKILL)
            self._kill_at = now + LOOK_S
            self._log.error("service killed: it didn't stop in time", child=self._stopping[-1].spec.name)

    def _stop_next(self) -> None:
        if self._stopping:
            if self._stopping[-1].process is not None:
                self._log.info("stopping a service", child=self._stopping[-1].spec.name, with_signal="SIGTERM")
            self._stopping[-1].signal(signal.SIGTERM)
            self._kill_at = time.monotonic() + self._policy.stop_s

    def _done(self) -> bool:
        return self._stopping is not None and not self._stopping

    def _close(self) -> None:
        self._selector.close()
        for descriptor in (
            self._lifeline_reader,
            self._lifeline_writer,
            self._wake_reader,
            self._wake_writer,
        ):
            os.close(descriptor)

    # ── signals ──

    def _handling_signals(self) -> contextlib.AbstractContextManager[object]:
        stack = contextlib.ExitStack()
        if threading.current_thread() is not threading.main_thread():
            return stack
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False))
        stops = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored: somebody used nohup
            stops.append(signal.SIGHUP)
        for number in stops:
            stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
        # SIGCHLD needs a handler, else the wake-up descriptor isn't told of it.
        stack.callback(signal.signal, signal.SIGCHLD, signal.signal(signal.SIGCHLD, lambda _n, _f: None))
        return stack

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._why = self._why or signal.Signals(number).name


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(path: Path, holder: str) -> str:
    if not holder.isdigit():
        return f"{path.parent} is in use by another server. Stop it, or give another directory."
    if not _lives(int(holder)):
        return f"{path.parent} is in use: services of process {holder}, which is gone, are ending. Try again."
    return f"{path.parent} is in use by the server with process id {holder}. Stop it, or give another directory."


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _how(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _pass_on(line: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed terminal is no reason to stop serving
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
