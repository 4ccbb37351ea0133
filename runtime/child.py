"""One supervised process: how it is started, what it says, and when it may be started again.

:class:`Restarts` is pure: it counts deaths and decides. :class:`Child` holds the process and its pipes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

#: What is kept of a child's stderr, to be shown if it crashes for good.
LAST_LINES_MAX = 20
#: Bytes of a line of stderr, or of a note, before it is taken as it is.
LINE_BYTES_MAX = 16_384
#: Exit codes that say: not as it is configured (``runtime.settings``). One that never got ready is not started again.
CANT_START = frozenset({2, 78})
#: Reads of 64 KiB that take in all of a dead child's pipe (64 KiB, at most 1 MiB on Linux).
PIPE_READS_MAX = 16


class ChildSpec(msgspec.Struct, frozen=True):
    """What to run. ``argv[0]`` is a path; ``after`` names children that must have been ready before the
    first start.
    """

    name: str
    argv: Sequence[str]
    after: Sequence[str] = ()
    env: Mapping[str, str] | None = None


class Policy(msgspec.Struct, frozen=True):
    """When to start again, when to give up, how long to wait. Seconds."""

    #: The first wait is short: most deaths are single. It doubles up to the last, so that a crash loop
    #: costs little.
    backoff_min_s: float = 0.1
    backoff_max_s: float = 5.0
    #: One that ran this long, and had been ready, has recovered: the next death counts as the first.
    stable_s: float = 10.0
    #: It never got ready: wrong settings, a damaged file. Trying longer changes nothing.
    unready_deaths_max: int = 5
    unready_window_s: float = 30.0
    #: It gets ready and dies, again and again: about 80 s of trying. (The store's replay of a batch that
    #: kills it takes a few, RULES 9.)
    deaths_max: int = 20
    #: A child's own grace is 10 s; then it is killed.
    stop_s: float = 12.0


class Restarts:
    """Counts one child's deaths."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._deaths = 0
        self._unready: deque[float] = deque(maxlen=policy.unready_deaths_max)

    def died(self, now: float, *, ran_s: float, was_ready: bool) -> float | None:
        """Count a death. Return how long to wait before the next start, None to give up."""
        if was_ready:
            self._unready.clear()
            if ran_s >= self._policy.stable_s:
                self._deaths = 0
        else:
            self._unready.append(now)
        self._deaths += 1
        if self._deaths >= self._policy.deaths_max or self._crash_loop(now):
            return None
        wait_s = self._policy.backoff_min_s * 2.0 ** (self._deaths - 1)
        return min(wait_s, self._policy.backoff_max_s)

    def _crash_loop(self, now: float) -> bool:
        full = len(self._unready) == self._policy.unready_deaths_max
        return full and now - self._unready[0] <= self._policy.unready_window_s


class Lines:
    """Cuts a pipe's bytes into lines, of bounded length."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines completed by ``data``, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def end(self) -> list[bytes]:
        """Return what is left, at the pipe's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Child:
    """A process that runs, its two pipes, and what is known of it."""

    def __init__(self, spec: ChildSpec, policy: Policy) -> None:
        self.spec = spec
        self.restarts = Restarts(policy)
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.was_ready_ever = False
        self.started_at = 0.0
        self.start_at: float | None = None  # when to start it; None if it runs, or is not to run
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES_MAX)
        self.stderr: int | None = None
        self.notes: int | None = None
        self._stderr_lines, self._note_lines = Lines(), Lines()

    def start(self, now: float, extra: Sequence[str], inherited: Sequence[int], lifeline: int) -> None:
        """Start it, in a session of its own: Ctrl-C reaches the supervisor alone, which stops all in order.

        ``inherited`` are descriptors that it holds for life (the lock). Raises OSError if it can't be
        started.
        """
        self.ready, self.started_at, self.start_at = False, now, None
        self.last_lines.clear()
        self._stderr_lines, self._note_lines = Lines(), Lines()
        self.stderr, stderr_writer = os.pipe()
        self.notes, notes_writer = os.pipe()
        os.set_blocking(self.stderr, False)
        os.set_blocking(self.notes, False)
        fds = ("--lifeline-fd", str(lifeline), "--notify-fd", str(notes_writer))
        try:
            self.process = subprocess.Popen(
                [*self.spec.argv, *extra, *fds],
                stdin=subprocess.DEVNULL,
                stdout=stderr_writer,  # stdout is the supervisor's: its first line is the address
                stderr=stderr_writer,
                pass_fds=(*inherited, lifeline, notes_writer),
                env=None if self.spec.env is None else dict(self.spec.env),
                start_new_session=True,
            )
        finally:
            os.close(stderr_writer)
            os.close(notes_writer)

    def read_stderr(self, write: Callable[[bytes], None]) -> bool:
        """Pass on what it wrote, line by line. False at the end."""
        assert self.stderr is not None
        data = _read(self.stderr)
        for line in self._stderr_lines.feed(data or b""):
            self._say(line, write)
        return data != b""

    def _say(self, line: bytes, write: Callable[[bytes], None]) -> None:
        self.last_lines.append(line.decode("utf-8", "replace"))
        write(line + b"\n")

    def read_notes(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the notes that came, and whether more may come. What is no JSON object is passed over."""
        assert self.notes is not None
        data = _read(self.notes)
        notes = []
        for line in self._note_lines.feed(data or b""):
            with contextlib.suppress(msgspec.DecodeError):
                notes.append(msgspec.json.decode(line, type=dict[str, Any]))
        if any(note.get("ready") is True for note in notes):
            self.ready = self.was_ready_ever = True
        return notes, data != b""

    def read_last(self, write: Callable[[bytes], None]) -> list[dict[str, Any]]:
        """Read what a dead child left, as far as a pipe holds: another process may have it open still."""
        for _ in range(PIPE_READS_MAX):
            if not self.read_stderr(write):
                break
        for line in self._stderr_lines.end():
            self._say(line, write)
        return self.read_notes()[0]

    def pipes(self) -> list[int]:
        """Return the descriptors to be read."""
        return [descriptor for descriptor in (self.stderr, self.notes) if descriptor is not None]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def close(self) -> None:
        """Forget a process that has ended."""
        for descriptor in self.pipes():
            os.close(descriptor)
        self.stderr = self.notes = self.process = None
        self.ready = False


def _read(descriptor: int) -> bytes | None:
    """Return what is there, ``b""`` at the end, None if there is nothing yet."""
    try:
        return os.read(descriptor, 65_536)
    except BlockingIOError:
        return None
