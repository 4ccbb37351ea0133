"""What the tests of runtime share: waiting with a deadline, a context that ends with one, and processes."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime import sockets
from runtime.sockets import Socket

DEADLINE_S = 20.0
ROOT = Path(__file__).parents[3]


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Look again and again until it holds; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"still waiting for: {what}"
        select.select([], [], [], 0.005)


def is_alive(process: int) -> bool:
    """Whether the process runs: not ended, not a zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextmanager
def context() -> Iterator[zmq.Context[Socket]]:
    """A context whose end has no deadline to miss: its sockets are closed by force."""
    made = sockets.make_context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


def handshake(socket: Socket, connect: Callable[[], None]) -> int:
    """Connect, and return how the first handshake ends: succeeded, failed, or cut."""
    failed = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    ends = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | failed
    with socket.get_monitor_socket(ends) as monitor:
        connect()
        assert monitor.poll(int(DEADLINE_S * 1000)), "the handshake never ended"
        event = int(recv_monitor_message(monitor)["event"])
        socket.disable_monitor()
    return event


@contextmanager
def python(
    code: str, *args: str, stdout: int | None = None, fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs ``code`` with this source tree in its path; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=fds,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
