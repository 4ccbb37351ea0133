"""A server on the same machine is found by itself; and where things lie."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from restante import local, places
from restante.wire.address import Address, Announcement

HERE, PUBLIC = Address("127.0.0.1", 5570, b"k" * 32), Address("chat.example.org", 443, b"k" * 32)
OTHER, THIRD = Address("127.0.0.1", 5571, b"o" * 32), Address("127.0.0.1", 5572, b"t" * 32)
MACHINE = Address("127.0.0.1", 5573, b"m" * 32)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(local, "SYSTEM_FILE", tmp_path / "run" / "address")
    return tmp_path / "state"


def found(key: bytes | None = None) -> Address | None:
    announcement = local.find_local(key)
    return None if announcement is None else announcement.here


@pytest.fixture
def machine(state: Path, tmp_path: Path) -> Address:
    """The machine has a server for everybody, as a mounted folder shows it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "address").write_text(f"{MACHINE}\n{MACHINE}\n")
    return MACHINE


class TestAnnouncing:
    def test_what_is_announced_is_found_until_it_is_withdrawn(self, state: Path) -> None:
        assert local.find_local() is None
        announced = local.announce(HERE, PUBLIC)
        assert local.find_local() == Announcement(here=HERE, public=PUBLIC)
        assert Path(announced.path).stat().st_mode & 0o777 == 0o600
        announced.withdraw()
        assert local.find_local() is None

    def test_of_several_the_newest_is_found_and_one_that_ends_leaves_the_others(self, state: Path) -> None:
        first, second, third = (local.announce(each, each) for each in (HERE, OTHER, THIRD))
        assert found() == THIRD
        second.withdraw()
        assert found() == THIRD
        third.withdraw()
        assert found() == HERE
        first.withdraw()
        assert found() is None

    def test_each_is_found_by_its_key(self, state: Path) -> None:
        for each in (HERE, OTHER):
            local.announce(each, each)
        assert (found(HERE.key), found(OTHER.key), found(b"x" * 32)) == (HERE, OTHER, None)

    def test_two_of_one_key_do_not_take_each_others_place(self, state: Path) -> None:
        """A data folder was copied, and both copies are served."""
        copy = Address("127.0.0.1", 5599, HERE.key)
        local.announce(HERE, HERE)
        second = local.announce(copy, copy)
        assert found() == copy
        second.withdraw()
        assert found() == HERE

    def test_a_server_that_was_killed_outright_is_not_found_and_its_file_goes_with_the_next(self, state: Path) -> None:
        local.announce(HERE, HERE)
        code = (
            "import os, signal\nfrom restante import local\nfrom restante.wire.address import Address\n"
            "local.announce(*[Address('127.0.0.1', 5571, b'o' * 32)] * 2)\n"
            "assert local.find_local().here.port == 5571\nos.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(list((state / "servers").iterdir())) == 2
        assert found() == HERE
        assert found(OTHER.key) is None
        local.announce(THIRD, THIRD)
        assert len(list((state / "servers").iterdir())) == 2

    def test_withdrawing_leaves_what_has_taken_its_place(self, state: Path) -> None:
        first = local.announce(HERE, HERE)
        local.announce(HERE, PUBLIC)
        first.withdraw()
        assert local.find_local() == Announcement(here=HERE, public=PUBLIC)

    def test_the_machines_server_is_found_if_the_user_has_none(self, machine: Address) -> None:
        assert found() == machine
        announced = local.announce(HERE, HERE)
        assert found() == HERE
        assert found(machine.key) == machine
        announced.withdraw()
        assert found() == machine

    def test_a_file_that_holds_something_else_is_passed_over(self, machine: Address, state: Path) -> None:
        announced = local.announce(HERE, HERE)
        Path(announced.path).write_bytes(b"\xff\x00")
        assert found() == machine


class TestPlaces:
    @pytest.mark.skipif(sys.platform != "linux", reason="only there is the rule written down twice")
    @pytest.mark.parametrize(
        "environment",
        [
            {},
            {"XDG_CONFIG_HOME": "/tmp/c", "XDG_STATE_HOME": "/tmp/s", "XDG_CONFIG_DIRS": "/tmp/d:/tmp/e"},
            {"XDG_CONFIG_HOME": "", "XDG_STATE_HOME": " ", "XDG_CONFIG_DIRS": ""},
        ],
        ids=["nothing", "told", "empty"],
    )
    def test_are_those_of_platformdirs(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CONFIG_DIRS", "CHAT_CONFIG_DIR", "CHAT_STATE_DIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert places.in_user_config("f") == str(platformdirs.user_config_path("restante") / "f")
        assert places.in_user_state("f") == str(platformdirs.user_state_path("restante") / "f")
        assert places.in_system_config("f") == str(platformdirs.site_config_path("restante") / "f")
        assert places.user_state() == platformdirs.user_state_path("restante")

    def test_elsewhere_platformdirs_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CHAT_CONFIG_DIR", "CHAT_STATE_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(places, "_BY_HAND", False)
        assert places.in_user_config("f") == str(platformdirs.user_config_path("restante") / "f")
        assert places.in_user_state("f") == str(platformdirs.user_state_path("restante") / "f")
        assert places.in_system_config("f") == str(platformdirs.site_config_path("restante") / "f")
        assert places.user_state() == platformdirs.user_state_path("restante")

    def test_may_be_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CHAT_CONFIG_DIR", str(tmp_path / "a"))
        monkeypatch.setenv("CHAT_STATE_DIR", str(tmp_path / "b"))
        assert places.in_user_config("f") == str(tmp_path / "a" / "f")
        assert places.user_state() == tmp_path / "b"
