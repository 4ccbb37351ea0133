"""Which names and passwords are taken."""

from __future__ import annotations

import unicodedata

from restante.wire.limits import PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN
from restante.wire.names import fold, is_name


def account_name(name: str) -> str | None:
    """The name as an account has it, or None if no account can have it."""
    folded = fold(name)
    return folded if is_name(folded) else None


def normal(password: str) -> str:
    """The password as it is hashed: NFC (RFC 8265, section 4.2), since keyboards differ in how they spell an *é*."""
    return unicodedata.normalize("NFC", password)


def password_fits(password: str) -> bool:
    """True if the password, as it is hashed, is neither too short nor too long."""
    return len(password) >= PASSWORD_CHARS_MIN and len(password.encode()) <= PASSWORD_BYTES_MAX
