"""Logs: one JSON object a line, no secrets, and no failure of its own."""

import io
import json
import sys
from collections.abc import Iterator

import pytest
import structlog

from runtime import logging
from runtime.logging import HIDDEN


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    logging._service.clear()


def test_a_line_is_one_json_object_with_service_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("broker")
    logging.get_logger(part="link").info("opened", epoch=3)
    written = capsys.readouterr()
    assert written.out == ""
    line = json.loads(written.err)
    assert {k: line[k] for k in ("service", "part", "event", "level", "epoch")} == {
        "service": "broker", "part": "link", "event": "opened", "level": "info", "epoch": 3,
    }  # fmt: skip
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("name", sorted(HIDDEN))
@pytest.mark.parametrize("style", ["json", "text"])
def test_secrets_are_hidden_whatever_is_passed(name: str, style: str, capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("broker", style=style)
    logging.get_logger().warning("odd", **{name: "s3cret"})
    written = capsys.readouterr().err
    assert "s3cret" not in written
    assert "[hidden]" in written


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("broker", level="warning")
    logging.get_logger().info("chatter")
    assert capsys.readouterr().err == ""


def test_exceptions_and_odd_values_are_written_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("broker")
    try:
        raise ValueError("no good")
    except ValueError:
        logging.get_logger().exception("failed", value=object(), frame=b"\xff")
    line = json.loads(capsys.readouterr().err)
    assert "ValueError: no good" in line["exception"]


def test_a_stderr_that_is_gone_loses_the_line_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logging.configure("broker")
    monkeypatch.setattr(sys, "stderr", closed)
    logging.get_logger().info("nobody hears this")


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"style": "xml"}])
def test_unknown_levels_and_styles_are_errors(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unknown"):
        logging.configure("broker", **wrong)
