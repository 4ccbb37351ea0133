"""The README: what it links to is there, and what it says of the command is what the command says."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from client_cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def words(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def test_every_link_leads_to_something() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_exit_codes_are_told_as_the_help_tells_them() -> None:
    told = CliRunner().invoke(cli, ["--help"], prog_name="chat").stdout
    codes = words(told.partition("Exit codes: ")[2].partition("130 interrupted")[0])
    assert codes.startswith("0 done")
    assert codes in words(README)


def test_every_variable_of_the_options_is_told() -> None:
    told = CliRunner().invoke(cli, ["--help"], prog_name="chat").stdout
    for name in {*re.findall(r"\[(CHAT_\w+)\]", told), "CHAT_TOKEN", "CHAT_TOKEN_FILE"}:
        assert f"`{name}`" in README


@pytest.mark.parametrize("line", re.findall(r"^\$ chat ([^|&#\n]*)", README, re.MULTILINE))
def test_every_command_shown_is_one_that_there_is_with_options_that_it_has(line: str) -> None:
    given = [word for word in shlex.split(line) if not re.fullmatch(r"\d?>.*", word)]
    name = next(word for word in given if word in COMMANDS)
    shown = CliRunner().invoke(cli, [name, "--help"], prog_name="chat").stdout
    for option in (word for word in given if word.startswith("--")):
        assert option in shown
