"""The data directory of `chat serve`: what lies where, for the commands that run a server, back it up, and restore it.

DATA/lock           held by the supervisor and every child, while one of them lives (RULES 23)
DATA/broker/        the broker's name
DATA/auth/          accounts.db
DATA/store/         restante.db
DATA/keys/          a directory of keys for each service
DATA/run            the sockets between them, 0700; where DATA's path is too long for sockets, a link to a short one
DATA/store/run      instead of it, where services are in containers and share no directory: the store's control socket,
                    and the copies that it hands over; DATA/auth/run likewise
DATA/address        what clients need to know, as printed; also announced to this user's clients
DATA/restoring      there while a restore puts its files in place: what lies here is then no server's data
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
RESTORING: Final = "restoring"
SERVICES: Final = ("broker", "auth", "store")


def default_data() -> Path:
    """This user's own data directory."""
    import platformdirs

    return platformdirs.user_data_path("restante")


def data_of(given: str | None) -> Path:
    """The data directory that was named, or this user's own; absolute."""
    return default_data() if given is None else Path(given).absolute()


def control_endpoint(run: Path, service: str) -> str:
    """Where a running service ("store", "auth") is asked for a backup."""
    return f"ipc://{run}/control-{service}.sock"


def run_of(data: Path, service: str) -> Path:
    """Where the control socket of a running service lies: with the other sockets, or in a directory of its own."""
    return own_run_of(data, service) if shares_nothing(data, service) else (data / "run").resolve()


def own_run_of(data: Path, service: str) -> Path:
    """Where it lies if the service shares no directory with the others."""
    return data / service / "run"


def shares_nothing(data: Path, service: str) -> bool:
    """Whether the service sees its own part of DATA only, as in a container."""
    return not (data / "run").exists() and own_run_of(data, service).exists()


def link_run(data: Path, run: Path) -> None:
    """Say where the sockets lie, if that is not DATA/run itself."""
    link = data / "run"
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)  # sockets of a time when the path was shorter
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = data / f".run.{os.getpid()}"
    fresh.symlink_to(run)
    fresh.replace(link)
