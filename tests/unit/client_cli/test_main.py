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
from restante.wire.errors import Busy, UnknownRecipient, UnreachableError
from tests.unit.client_cli.conftest import Chat
from tests.unit.client_cli.fake import ADDRESS, FakeClient

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
    code = "import sys; sys.argv = ['chat', '--help']; from client_cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
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


def test_no_server_known_is_5_and_says_how_to_name_one(client: FakeClient) -> None:
    result = CliRunner().invoke(cli, ["health"], prog_name="chat")
    assert result.exit_code == 5
    assert "--address" in result.stderr


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
