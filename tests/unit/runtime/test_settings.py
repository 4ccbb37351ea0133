"""Settings: which source wins, and what a person is told when one is wrong."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from runtime.settings import load


class Settings(msgspec.Struct, frozen=True):
    data: Annotated[Path, msgspec.Meta(description="where everything is kept")]
    listen: Annotated[str, msgspec.Meta(description="where clients connect, 100% yours")] = "tcp://127.0.0.1:0"
    workers_max: Annotated[int, msgspec.Meta(ge=1, le=64, description="log-ins at a time")] = 2
    open_to_all: bool = False
    names: tuple[str, ...] = ()
    lifeline_fd: int | None = None

    def __post_init__(self) -> None:
        if self.open_to_all and not self.names:
            raise ValueError("open_to_all needs names: give --names")


DATA = ["--data", "/srv/data"]


def test_defaults_and_types() -> None:
    settings = load(Settings, "broker", DATA, {})
    assert settings == Settings(data=Path("/srv/data"))


def test_a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default(
    tmp_path: Path,
) -> None:
    (tmp_path / "c.toml").write_text('[broker]\nworkers_max = 3\nlisten = "file"\n[store]\nother = 1\n')
    argv = [*DATA, "--config", str(tmp_path / "c.toml")]
    assert load(Settings, "broker", argv, {}).workers_max == 3
    env = {"CHAT_BROKER_WORKERS_MAX": "4"}
    assert load(Settings, "broker", argv, env).workers_max == 4
    both = load(Settings, "broker", [*argv, "--workers-max", "5"], env)
    assert (both.workers_max, both.listen) == (5, "file")


def test_the_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[broker]\ndata = "/from/file"\n')
    assert load(Settings, "broker", [], {"CHAT_BROKER_CONFIG": str(tmp_path / "c.toml")}).data == Path("/from/file")


def test_lists_are_written_with_commas_and_switches_may_be_turned_off() -> None:
    settings = load(Settings, "broker", [*DATA, "--names", "a, b", "--open-to-all"], {})
    assert (settings.names, settings.open_to_all) == (("a", "b"), True)
    env = {"CHAT_BROKER_OPEN_TO_ALL": "true"}
    assert load(Settings, "broker", [*DATA, "--no-open-to-all"], env).open_to_all is False
    assert load(Settings, "broker", [*DATA, "--lifeline-fd", "7"], {}).lifeline_fd == 7


@pytest.mark.parametrize(
    ("argv", "env", "said"),
    [
        ([], {}, "data is needed: give --data or CHAT_BROKER_DATA"),
        ([*DATA, "--workers-max", "0"], {}, "--workers-max: '0' can't be used: Expected `int` >= 1"),
        (DATA, {"CHAT_BROKER_WORKERS_MAX": "many"}, "CHAT_BROKER_WORKERS_MAX: 'many' can't be used"),
        ([*DATA, "--open-to-all"], {}, "open_to_all needs names"),
        ([*DATA, "--config", "/nowhere.toml"], {}, "--config /nowhere.toml: can't be read"),
        ([*DATA, "--listn", "x"], {}, "unrecognized arguments: --listn"),
    ],
)
def test_what_is_wrong_ends_with_2_and_names_the_field(
    argv: list[str], env: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(Settings, "broker", argv, env)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[broker]\nworker_max = 3\n", "[broker] has no setting 'worker_max'. It has: data"),
        ("[broker]\nworkers_max = 'x'\n", "workers_max in [broker]: 'x' can't be used"),
        ("broker = 3\n", "has no setting"),
        ("not toml", "can't be read"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        load(Settings, "broker", [*DATA, "--config", str(tmp_path / "c.toml")], {})
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_help_shows_text_default_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(Settings, "auth_service", ["--help"], {})
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "log-ins at a time [default 2; CHAT_AUTH_SERVICE_WORKERS_MAX]" in shown
    assert "100% yours" in shown
    assert "[required; CHAT_AUTH_SERVICE_DATA]" in shown
