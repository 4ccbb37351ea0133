"""The command run in this process, with a client that has no server and a home that is a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client_cli.main import cli
from restante.profiles import Profile, save, show_token
from tests.unit.client_cli.fake import ADDRESS, TOKEN, FakeClient

Chat = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own; no variable of the user's."""
    for name in [name for name in os.environ if name.startswith("CHAT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHAT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("CHAT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    monkeypatch.setattr("restante.local.SYSTEM_FILE", tmp_path / "no-such-file")
    return tmp_path


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client that every command gets."""
    fake = FakeClient()
    monkeypatch.setattr("restante.client.Client", fake.made)
    return fake


@pytest.fixture
def logged_in(home: Path) -> Profile:
    """The default profile is alice's."""
    profile = Profile(address=ADDRESS, account=7, name="alice", token=show_token(TOKEN))
    save(profile)
    return profile


@pytest.fixture
def chat(client: FakeClient, logged_in: Profile) -> Chat:
    """Run `chat` with arguments; the result has exit_code, stdout, stderr."""

    def run(*arguments: str, stdin: bytes | str = b"") -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin, prog_name="chat")

    return run
