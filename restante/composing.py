"""From what a user gives to what travels: ids, recipients, contents, and what can be refused without asking anybody.

A refusal here is the exception that the server's would be. What only the server can know is left to it; above all, a
well-formed recipient is refused by nobody else (RULES 12).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Final, cast

from restante.events import Columns, Row
from restante.messages import Outgoing
from restante.wire import limits
from restante.wire.envelopes import TEXT
from restante.wire.errors import BadName, BadRequest, BodyTooLarge, ChatError, EmptyBody, TooLarge
from restante.wire.ids import IdMaker, once_id

BINARY: Final = "application/octet-stream"
"""The content type of bytes that are not text and were not said to be anything else."""

NEVER_UTF8: Final = rb"[\x00-\x7f][\x80-\xbf]|[\xc2-\xf4][\x00-\x7f\xc0-\xff]|[\xc0\xc1\xf5-\xff]"
"""What UTF-8 has nowhere: a byte that goes on where none began, one that began and doesn't go on, one that is none."""

HEAD_BYTES: Final = 48
"""So many of what is compressed or random nearly always have some of that."""

USUAL_BYTES_MAX: Final = 64 << 10
"""What is larger is composed by itself: it is not the composing that costs."""

USUAL_BODIES: Final = frozenset({bytes, str})

KNOWN_NAMES_MAX: Final = 4_096
"""Recipients that are remembered as well-formed, some hundred bytes each."""


class Composer:
    """Makes messages and ids; holds the clock and the dice that takes."""

    def __init__(self) -> None:
        self._ids = IdMaker(os.urandom)
        self._known: dict[str, str] = {}
        """Names that were sent to alone and are well-formed, as they were first given: most are sent to again."""

    def new_id(self) -> bytes:
        """A message or operation id: a UUIDv7."""
        return self._ids.make(now_us())

    def compose(self, outgoing: Outgoing, account: int | None) -> Row:
        """A message as it travels. `account` is the sender's number, for `once`.

        Raises EmptyBody, BodyTooLarge, BadName, TooLarge, BadRequest.
        """
        body, content_type = _content(outgoing)
        to = self._recipients(outgoing.to)
        reply_to = outgoing.reply_to
        if reply_to is not None:
            _check_id(reply_to, "reply_to")
        own_id = outgoing.id is not None or outgoing.once is not None
        message_id = _own_id(outgoing, account) if own_id else self._ids.make(now_us())
        return message_id, to, len(body), content_type, reply_to, body

    def compose_usual(self, outgoings: Sequence[Outgoing]) -> Columns | None:
        """Messages as they travel, if there is nothing unusual about any of them: bytes or text, not large, to one
        name, and nothing else said. Else None.

        They are what `compose` makes of each, for half of what that costs.
        """
        bodies, to = [each.body for each in outgoings], [each.to for each in outgoings]
        plain = all(o.content_type is None is o.once and o.reply_to is None is o.id for o in outgoings)
        if not (plain and USUAL_BODIES.issuperset(map(type, bodies)) and set(map(type, to)) == {str}):
            return None
        names = cast("list[str]", to)
        try:
            for name in set(names).difference(self._known):
                self._recipients(name)
            contents = [body.encode() if isinstance(body, str) else body for body in bodies]
        except (ChatError, UnicodeEncodeError):
            return None
        sizes = list(map(len, contents))
        if min(sizes) == 0 or max(sizes) > USUAL_BYTES_MAX:
            return None
        return Columns(
            ids=self._ids.make_many(len(names), now_us()),
            to=[*names],
            sizes=sizes,
            content_types=[TEXT if _is_text(content) else BINARY for content in contents],
            reply_to=[None] * len(names),
            bodies=contents,
        )

    def _recipients(self, to: str | Iterable[str]) -> str | list[str]:
        """One name, or several."""
        if not isinstance(to, str):
            names = _checked_names(list(dict.fromkeys(to)))
            return names if len(names) > 1 else names[0]
        known = self._known.get(to)
        if known is None:
            _checked_names([to])
            if len(self._known) >= KNOWN_NAMES_MAX:
                self._known.clear()
            known = self._known[to] = to
        return known


def now_us() -> int:
    """Wall time, in microseconds since the epoch."""
    return time.time_ns() // 1_000


def _own_id(outgoing: Outgoing, account: int | None) -> bytes:
    """The id that a message was given, or that its `once` stands for."""
    if outgoing.once is None:
        assert outgoing.id is not None, "it was looked at"
        _check_id(outgoing.id, "id")
        return outgoing.id
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
    if _never_utf8()(body, 0, HEAD_BYTES):
        return False  # a third of the time that an exception takes
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@cache  # to compile it is a part of a command's start that most do without
def _never_utf8() -> Callable[[bytes, int, int], re.Match[bytes] | None]:
    return re.compile(NEVER_UTF8).search


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


def _check_id(value: bytes, what: str) -> None:
    if len(value) != limits.ID_BYTES:
        raise BadRequest(f"{what} is {limits.ID_BYTES} bytes, a UUID's")
