"""From what a user gives to what travels: ids, recipients, contents, and what can be refused without asking anybody.

A refusal here is the exception that the server's would be. What only the server can know is left to it; above all, a
well-formed recipient is refused by nobody else (RULES 12).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Final

from restante.messages import Outgoing
from restante.wire import limits
from restante.wire.envelopes import TEXT, Item
from restante.wire.errors import BadName, BadRequest, BodyTooLarge, EmptyBody, TooLarge
from restante.wire.ids import IdMaker, once_id

BINARY: Final = "application/octet-stream"
"""The content type of bytes that are not text and were not said to be anything else."""

NEVER_UTF8: Final = bytes((0xC0, 0xC1, *range(0xF5, 0x100)))
"""Bytes that UTF-8 has nowhere."""

HEAD_BYTES: Final = 48
"""So many of what is compressed or random nearly always have one of those."""

KNOWN_NAMES_MAX: Final = 4_096
"""Recipients that are remembered as well-formed, some hundred bytes each."""


class Composer:
    """Makes messages and ids; holds the clock and the dice that takes."""

    def __init__(self) -> None:
        self._ids = IdMaker(os.urandom)
        self._known: dict[str, list[str]] = {}
        """Names that were sent to alone, as the recipients they make: most are sent to again."""

    def new_id(self) -> bytes:
        """A message or operation id: a UUIDv7."""
        return self._ids.make(time.time_ns() // 1_000)

    def compose(self, outgoing: Outgoing, account: int | None) -> tuple[Item, bytes]:
        """The message as it travels: its header and its content. `account` is the sender's number, for `once`.

        Raises EmptyBody, BodyTooLarge, BadName, TooLarge, BadRequest.
        """
        now_us = time.time_ns() // 1_000
        body, content_type = _content(outgoing)
        own_id = outgoing.id is not None or outgoing.once is not None
        item = Item(
            id=_own_id(outgoing, account) if own_id else self._ids.make(now_us),
            to=self._recipients(outgoing.to),
            size=len(body),
            content_type=content_type,
            sent_at_us=now_us,
            reply_to=_checked_id(outgoing.reply_to, "reply_to") if outgoing.reply_to is not None else None,
        )
        return item, body

    def _recipients(self, to: str | Iterable[str]) -> list[str]:
        if not isinstance(to, str):
            return _checked_names(list(dict.fromkeys(to)))
        names = self._known.get(to)
        if names is None:
            if len(self._known) >= KNOWN_NAMES_MAX:
                self._known.clear()
            names = self._known[to] = _checked_names([to])
        return names


def _own_id(outgoing: Outgoing, account: int | None) -> bytes:
    """The id that a message was given, or that its `once` stands for."""
    if outgoing.once is None:
        assert outgoing.id is not None, "it was looked at"
        return _checked_id(outgoing.id, "id")
    if outgoing.id is not None:
        raise BadRequest("a message has an id or a once key, not both")
    assert account is not None, "the shell waits for the account first"
    try:
        return once_id(account, outgoing.once)
    except (ValueError, UnicodeError) as error:
        raise BadRequest(str(error)) from error


def _content(outgoing: Outgoing) -> tuple[bytes, str]:
    """A message's bytes and their media type."""
    body, content_type = outgoing.body, outgoing.content_type
    if isinstance(body, str):
        try:
            body = body.encode()
        except UnicodeEncodeError as error:
            raise BadRequest(f"the text can't be written as UTF-8: {error.reason}; send its bytes") from error
        content_type = content_type or TEXT
    else:
        body = body if type(body) is bytes else bytes(body)  # to ask costs a tenth of the call
        content_type = content_type or (TEXT if _is_text(body) else BINARY)
    if not body:
        raise EmptyBody("the message has no content")
    if len(body) > limits.MESSAGE_BYTES_MAX:
        raise BodyTooLarge(f"the message has {len(body)} bytes, the limit is {limits.MESSAGE_BYTES_MAX}")
    if outgoing.content_type and (len(content_type) > limits.CONTENT_TYPE_BYTES_MAX or not content_type.isascii()):
        raise BadRequest(f"a content type is at most {limits.CONTENT_TYPE_BYTES_MAX} ASCII characters")
    return body, content_type


def _is_text(body: bytes) -> bool:
    """Whether these bytes are UTF-8."""
    if body.isascii():
        return True  # a tenth of the time
    head = body[:HEAD_BYTES]
    if len(head.translate(None, NEVER_UTF8)) < len(head):
        return False  # a third of the time that an exception takes
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked_names(names: list[str]) -> list[str]:
    if not names:
        raise BadRequest("the message has no recipient")
    if len(names) > limits.RECIPIENTS_PER_MESSAGE_MAX:
        raise TooLarge(f"{len(names)} recipients, the limit is {limits.RECIPIENTS_PER_MESSAGE_MAX} a message")
    for name in names:
        if not name or len(name) > limits.NAME_CHARS_MAX or not name.isascii():
            text = f"{name[:64]!r} is not a name: 2 to 32 of a-z 0-9 . _ - beginning with a letter or digit"
            raise BadName(text)
    return names


def _checked_id(value: bytes, what: str) -> bytes:
    if len(value) != limits.ID_BYTES:
        raise BadRequest(f"{what} is {limits.ID_BYTES} bytes, a UUID's")
    return value
