"""How a client finds the server on its own machine: the server leaves its address in a file.

`chat serve` announces in the user's state folder; a server that runs for the whole machine (a system unit, a container
whose folder is mounted) in `/run/restante`. The address holds a public key and no secret. That a file is there does
not prove that the server still runs: whoever connects finds out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from restante.files import write_private
from restante.places import user_state
from restante.wire.address import Address, parse_address

FILE: Final = "address"
SYSTEM_FILE: Final = Path("/run/restante/address")


def announce(address: Address | str, *, folder: Path | None = None) -> Path:
    """Leave an address for this user's clients; gives the file's path. Raises ValueError, OSError."""
    if isinstance(address, str):
        address = parse_address(address)
    path = (folder or user_state()) / FILE
    write_private(path, f"{address}\n".encode())
    return path


def withdraw(address: Address | str, *, folder: Path | None = None) -> None:
    """Take back what `announce` left, unless another server has announced itself since. Raises OSError."""
    path = (folder or user_state()) / FILE
    try:
        if path.read_text("utf-8").strip() == str(address):
            path.unlink()
    except (FileNotFoundError, UnicodeDecodeError):
        return


def find_local() -> Address | None:
    """The address of a server on this machine: the user's own, else the machine's; None if none was announced."""
    for path in (user_state() / FILE, SYSTEM_FILE):
        try:
            return parse_address(path.read_text("utf-8"))
        except (OSError, ValueError):  # not there, not ours to read, or half a file of somebody else's
            continue
    return None
