"""The example that is written from the specification alone works against a real server, and is as small as promised."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.server import Server

EXAMPLE = Path(__file__).parents[2] / "examples" / "raw_client.py"
DEADLINE_S = 30.0
"""For one run of it, whoever answers or not."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_it_sends_reads_and_sees_read(server: Server) -> None:
    done = run(server.address, "raw.sender", "raw.recipient")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, sent, *rest = done.stdout.splitlines()
    assert [first, second] == ["registered and logged in: raw.sender", "registered and logged in: raw.recipient"]
    what, _, message_id = sent.partition(": ")
    assert (what, len(bytes.fromhex(message_id))) == ("sent, and on disk there", 16)
    assert rest == [
        "fetched from raw.sender: 'left at the counter'",
        "acknowledged: 1",
        "its sender sees that it is read",
    ]


def test_without_names_it_makes_new_ones_each_time(server: Server) -> None:
    assert [run(server.address).returncode for _ in range(2)] == [0, 0]


def test_an_error_is_told_by_its_code(server: Server) -> None:
    done = run(server.address, "-", "raw.other")
    assert done.returncode == 1
    assert done.stderr.startswith("bad_name: ")


def test_whom_nobody_answers_ends_within_the_deadline(server: Server) -> None:
    """A server with another key, and none at all; both at a time, for each takes as long as the example waits."""
    place, _, key = server.address.rpartition("/")
    with socket.socket() as taken, ThreadPoolExecutor() as pool:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        nobody = f"chat://127.0.0.1:{taken.getsockname()[1]}/{key}"
        for done in pool.map(run, (f"{place}/{'A' * 43}", nobody)):
            assert done.returncode == 1
            assert done.stderr.startswith("no_answer: ")


def test_what_is_no_address_is_told() -> None:
    for arguments in ((), ("tcp://localhost:5570",), (f"chat://localhost:65536/{'A' * 43}",)):
        done = run(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("bad_address: ")


def test_it_has_at_most_a_hundred_lines() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 120


def test_it_imports_nothing_but_the_standard_library_pyzmq_and_msgpack() -> None:
    imported = set[str]()
    for node in ast.walk(ast.parse(EXAMPLE.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or ".").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"zmq", "msgpack"}
