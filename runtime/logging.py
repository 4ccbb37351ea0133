"""Logs: one JSON object a line on stderr, or coloured lines where stderr is a terminal.

Nothing secret gets out: a field whose name says that it is one is replaced before it is rendered. Logging
never raises: when stderr is gone (the supervisor died first), lines are lost, and the service still ends in
order.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import msgspec
import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

#: Fields that are never written, whoever passes them. Routing ids are here because they can be claimed
#: (RULES 1).
HIDDEN = frozenset(
    {"body", "bodies", "frames", "header", "identity", "password", "routing_id", "secret", "token", "user_id"}
)


def configure(service: str, *, level: str = "info", style: str = "auto") -> None:
    """Set up logging for this process. ``style`` is ``"json"``, ``"text"`` or ``"auto"`` (text on a
    terminal).

    Raises ValueError for another level or style: settings check them before.
    """
    if level not in LEVELS or style not in ("auto", "json", "text"):
        raise ValueError(f"log level {level!r} or style {style!r} is unknown")
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if text else _render_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    _service.clear()
    _service["service"] = service
    # pyzmq's authenticator logs every handshake and its key at debug level through the standard library.
    logging.getLogger("zmq.auth").setLevel(logging.ERROR)


def get_logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that adds the service's name and ``fields`` to every line."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**_service, **fields)
    return logger


_service: dict[str, str] = {}


def hide(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the values of secret fields (a structlog processor)."""
    for name in HIDDEN.intersection(event):
        event[name] = "[hidden]"
    return event


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


class _StderrLogger:
    """Writes a line at a time to stderr. A write that fails is a line lost, and nothing else."""

    def __init__(self, *_args: object) -> None:
        self._stream = sys.stderr

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = exception = fatal = log = msg
