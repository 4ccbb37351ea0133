"""A server's address: `chat://HOST[:PORT]/KEY`.

One string holds all that a client must know, the broker's CURVE public key included, and no character that a shell
would touch: the key's 32 bytes are written in base64url without padding (RFC 4648, section 5), 43 characters.

A server is known to clients beside it by an *announcement*, a file of two lines: the address by which they reach it,
and the one to hand to others. Behind NAT, in a container, or under a public name these differ.
"""

from __future__ import annotations

import base64
import binascii
import re

from msgspec import Struct

from restante.wire.limits import PORT_DEFAULT

_FORM = re.compile(
    r"chat://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?/(?P<key>[A-Za-z0-9_-]{43})/?"
)


class Address(Struct, frozen=True):
    """Where a broker is and which key it holds."""

    host: str
    """A name, an IPv4 address, or an IPv6 address in brackets."""
    port: int
    key: bytes
    """The broker's CURVE public key, 32 bytes (not Z85)."""

    def __str__(self) -> str:
        key = base64.urlsafe_b64encode(self.key).rstrip(b"=").decode()
        return f"chat://{self.host}:{self.port}/{key}"

    @property
    def endpoint(self) -> str:
        """The address as ZeroMQ writes it."""
        return f"tcp://{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address a string holds. Raises ValueError with a sentence that says what is wrong."""
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise ValueError(
            f"{text!r} is not an address of the form chat://HOST[:PORT]/KEY; `chat address` on the server prints it"
        )
    port = int(form["port"] or PORT_DEFAULT)
    if not 0 < port < 65536:
        raise ValueError(f"port {port} in {text!r} is not between 1 and 65535")
    try:
        key = base64.urlsafe_b64decode(form["key"] + "=")
    except binascii.Error as error:  # pragma: no cover - the pattern admits only base64url
        raise ValueError(f"the key in {text!r} is not base64url: {error}") from error
    return Address(host=form["host"], port=port, key=key)


class Announcement(Struct, frozen=True):
    """What a server tells the clients beside it."""

    here: Address
    """How they reach it."""
    public: Address
    """How others do."""

    def __str__(self) -> str:
        return f"{self.here}\n{self.public}\n"


def parse_announcement(text: str) -> Announcement:
    """The announcement a file holds; one line alone serves both. Raises ValueError as `parse_address` does."""
    lines = text.split()
    if not 1 <= len(lines) <= 2:
        raise ValueError(f"an announcement has two lines, this one has {len(lines)}")
    return Announcement(here=parse_address(lines[0]), public=parse_address(lines[-1]))
