"""`register`, `login`, `logout`, `passwd`: where passwords come from, and what a profile holds after."""

import json
from pathlib import Path

import pytest

from restante import profiles
from restante.wire.errors import BadToken, WrongCredentials
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import ADDRESS, OTHER_ADDRESS, TOKEN, FakeClient


def asked(client: FakeClient) -> list[str]:
    return [call[0] for call in client.calls if call[0] != "closed"]


def test_registering_logs_in_where_nobody_is(chat: Chat, client: FakeClient) -> None:
    profiles.remove()
    result = chat("--address", ADDRESS, "register", "bob", "--password-file", "-", stdin="secret word\n")
    assert result.exit_code == 0
    assert client.calls[:2] == [("register", "bob", "secret word", ""), ("login", "bob", "secret word")]
    kept = profiles.load()
    assert kept == profiles.Profile(address=ADDRESS, account=7, name="bob", token=profiles.show_token(TOKEN))


def test_registering_somebody_else_takes_no_login_away(chat: Chat, client: FakeClient) -> None:
    before = profiles.load()
    result = chat("register", "bob", "--password-file", "-", stdin="secret word")
    assert asked(client) == ["register"]
    assert profiles.load() == before
    assert "stays logged in as alice" in result.stderr


def test_registering_can_be_all_that_is_wanted(chat: Chat, client: FakeClient) -> None:
    profiles.remove()
    result = chat(
        "--address", ADDRESS, "register", "bob", "--no-login", "--password-file", "-", "--json", stdin="secret word"
    )
    assert asked(client) == ["register"]
    assert json.loads(result.stdout) == {"account": 7, "name": "bob"}


def test_a_login_is_kept_in_its_profile_for_its_owner_alone(chat: Chat, client: FakeClient) -> None:
    assert (
        chat(
            "--profile", "work", "--address", OTHER_ADDRESS, "login", "bob", "--password-file", "-", stdin="pw"
        ).exit_code
        == 0
    )
    kept = profiles.load("work")
    assert kept is not None
    assert (kept.name, profiles.read_token(kept.token)) == ("bob", TOKEN)
    assert profiles.path_of("work").stat().st_mode & 0o777 == 0o600


def test_a_refused_login_leaves_the_profile_alone(chat: Chat, client: FakeClient) -> None:
    before = profiles.load()
    client.fails, client.fails_after = WrongCredentials("No account has this name and password."), 0
    assert chat("login", "bob", "--password-file", "-", stdin="pw").exit_code == 4
    assert profiles.load() == before


def test_passwords_come_from_files_without_their_line_end(chat: Chat, client: FakeClient, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes("pass wörd \r\n".encode())
    chat("login", "bob", "--password-file", str(tmp_path / "password"))
    assert client.calls[0] == ("login", "bob", "pass wörd ")


def test_a_file_that_is_not_there_is_2(chat: Chat, client: FakeClient, tmp_path: Path) -> None:
    result = chat("login", "bob", "--password-file", str(tmp_path / "absent"))
    assert result.exit_code == 2
    assert f"{tmp_path / 'absent'}: No such file or directory" in result.stderr
    assert asked(client) == []


def test_too_short_a_new_password_is_refused_before_it_is_asked_for_again(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_cli.options.is_terminal", lambda _: True)
    result = chat("register", "bob", stdin="short\nlong enough\nlong enough\n")
    assert ("register", "bob", "long enough", "") in client.calls
    assert result.stderr.count("at least 8 characters") == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"\nsecond", b"\xff\n"])
def test_no_password_where_one_should_be_is_2(chat: Chat, client: FakeClient, content: bytes) -> None:
    assert chat("login", "bob", "--password-file", "-", stdin=content).exit_code == 2
    assert asked(client) == []


def test_nobody_to_ask_for_a_password_is_2(chat: Chat, client: FakeClient) -> None:
    result = chat("login", "bob")
    assert result.exit_code == 2
    assert "--password-file" in result.stderr


def test_a_password_is_asked_for_unseen_and_a_new_one_twice(
    chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_cli.options.is_terminal", lambda _: True)
    result = chat("login", "bob", stdin="typed\n")
    assert client.calls[0] == ("login", "bob", "typed")
    assert "typed" not in result.output
    chat("register", "bob", stdin="first try\nmistyped\nsecond try\nsecond try\n")
    assert ("register", "bob", "second try", "") in client.calls
    assert chat("--no-input", "login", "bob", stdin="typed\n").exit_code == 2


@pytest.mark.parametrize("name", ["register", "login", "passwd"])
def test_no_password_is_ever_an_argument(name: str) -> None:
    from click.testing import CliRunner

    from client_cli.main import cli

    shown = CliRunner().invoke(cli, [name, "--help"]).stdout
    assert "--password " not in shown
    assert "--password-file FILE" in shown


def test_logging_out_revokes_and_forgets_but_remembers_the_server(chat: Chat, client: FakeClient) -> None:
    assert chat("logout").exit_code == 0
    assert asked(client) == ["logout"]
    assert profiles.load() == profiles.Profile(address=ADDRESS)
    assert chat("logout").exit_code == 0
    assert asked(client) == ["logout"], "who is not logged in need not ask"


def test_a_login_that_had_ended_is_forgotten_too(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = BadToken("The token is revoked."), 0
    assert chat("logout").exit_code == 0
    assert profiles.load() == profiles.Profile(address=ADDRESS)


def test_a_changed_password_brings_the_profile_a_new_token(chat: Chat, client: FakeClient) -> None:
    result = chat("passwd", "--old-password-file", "-", "--password-file", "-", stdin="old one\nnew one\n")
    assert result.exit_code == 0
    assert client.calls[0] == ("passwd", "old one", "new one")
    kept = profiles.load()
    assert kept is not None
    assert profiles.read_token(kept.token) == TOKEN[::-1]


def test_the_address_needs_no_server(chat: Chat, client: FakeClient) -> None:
    assert chat("address").stdout == f"{ADDRESS}\n"
    assert json.loads(chat("address", "--json").stdout)["port"] == 5999
    assert client.calls == []


def test_the_address_is_the_one_that_others_can_use(chat: Chat) -> None:
    """A server beside us says by which name it is reached from elsewhere."""
    from restante.local import announce
    from restante.wire.address import parse_address

    public = ADDRESS.replace("127.0.0.1", "chat.example.org")
    announce(parse_address(ADDRESS), parse_address(public))
    assert chat("address").stdout == f"{public}\n"
    assert chat("address", "--address", OTHER_ADDRESS).stdout == f"{OTHER_ADDRESS}\n"


@pytest.mark.parametrize(("auth", "store", "exit_code"), [(True, True, 0), (True, False, 5), (False, True, 5)])
def test_health_is_0_only_if_all_parts_answer(
    chat: Chat, client: FakeClient, auth: bool, store: bool, exit_code: int
) -> None:
    import msgspec

    client.welcome = msgspec.structs.replace(client.welcome, auth=auth, store=store)
    assert chat("health").exit_code == exit_code
    told = chat("health", "--json")
    assert told.exit_code == exit_code
    assert json.loads(told.stdout)["ok"] is (exit_code == 0)
    assert chat("-q", "health").output == ""


def test_version_tells_of_both_ends(chat: Chat) -> None:
    from restante import __version__

    assert chat("version").stdout == f"client  chat {__version__}, protocol 1\nserver  fake 1, protocol 1\n"
    assert json.loads(chat("version", "--json").stdout)["server"] == {"version": "fake 1", "protocol": 1}
    assert chat("--version").stdout == f"chat {__version__}\n"
