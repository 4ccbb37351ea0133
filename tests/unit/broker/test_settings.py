"""The broker's settings: what they default to, and who may register."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.settings import Settings
from restante.wire.limits import PORT_DEFAULT, SESSIONS_MAX
from runtime import settings

NEEDED = {"data": "/d", "keys": "/k", "store": "tcp://s:1", "workers": "tcp://w:1", "confirms": "tcp://c:1"}
ARGV = [word for name, value in NEEDED.items() for word in (f"--{name}", value)]


def test_what_is_not_told_has_a_default() -> None:
    given = settings.load(Settings, "broker", ARGV, {})
    assert given.data == Path("/d")
    assert given.listen == f"tcp://127.0.0.1:{PORT_DEFAULT}"
    assert (given.sessions_max, given.advertise, given.log_level) == (SESSIONS_MAX, "", "info")


@pytest.mark.parametrize("name", NEEDED)
def test_what_has_none_must_be_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [word for other, value in NEEDED.items() if other != name for word in (f"--{other}", value)]
    with pytest.raises(SystemExit) as ended:
        settings.load(Settings, "broker", argv, {})
    assert ended.value.code == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--sessions-max", "0"), ("--registration", "maybe"), ("--sessions-max", "many")])
def test_a_wrong_value_is_refused_by_name(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.load(Settings, "broker", [*ARGV, *words], {})
    assert ended.value.code == 2
    assert words[0].removeprefix("--") in capsys.readouterr().err.replace("_", "-")


@pytest.mark.parametrize(
    ("listen", "told", "open_"),
    [
        ("tcp://127.0.0.1:5570", None, True),
        ("tcp://127.1.2.3:5570", None, True),
        ("tcp://localhost:5570", None, True),
        ("tcp://[::1]:5570", None, True),
        ("tcp://0.0.0.0:5570", None, False),
        ("tcp://*:5570", None, False),
        ("tcp://192.0.2.1:5570", None, False),
        ("tcp://127.example.org:5570", None, False),
        ("tcp://0.0.0.0:5570", "open", True),
        ("tcp://127.0.0.1:5570", "closed", False),
    ],
)
def test_newcomers_are_let_in_on_loopback_or_if_told_so(listen: str, told: str | None, open_: bool) -> None:
    env = {} if told is None else {"CHAT_BROKER_REGISTRATION": told}
    given = settings.load(Settings, "broker", [*ARGV, "--listen", listen], env)
    assert given.registration_open is open_
