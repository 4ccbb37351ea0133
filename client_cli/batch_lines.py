"""What a batch's lines hold: JSON becomes messages to send, and what is wrong with a line is said in plain words."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Annotated, Final

import msgspec

from restante.wire.ids import once_id, read_id, uuid7
from restante.wire.limits import MESSAGE_BYTES_MAX, RECIPIENTS_PER_MESSAGE_MAX

if TYPE_CHECKING:
    from restante.messages import Outgoing

LINE_BYTES_MAX: Final = 8 * MESSAGE_BYTES_MAX
"""A line's bytes: JSON may write one byte of content as six, and names stand beside it."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a batch. An unknown key is an error: a mistyped `once` would double messages in silence."""

    to: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=RECIPIENTS_PER_MESSAGE_MAX)]
    body: str | None = None
    body_base64: str | None = None
    once: str | None = None
    content_type: str | None = None
    reply_to: str | None = None


class BrokenLine(Exception):
    """A line that is no message; the text says why."""


def parse_line(raw: bytes) -> Line:
    """The message of a line. Raises BrokenLine."""
    try:
        line = msgspec.json.decode(raw, type=Line)
    except msgspec.ValidationError as error:
        raise BrokenLine(_in_words(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenLine(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    if line.body is None and line.body_base64 is None:
        raise BrokenLine("body is missing, or body_base64")
    if line.body is not None and line.body_base64 is not None:
        raise BrokenLine("it has both body and body_base64: give one")
    return line


_MISSING: Final = re.compile(r"missing required field `(.*)`")
_UNKNOWN: Final = re.compile(r"unknown field `(.*)`")
_PLACE: Final = re.compile(r" - at `\$\.(\w+)")


def _in_words(told: str) -> str:
    """What msgspec says of a line, without its names for types and places."""
    if missing := _MISSING.search(told):
        return f"{missing[1]} is missing"
    if unknown := _UNKNOWN.search(told):
        return f"it has {unknown[1]!r}, and may only have {', '.join(Line.__struct_fields__)}"
    place = _PLACE.search(told)
    if place is None:
        return 'a line is one JSON object: {"to": "bob", "body": "…"}'
    if place[1] != "to":
        return f"{place[1]} must be text"
    if "length" in told:
        return f"to must hold 1 to {RECIPIENTS_PER_MESSAGE_MAX:,} names"
    return "to must be a name or a list of names"


def outgoing_of(line: Line) -> Outgoing:
    """What to send for a line; one without `once` gets an id of its own. Raises BrokenLine."""
    from restante.messages import Outgoing

    names = line.to.split(",") if isinstance(line.to, str) else line.to
    names = list(dict.fromkeys(name.strip() for name in names))
    if not all(names):
        raise BrokenLine("to has an empty name")
    if line.once is not None:
        _check_once(line.once)
    body = _body(line)
    return Outgoing(
        to=names,
        body=body,
        once=line.once,
        content_type=line.content_type or ("application/octet-stream" if line.body is None else None),
        reply_to=None if line.reply_to is None else _reply_to(line.reply_to),
        id=None if line.once is not None else uuid7(time.time_ns() // 1000, os.urandom(10)),
    )


def _body(line: Line) -> bytes:
    try:
        body = line.body.encode() if line.body is not None else base64.b64decode(line.body_base64 or "", validate=True)
    except UnicodeEncodeError:
        raise BrokenLine("body is no text: it has half a character (a lone surrogate)") from None
    except (binascii.Error, ValueError):
        raise BrokenLine("body_base64 is not base64") from None
    if not body:
        raise BrokenLine("the body is empty")
    if len(body) > MESSAGE_BYTES_MAX:
        raise BrokenLine(f"the body has {len(body):,} bytes, the limit is {MESSAGE_BYTES_MAX:,}")
    return body


def _check_once(once: str) -> None:
    try:
        once_id(0, once)
    except ValueError as error:
        raise BrokenLine(str(error).replace("--once", "once")) from None


def _reply_to(text: str) -> bytes:
    try:
        return read_id(text)
    except ValueError:
        raise BrokenLine("reply_to is not a message's id") from None


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers, blank ones passed over; None for one over LINE_BYTES_MAX.

    A last line without its newline is a line.
    """
    number = 0
    while raw := file.readline(LINE_BYTES_MAX):
        number += 1
        if not raw.endswith(b"\n") and len(raw) == LINE_BYTES_MAX:
            while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif raw.strip():
            yield number, raw
