"""A server on the same machine is found by itself; and where things lie."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest

from restante import local, places
from restante.wire.address import Address

HERE, PUBLIC = Address("127.0.0.1", 5570, b"k" * 32), Address("chat.example.org", 443, b"k" * 32)
OTHER = Address("127.0.0.1", 5571, b"o" * 32)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(local, "SYSTEM_FILE", tmp_path / "run" / "address")
    return tmp_path / "state"


class TestAnnouncing:
    def test_what_is_announced_is_found_until_it_is_withdrawn(self, state: Path) -> None:
        assert local.find_local() is None
        local.announce(HERE, PUBLIC)
        found = local.find_local()
        assert found is not None
        assert (found.here, found.public) == (HERE, PUBLIC)
        local.withdraw(HERE)
        assert local.find_local() is None
        local.withdraw(HERE)

    def test_one_does_not_withdraw_what_another_announced(self, state: Path) -> None:
        local.announce(HERE, HERE)
        local.announce(OTHER, OTHER)
        local.withdraw(HERE)
        found = local.find_local()
        assert found is not None
        assert found.here == OTHER

    def test_the_machines_server_is_found_if_the_user_has_none(self, state: Path, tmp_path: Path) -> None:
        local.announce(OTHER, OTHER, folder=tmp_path / "run")
        found = local.find_local()
        assert found is not None
        assert found.here == OTHER
        local.announce(HERE, HERE)
        found = local.find_local()
        assert found is not None
        assert found.here == HERE

    def test_a_file_that_holds_something_else_is_passed_over(self, state: Path, tmp_path: Path) -> None:
        local.announce(OTHER, OTHER, folder=tmp_path / "run")
        state.mkdir()
        (state / "address").write_bytes(b"\xff\x00")
        found = local.find_local()
        assert found is not None
        assert found.here == OTHER


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
