"""The group: help, common options, how errors are told, and what is imported."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from client_cli.main import COMMANDS, LazyGroup, cli
from client_cli.telling import sentence
from restante.profiles import Profile, save
from restante.wire.errors import BadToken, Busy, NotLoggedIn, UnknownRecipient, UnreachableError
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import ADDRESS, OTHER_ADDRESS, FakeClient

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"], prog_name="chat").stdout
    assert f"Usage: chat {name}" in shown
    assert "Examples:" in shown
    assert f" {name}" in shown.partition("Examples:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_no_default_of_its_own_variable(name: str) -> None:
    command = importlib.import_module(f"client_cli.commands.{name}").command
    assert command.name == name
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.envvar is None, option.name


def test_there_is_a_module_for_every_command_and_a_command_for_every_module() -> None:
    modules = {path.stem for path in (ROOT / "client_cli" / "commands").glob("*.py")} - {"__init__"}
    assert modules == set(COMMANDS)


def test_the_list_of_commands_imports_none_of_them() -> None:
    assert isinstance(cli, LazyGroup)
    code = "import sys; from client_cli.main import cli\n"
    code += "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in sys.modules if name.startswith(('client_cli.commands', 'zmq', 'rich'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_sending_imports_only_what_sending_needs() -> None:
    """A slow start is felt at every prompt: a cold `chat send` loads zmq, msgpack, msgspec, click, and little else."""
    code = (
        "import sys; from client_cli.commands import send; import client_cli.main, restante.client\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    too_much = {"rich", "asyncio", "platformdirs", "structlog", "runtime", "tomllib", "importlib.metadata", "socket"}
    assert not loaded & too_much
    assert {name for name in loaded if name.startswith("client_cli.commands.")} == {"client_cli.commands.send"}


@pytest.mark.parametrize(
    ("before", "ended_by_itself"),
    [
        ("", False),
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", True),
        ("sys.stdout = None", True),
    ],
    ids=["usually", "a thread is left", "stdout is not"],
)
def test_the_interpreter_is_not_taken_apart_where_nothing_is_left_to_do(before: str, ended_by_itself: bool) -> None:
    code = f"""
import atexit, os, sys
from client_cli.main import main
atexit.register(os.write, 2, b"taken apart")
sys.argv = ["chat", "send", "--to-nobody"]
{before}
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2, "wrong usage"
    assert "--to-nobody" in done.stderr
    assert done.stderr.endswith("taken apart") is ended_by_itself


def test_common_options_stand_before_or_after_the_command(chat: Chat, client: FakeClient) -> None:
    for arguments in (
        ("--address", ADDRESS, "--profile", "p", "--timeout", "3", "health"),
        ("health", "--address", ADDRESS, "--profile", "p", "--timeout", "3"),
    ):
        assert chat(*arguments).exit_code == 0
        assert (client.given["address"], client.given["profile"], client.given["timeout_s"]) == (ADDRESS, "p", 3.0)


def test_the_later_of_two_stands(chat: Chat, client: FakeClient) -> None:
    chat("--timeout", "3", "health", "--timeout", "4")
    assert client.given["timeout_s"] == 4.0


def test_an_error_says_what_happened_what_it_means_and_what_to_do(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = UnknownRecipient("No account is called 'zoe'"), 0
    result = chat("send", "zoe", "hi")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "chat: No account is called 'zoe'. It was sent to nobody, not even to the others. Check the names.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("health",), "chat: 127.0.0.1:1 cannot be reached. Check"),
        (("inbox",), "chat: 127.0.0.1:1 cannot be reached. Check"),
        (("send", "bob", "hi"), "chat: 127.0.0.1:1 cannot be reached. The message was not sent. Check"),
        (("logout",), "chat: 127.0.0.1:1 cannot be reached. Nothing was changed. Check"),
    ],
)
def test_what_was_not_done_is_told_by_commands_that_do_it_and_once(
    chat: Chat, client: FakeClient, arguments: tuple[str, ...], said: str
) -> None:
    client.fails, client.fails_after = UnreachableError("127.0.0.1:1 cannot be reached"), 0
    assert chat(*arguments).stderr.startswith(said)
    client.fails = UnreachableError("it cannot be reached; nothing was sent")
    assert chat(*arguments).stderr.startswith("chat: It cannot be reached; nothing was sent. Check")


def test_a_printed_command_speaks_with_the_same_server_as_the_same_person(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = BadToken("the token is revoked"), 0
    assert chat("inbox").stderr.endswith("Log in: chat login NAME\n")
    given = ("--profile", "work", "--address", ADDRESS)
    assert chat(*given, "inbox").stderr.endswith(f"Log in: chat --address {ADDRESS} --profile work login NAME\n")
    shown = CliRunner().invoke(cli, ["--profile", "work", "--address", ADDRESS, "inbox"], prog_name="restante").stderr
    assert f"restante --address {ADDRESS} --profile work login" in shown


class TestNobodyIsLoggedIn:
    """What to do depends on where the token should have come from."""

    @pytest.fixture(autouse=True)
    def refused(self, client: FakeClient) -> None:
        client.fails, client.fails_after = NotLoggedIn("not logged in"), 0

    def test_with_a_profile_that_knows_nobody(self, client: FakeClient) -> None:
        result = CliRunner().invoke(cli, ["--address", ADDRESS, "inbox"], prog_name="chat")
        assert result.exit_code == 4
        assert "Nobody is logged in with this profile. " in result.stderr
        assert f"chat --address {ADDRESS} login NAME" in result.stderr
        assert "CHAT_TOKEN" in result.stderr

    def test_with_a_profile_of_another_server(self, chat: Chat) -> None:
        result = chat("--address", OTHER_ADDRESS, "inbox")
        assert result.exit_code == 4
        assert "This profile is logged in as alice at 127.0.0.1:5999, which is another server" in result.stderr
        assert f"chat --address {OTHER_ADDRESS} --profile NAME login ACCOUNT" in result.stderr

    def test_with_a_token_that_is_no_good(
        self, chat: Chat, client: FakeClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To log in would change nothing: the variable goes before the profile."""
        client.fails = BadToken("the token is revoked")
        monkeypatch.setenv("CHAT_TOKEN", "A" * 43)
        result = chat("inbox")
        assert "The token is that of CHAT_TOKEN" in result.stderr
        assert "Log in" not in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no account is named 'zoe'", "No account is named 'zoe'."),
        ("it is so.", "It is so."),
        ("127.0.0.1:1 cannot", "127.0.0.1:1 cannot."),
        ("'x' is no name", "'x' is no name."),
        ("/etc/x: no", "/etc/x: no."),
        ("to do:", "To do:"),
        ("", "."),
    ],
)
def test_what_people_see_are_sentences(text: str, told: str) -> None:
    assert sentence(text) == told


def test_profiles_complete(chat: Chat) -> None:
    for name in ("work", "home", "workshop"):
        save(Profile(address=ADDRESS), name)
    env = {"_CHAT_COMPLETE": "bash_complete", "COMP_WORDS": "chat --profile wo", "COMP_CWORD": "2"}
    shown = CliRunner().invoke(cli, [], prog_name="chat", env=env).stdout
    assert shown == "plain,work\nplain,workshop\n"


def test_an_error_is_json_where_json_was_asked_for(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = Busy("Too much waits.", retry_after_s=0.5), 0
    result = chat("send", "bob", "hi", "--json")
    assert result.exit_code == 5
    told = json.loads(result.stderr)
    assert told["error"] == "busy"
    assert told["do"]


def test_a_servers_words_cannot_drive_the_terminal(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = UnreachableError("\x1b[2Jgone\u202e"), 0
    assert "chat: \\x1b[2Jgone\\u202e." in chat("health").stderr


def test_no_server_known_is_2_and_says_how_to_name_one(client: FakeClient) -> None:
    """To repeat it changes nothing: it is not 5."""
    result = CliRunner().invoke(cli, ["health"], prog_name="chat")
    assert result.exit_code == 2
    assert "--address" in result.stderr
    assert "CHAT_ADDRESS" in result.stderr


def test_a_damaged_address_is_2(chat: Chat) -> None:
    result = chat("--address", "chat://nowhere", "health")
    assert result.exit_code == 2
    assert "is not an address" in result.stderr


def test_interrupted_is_130(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = KeyboardInterrupt(), 0
    assert chat("health").exit_code == 130


def test_a_bug_is_not_swallowed(chat: Chat, client: FakeClient) -> None:
    client.fails, client.fails_after = ZeroDivisionError(), 0
    assert isinstance(chat("health").exception, ZeroDivisionError)


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("send",), ("health", "--no-such")])
def test_wrong_usage_is_2(chat: Chat, arguments: tuple[str, ...]) -> None:
    assert chat(*arguments).exit_code == 2


def test_quiet_says_nothing_but_data(chat: Chat) -> None:
    assert chat("-q", "inbox").output == ""


def test_completion_knows_the_commands() -> None:
    env = {"_CHAT_COMPLETE": "bash_complete", "COMP_WORDS": "chat in", "COMP_CWORD": "1"}
    shown = CliRunner().invoke(cli, [], prog_name="chat", env=env).stdout
    assert shown == "plain,inbox\n"
