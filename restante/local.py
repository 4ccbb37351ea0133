"""How a client finds the server on its own machine: the server leaves its address in a file.

`chat serve` announces in the user's state folder; a server that runs for the whole machine (a system unit, a container
whose folder is mounted) in `/run/restante`. The address holds a public key and no secret. That a file is there does
not prove that the server still runs: whoever connects finds out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from restante.files import read_file, write_private
from restante.places import in_user_state, user_state
from restante.wire.address import Address, Announcement, parse_announcement

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "address"
SYSTEM_FILE: Final[str | os.PathLike[str]] = "/run/restante/address"


def announce(here: Address, public: Address, *, folder: Path | None = None) -> Path:
    """Leave a server's addresses for this user's clients; gives the file's path. Raises OSError."""
    path = (folder or user_state()) / FILE
    write_private(path, str(Announcement(here=here, public=public)).encode())
    return path


def withdraw(here: Address, *, folder: Path | None = None) -> None:
    """Take back what `announce` left, unless another server has announced itself since. Raises OSError."""
    path = (folder or user_state()) / FILE
    announcement = _read(path)
    if announcement is not None and announcement.here == here:
        path.unlink(missing_ok=True)


def find_local() -> Announcement | None:
    """What a server on this machine announced: the user's own, else the machine's; None if there is none."""
    return _read(in_user_state(FILE)) or _read(SYSTEM_FILE)


def _read(path: str | os.PathLike[str]) -> Announcement | None:
    """The announcement at a place; None if it is not there, not ours to read, or half a file of somebody else's."""
    try:
        return parse_announcement(read_file(path).decode())
    except (OSError, ValueError):
        return None
