"""A real `chat serve` in a folder of its own, for the demo, the benchmarks and the tests.

Nothing of the user's is read or written: home, configuration, state and data lie in that folder, for the server and
for every command that is run beside it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path(__file__).parents[1]

READY_S: Final = 30.0
"""From nothing to serving takes about a second; a machine may be busy."""

STOP_S: Final = 30.0
"""Each service has 10 s to finish what it has in hand."""


class ServerError(Exception):
    """The server didn't start or stop as it should; the text holds its log's end."""


def isolated(folder: Path) -> dict[str, str]:
    """An environment in which nothing outside the folder is read or written."""
    foreign = ("CHAT_", "XDG_", "_CHAT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    places = {
        "HOME": "home",
        "XDG_CONFIG_HOME": "config",
        "XDG_STATE_HOME": "state",
        "XDG_DATA_HOME": "share",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_DIRS": "etc",
        "CHAT_CONFIG_DIR": "config/restante",
        "CHAT_STATE_DIR": "state/restante",
    }
    for place in places.values():
        (folder / place).mkdir(parents=True, exist_ok=True)
    return {**kept, **{name: str(folder / place) for name, place in places.items()}, "PYTHONPATH": path}


def chat(*arguments: str) -> list[str]:
    """The command with these arguments, as it is installed with this interpreter."""
    return [sys.executable, "-P", "-m", "client_cli.main", *arguments]


class LocalServer:
    """A server over `folder/data`; it can be stopped and started again on the same data and port."""

    def __init__(
        self,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> None:
        """`command` runs something else in the place of `chat serve`, which must take its options."""
        self.folder = folder
        self.env = dict(env) if env is not None else isolated(folder)
        self.log = folder / "serve.log"
        self.address = ""
        self._command = list(command) or chat("serve")
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The supervisor's process id. Raises ServerError if it doesn't run."""
        if self._process is None:
            raise ServerError("the server does not run")
        return self._process.pid

    def start(self) -> str:
        """Start it, and return its address when it is ready. Raises ServerError."""
        listen = f"127.0.0.1:{self._port()}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--data", str(self.folder / "data"), "--listen", listen, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.env,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is ours: the server is stopped in order, and not twice
            )
        self.address = self._first_line().strip()
        if not self.address.startswith("chat://"):
            self.stop()
            raise ServerError(f"the server did not get ready; its log ends:\n{self.log_end()}")
        return self.address

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal, and return its exit code; one that hangs is killed. Stopped twice is stopped."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()  # its services see that it is gone, and end
            return process.wait(STOP_S)
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def log_end(self, lines: int = 20) -> str:
        """The end of what the server wrote to stderr."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def _port(self) -> int:
        """A free one the first time, the same again after."""
        return int(self.address.rpartition("/")[0].rpartition(":")[2]) if self.address else 0

    def _first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + READY_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n") and (rest := deadline - time.monotonic()) > 0:
                if selector.select(rest):
                    data = os.read(self._process.stdout.fileno(), 4096)
                    line += data
                    if not data:
                        break
        return line.decode("utf-8", "replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
