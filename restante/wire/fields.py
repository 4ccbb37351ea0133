"""Kinds of field, and what all headers have in common."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from restante.wire import limits

RequestId = Annotated[int, Meta(ge=1, le=2**53 - 1, description="Chosen by the client, not used twice in a session.")]
Id16 = Annotated[bytes, Meta(min_length=limits.ID_BYTES, max_length=limits.ID_BYTES, description="16 bytes: a UUID.")]
Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX, description="An account's name.")]
TimeUs = Annotated[int, Meta(ge=0, le=2**62, description="Microseconds since the epoch, UTC.")]
Seq = Annotated[int, Meta(ge=0, le=2**62, description="A place in the order of everything stored. Opaque, increasing.")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
NotNegative = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=4_096)]
Password = Annotated[str, Meta(max_length=limits.PASSWORD_BYTES_MAX)]
Token = Annotated[bytes, Meta(min_length=limits.TOKEN_BYTES, max_length=limits.TOKEN_BYTES)]
ContentType = Annotated[str, Meta(max_length=limits.CONTENT_TYPE_BYTES_MAX, description="A media type (RFC 6838).")]

TEXT: Final = "text/plain; charset=utf-8"
"""The content type of a message that says none."""

State = Literal["stored", "delivered", "read"]
"""How far a message has come with one recipient."""


class Envelope(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type"):
    """What all headers have in common: their type, under the key `type`."""


class Request(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """A header from a client that is answered."""

    id: RequestId


class Answer(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """A header from the broker that answers a request."""

    id: RequestId
