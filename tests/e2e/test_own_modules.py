"""Nobody's script breaks because it has modules beside it that are named like ours (DESIGN §7)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from restante import Client
from tests.e2e.server import Server

OURS = ["schemas", "broker", "runtime", "auth_service", "store_worker", "client_cli", "benchmarks", "tests"]

SCRIPT = """
from restante import Client

with Client() as chat:
    print(chat.send(chat.overview().name, "from a script with neighbours").id_text)
"""


def test_a_script_with_a_broker_py_of_its_own_sends(server: Server, tmp_path: Path) -> None:
    server.person("neighbour")
    for name in OURS:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the user has this one')\n", encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    env = {**server.env, "CHAT_PROFILE": "neighbour"}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.strip()) == 36


def test_the_client_imports_nothing_of_the_services(server: Server) -> None:
    code = "import restante, sys; restante.Client; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], env=server.env, capture_output=True, timeout=30, check=True)
    assert not {"broker", "runtime", "auth_service", "store_worker", "client_cli"} & set(done.stdout.decode().split())
    assert Client.__module__ == "restante.client"
