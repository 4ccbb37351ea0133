"""What does one `chat send` cost, cold, to a running server? Beside the bare imports it can't do without.

    python -m benchmarks.start [--runs N]

Both are started in turn, so that what else the machine does falls on both; medians are compared. `chat send` does all
that it does for a user: settings, profile, a CURVE connection, hello, resume, send, and the store's sync to disk.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.local_server import LocalServer, chat, isolated
from benchmarks.processes import took_s

BARE: Final = [sys.executable, "-c", "import zmq, msgpack, msgspec, click"]
GOAL: Final = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="of each")
    runs: int = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="restante-start-") as name:
        folder = Path(name)
        # Compiled once, as an installed package is, whatever this environment says of bytecode.
        env = {**isolated(folder), "PYTHONPYCACHEPREFIX": str(folder / "cache")}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        with LocalServer(folder, env=env, options=["--log-level", "error"]) as server:
            password = ("register", "bob", "--password-file", "-")
            subprocess.run(chat(*password), input=b"correct horse", env=server.env, check=True, capture_output=True)
            send = chat("send", "bob", "hi")
            # The first fills the caches.
            times = [[took_s(each, server.env, folder) for each in (BARE, send)] for _ in range(runs + 1)][1:]
    bare_s, send_s = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"import zmq, msgpack, msgspec, click   {bare_s * 1000:6.1f} ms")
    print(f"chat send bob hi                      {send_s * 1000:6.1f} ms   {send_s / bare_s:.2f}×, goal {GOAL}×")
    return 0


if __name__ == "__main__":
    sys.exit(main())
