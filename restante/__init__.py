"""Restante: self-hosted, durable messaging for people and scripts.

    from restante import Client

    with Client() as chat:  # configured as the command is: CHAT_ADDRESS, CHAT_PROFILE, …
        receipt = chat.send("bob", "the backup is done", once="backup-2026-11-24")
        for message in chat.inbox():
            print(message.sender, message.text)
            message.ack()

`AsyncClient` is the same with `await`. Whatever is raised on purpose is a `ChatError`; the tree stands in
`restante.wire.errors`. Names are loaded when they are first used, so that the import itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from restante.aio import AsyncClient
    from restante.client import Client
    from restante.messages import AsyncMessage, Message, Outcome, Outgoing, PageOf, Receipt
    from restante.wire.errors import (
        ChatError,
        OutcomeUnknown,
        RefusedError,
        SettingsError,
        UnreachableError,
        WrongServerKey,
    )

__version__: Final = "0.1.0"

_HOMES: Final = {
    "AsyncClient": "restante.aio",
    "AsyncMessage": "restante.messages",
    "ChatError": "restante.wire.errors",
    "Client": "restante.client",
    "Message": "restante.messages",
    "Outcome": "restante.messages",
    "OutcomeUnknown": "restante.wire.errors",
    "Outgoing": "restante.messages",
    "PageOf": "restante.messages",
    "Receipt": "restante.messages",
    "RefusedError": "restante.wire.errors",
    "SettingsError": "restante.wire.errors",
    "UnreachableError": "restante.wire.errors",
    "WrongServerKey": "restante.wire.errors",
}

__all__ = [  # noqa: RUF022 - what one meets first stands first
    "Client",
    "AsyncClient",
    "Outgoing",
    "Receipt",
    "Outcome",
    "Message",
    "AsyncMessage",
    "PageOf",
    "ChatError",
    "RefusedError",
    "UnreachableError",
    "WrongServerKey",
    "OutcomeUnknown",
    "SettingsError",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in, once."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
