"""Names of accounts: which strings are one, and which are the same one."""

from __future__ import annotations

import re
from typing import Final

from restante.wire.limits import NAME_PATTERN

_NAME: Final = re.compile(NAME_PATTERN)


def fold(name: str) -> str:
    """A name as it is kept and compared: `Bob` is bob.

    Only ASCII is folded: *ß* would become *ss*, and the Kelvin sign *k*, and what somebody typed would be another's
    name. What can't be folded is no name, and stays as it was typed.
    """
    return name.lower() if name.isascii() else name


def is_name(folded: str) -> bool:
    """Whether a folded name is one that an account can have."""
    return _NAME.fullmatch(folded) is not None
