"""What messages look like: to people, and to programs.

A message's text is somebody else's: on a terminal its control characters could move the cursor, rewrite what stands
above or start a download (kubectl's CVE-2021-25743), and marks of direction could make it read as another text. For
people all of these are shown escaped, and a body is indented, so that it can't pretend to be the next message's head.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from restante.wire.ids import show_id

if TYPE_CHECKING:
    from restante.messages import Message

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of direction
    "\u2028\u2029\ufeff\ud800-\udfff]"  # ends of lines that aren't newlines; what is no character at all
)
_UNSAFE_IN_JSON: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]")
_TEXT_TYPE: Final = re.compile(r"text/|application/(json|xml|[^;]*\+(json|xml))\b", re.IGNORECASE)


def escape(text: str) -> str:
    r"""The text with what would drive a terminal shown as `\x1b`, `\u202e`; newline and tab stay."""
    return _UNSAFE.sub(_escaped, text)


def escape_line(text: str) -> str:
    r"""The same for what must stay one line: newline and tab are shown as `\n` and `\t`."""
    return escape(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    point = ord(found[0])
    if found[0] == "\r":
        return "\\r"
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"


def json_line(record: dict[str, Any]) -> str:
    """A record as one line of JSON, newline included, harmless on a terminal too."""
    text = msgspec.json.encode(record).decode()
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def iso_time(time_us: int) -> str | None:
    """Microseconds since the epoch as ISO 8601 in UTC; None for 0, which is no time."""
    if not time_us:
        return None
    seconds, micros = divmod(time_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def local_time(time_us: int) -> str:
    """The same for people: their own time zone, to the second."""
    return datetime.fromtimestamp(time_us // 1_000_000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def text_of(body: bytes, content_type: str) -> str | None:
    """The body as text, None if it is none."""
    if not _TEXT_TYPE.match(content_type):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def message_record(message: Message) -> dict[str, Any]:
    """A message as programs get it: `body` if it is text, else `body_base64`."""
    record: dict[str, Any] = {
        "id": show_id(message.id),
        "seq": message.seq,
        "from": message.sender,
        "to": list(message.to),
        "sent_at": iso_time(message.sent_at_us),
        "stored_at": iso_time(message.stored_at_us),
        "state": message.state,
        "content_type": message.content_type,
    }
    if message.reply_to is not None:
        record["reply_to"] = show_id(message.reply_to)
    text = text_of(message.body, message.content_type)
    if text is None:
        record["body_base64"] = base64.b64encode(message.body).decode()
    else:
        record["body"] = text
    return record


def message_for_people(message: Message, *, me: str = "", colour: bool = False, chat: str = "chat") -> str:
    """A message as people see it: a head, then the body, indented; an empty line ends it.

    `chat` is how the command is called, for what can't be shown.
    """
    names = ", ".join("you" if name == me else name for name in message.to)
    head = escape(f"{message.sender} → {names}" if len(message.to) > 1 else message.sender)
    if colour:
        head = f"\x1b[1m{head}\x1b[0m"
    read = ", read" if message.state == "read" else ""
    return f"{head}  {local_time(message.stored_at_us)}{read}  {show_id(message.id)}\n{_body(message, chat)}\n"


def _body(message: Message, chat: str) -> str:
    text = text_of(message.body, message.content_type)
    if text is None:
        kind = escape(message.content_type)
        size = count(len(message.body), "byte")
        text = f"({size} of {kind}; to get them out: {chat} inbox --id {show_id(message.id)} --raw >FILE)"
    lines = escape(text.replace("\r\n", "\n").removesuffix("\n")).split("\n")
    return "".join(f"  {line}\n" for line in lines)


def count(number: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
