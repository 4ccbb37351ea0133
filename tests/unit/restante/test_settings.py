"""Where a setting comes from, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from restante.local import announce
from restante.profiles import Profile, save, show_token
from restante.settings import TIMEOUT_S, read_settings
from restante.wire.address import Address
from restante.wire.errors import SettingsError

TOKEN, OTHER_TOKEN = b"t" * 32, b"o" * 32


def address(host: str, key: bytes = b"k" * 32) -> Address:
    return Address(host, 5570, key)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of its own, and an environment that says nothing."""
    for name in ("CHAT_ADDRESS", "CHAT_PROFILE", "CHAT_TOKEN", "CHAT_TOKEN_FILE", "CHAT_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHAT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("CHAT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("restante.settings.in_system_config", lambda name: str(tmp_path / "system" / name))
    monkeypatch.setattr("restante.local.SYSTEM_FILE", tmp_path / "run" / "address")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


class TestPrecedence:
    def test_each_source_gives_way_to_the_one_before_it(self, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        announce(address("local", b"l" * 32), address("local", b"l" * 32))
        hosts = [read_settings().address]
        write(folders / "system" / "config.toml", f'address = "{address("system")}"')
        hosts.append(read_settings().address)
        write(folders / "config" / "config.toml", f'address = "{address("user")}"')
        hosts.append(read_settings().address)
        save(Profile(address=str(address("profile"))))
        hosts.append(read_settings().address)
        monkeypatch.setenv("CHAT_ADDRESS", str(address("environment")))
        hosts.append(read_settings().address)
        hosts.append(read_settings(str(address("argument"))).address)
        assert [host and host.host for host in hosts] == [
            "local", "system", "user", "profile", "environment", "argument",
        ]  # fmt: skip

    def test_a_server_beside_us_is_reached_where_it_is_now(self) -> None:
        save(Profile(address=str(address("yesterday")), account=1, name="alice", token=show_token(TOKEN)))
        announce(address("today"), address("today"))
        settings = read_settings()
        assert settings.address == address("today")
        assert settings.token == TOKEN
        assert read_settings(str(address("argument"))).address == address("argument")

    def test_with_nothing_there_is_no_address_and_no_token(self) -> None:
        settings = read_settings()
        assert (settings.address, settings.token, settings.profile) == (None, None, "default")
        assert settings.timeout_s == TIMEOUT_S

    def test_timeouts(self, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(folders / "config" / "config.toml", "timeout = 1")
        assert read_settings().timeout_s == 1
        monkeypatch.setenv("CHAT_TIMEOUT", "2.5")
        assert read_settings().timeout_s == 2.5
        assert read_settings(timeout_s=3).timeout_s == 3

    def test_profiles(self, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("file", "environment", "argument"):
            save(Profile(address=str(address(name))), name)
        write(folders / "config" / "config.toml", 'profile = "file"')
        assert read_settings().profile == "file"
        monkeypatch.setenv("CHAT_PROFILE", "environment")
        assert read_settings().profile == "environment"
        settings = read_settings(profile="argument")
        assert settings.profile == "argument"
        assert settings.address == address("argument")

    def test_tokens(self, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(folders / "mounted", show_token(b"m" * 32) + "\n")
        write(folders / "secret", show_token(b"s" * 32) + "\n")
        write(folders / "config" / "config.toml", f'token_file = "{folders / "mounted"}"')
        assert read_settings().token == b"m" * 32
        save(Profile(address=str(address("profile")), account=1, name="alice", token=show_token(b"p" * 32)))
        assert read_settings().token == b"p" * 32
        assert read_settings().name == "alice"
        monkeypatch.setenv("CHAT_TOKEN_FILE", str(folders / "secret"))
        assert read_settings().token == b"s" * 32
        monkeypatch.setenv("CHAT_TOKEN", show_token(TOKEN))
        assert read_settings().token == TOKEN
        assert read_settings(token=show_token(OTHER_TOKEN)).token == OTHER_TOKEN
        assert read_settings(token=OTHER_TOKEN).token == OTHER_TOKEN

    def test_what_is_no_token_is_told_with_where_it_stands(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(folders / "secret", "nonsense")
        monkeypatch.setenv("CHAT_TOKEN_FILE", str(folders / "secret"))
        with pytest.raises(SettingsError, match=r"CHAT_TOKEN_FILE names .*/secret: that is no token"):
            read_settings()
        monkeypatch.setenv("CHAT_TOKEN", "nonsense")
        with pytest.raises(SettingsError, match=r"^CHAT_TOKEN: that is no token: one is 43") as raised:
            read_settings()
        assert "nonsense" not in str(raised.value)

    def test_an_empty_variable_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CHAT_ADDRESS", "CHAT_PROFILE", "CHAT_TOKEN", "CHAT_TOKEN_FILE", "CHAT_TIMEOUT"):
            monkeypatch.setenv(name, " ")
        settings = read_settings()
        assert (settings.address, settings.token, settings.profile) == (None, None, "default")


class TestTokensAreForTheirServer:
    def test_another_server_is_not_shown_the_profiles_token(self) -> None:
        save(Profile(address=str(address("profile")), account=1, name="alice", token=show_token(TOKEN)))
        settings = read_settings(str(address("profile", b"x" * 32)))
        assert (settings.token, settings.name) == (None, "")

    def test_the_same_server_under_another_name_is(self) -> None:
        save(Profile(address=str(address("profile")), account=1, name="alice", token=show_token(TOKEN)))
        assert read_settings(str(address("127.0.0.1"))).token == TOKEN


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("adress = 1", "adress"),
            ("timeout = 'soon'", "timeout must be a number of seconds"),
            ("address = 5", "address must be text"),
            ("address = ", "config.toml"),
            ("timeout = -1", "more than 0"),
            ("address = 'chat://nowhere'", "not an address"),
            ("token_file = '/no/such/file'", "token_file names /no/such/file"),
        ],
    )
    def test_a_file_that_is_wrong_is_named(self, folders: Path, text: str, says: str) -> None:
        write(folders / "config" / "config.toml", text)
        with pytest.raises(SettingsError, match=says):
            read_settings()

    def test_bytes_that_are_no_text(self, folders: Path) -> None:
        write(folders / "config" / "config.toml", "")
        (folders / "config" / "config.toml").write_bytes(b"\xff")
        with pytest.raises(SettingsError, match=r"config\.toml"):
            read_settings()

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("CHAT_TIMEOUT", "soon", "not a number of seconds"),
            ("CHAT_TIMEOUT", "nan", "more than 0"),
            ("CHAT_TIMEOUT", "0", "more than 0"),
            ("CHAT_ADDRESS", "localhost:5570", "not an address"),
            ("CHAT_TOKEN", "secret-of-mine", "no token"),
            ("CHAT_TOKEN_FILE", "/no/such/file", "cannot be read"),
            ("CHAT_PROFILE", "../../etc/passwd", "no name for a profile"),
        ],
    )
    def test_a_variable_that_is_wrong_is_told(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=says) as caught:
            read_settings()
        assert "secret-of-mine" not in str(caught.value)

    def test_a_token_of_another_length(self) -> None:
        with pytest.raises(SettingsError, match="32 bytes"):
            read_settings(token=b"short")

    def test_a_broken_profile_is_in_nobodys_way_who_does_not_need_it(self, folders: Path) -> None:
        write(folders / "config" / "profiles" / "default.json", "{")
        (folders / "config" / "profiles" / "default.json").chmod(0o600)
        with pytest.raises(SettingsError, match="damaged"):
            read_settings()
        assert read_settings(str(address("argument")), token=TOKEN).token == TOKEN
