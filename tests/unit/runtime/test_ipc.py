"""Places of ipc sockets: ours alone, short enough, one owner each."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import sockets
from runtime.errors import SetupError
from runtime.ipc import DIRECTORY_BYTES_MAX, private_ipc_dir
from tests.unit.runtime.support import context, python


@pytest.fixture
def short() -> Iterator[str]:
    """A folder with a short path; pytest's own are long."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield name


def test_a_new_directory_is_short_and_ours_alone(monkeypatch: pytest.MonkeyPatch, short: str) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", short)
    made = private_ipc_dir()
    assert made.parent == Path(short)
    assert made.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(made)) <= DIRECTORY_BYTES_MAX


def test_places_that_are_not_there_or_too_long_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, short: str
) -> None:
    long = tmp_path / ("x" * DIRECTORY_BYTES_MAX)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", short)
    for unusable in (str(tmp_path / "absent"), str(long), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", unusable)
        assert private_ipc_dir().parent == Path(short)


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(SetupError, match="chmod 700"):
        private_ipc_dir(tmp_path / "open")


def test_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SetupError, match="not a directory of this user's"):
        private_ipc_dir(tmp_path / "link")


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="too long"):
        private_ipc_dir(tmp_path / ("x" * DIRECTORY_BYTES_MAX))
    with context() as made, pytest.raises(SetupError, match="shorter path"):
        sockets.bind(sockets.worker_router(made), f"ipc://{tmp_path}/{'x' * 107}")


def test_a_second_bind_here_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with context() as made:
        endpoint = f"ipc://{tmp_path}/s"
        first = sockets.pull(made)
        sockets.bind(first, endpoint)
        with pytest.raises(SetupError, match="another socket of this process"):
            sockets.bind(sockets.pull(made), endpoint)
        first.close()
        sockets.bind(sockets.pull(made), endpoint)  # its place is free again


HOLDER = """
import sys
from runtime import sockets
socket = sockets.pull(sockets.make_context())
sockets.bind(socket, sys.argv[1])
print("bound", flush=True)
sys.stdin.read()
"""


def test_a_second_bind_from_another_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    with context() as made:
        with python(HOLDER, endpoint, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "bound\n"
            with pytest.raises(SetupError, match="another process"):
                sockets.bind(sockets.pull(made), endpoint)
            holder.kill()
            holder.wait(10)
        sockets.bind(sockets.pull(made), endpoint)
