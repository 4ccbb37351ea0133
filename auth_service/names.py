"""Which names and passwords are taken."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from restante.wire.limits import NAME_PATTERN, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN

_NAME: Final = re.compile(NAME_PATTERN)


def fold(name: str) -> str | None:
    """The name as it is kept and compared, or None if no account can have it.

    Only ASCII is folded: *ß* would become *ss*, and the Kelvin sign *k*, and what somebody typed would be another's
    name.
    """
    folded = name.casefold() if name.isascii() else ""
    return folded if _NAME.fullmatch(folded) else None


def normal(password: str) -> str:
    """The password as it is hashed: NFC (RFC 8265, section 4.2), since keyboards differ in how they spell an *é*."""
    return unicodedata.normalize("NFC", password)


def password_fits(password: str) -> bool:
    """True if the password, as it is hashed, is neither too short nor too long."""
    return len(password) >= PASSWORD_CHARS_MIN and len(password.encode()) <= PASSWORD_BYTES_MAX
