"""What an authentication worker can be told, and what it does untold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PROG = "auth_service"
"""The settings' table in a file, and their prefix in the environment: `CHAT_AUTH_SERVICE_…`."""

THREADS_MAX = 64
"""Password hashes at a time: each holds 19 MiB, and more than there are cores only wait for one another."""


def default_threads() -> int:
    """A thread a core, to four: a hash takes a core, and the broker and the store want theirs too."""
    return min(4, os.cpu_count() or 1)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's settings; see `runtime.settings` for where each may come from."""

    data: Annotated[Path, Meta(description="directory of the accounts' database; workers share it")]
    broker: Annotated[str, Meta(description="endpoint on which the broker meets authentication workers")]
    keys: Annotated[Path | None, Meta(description="key directory, for TCP: self.key, peers/broker.pub")] = (
        None  # ipc sockets need none: only this user can enter their directory
    )
    threads: Annotated[int, Meta(ge=1, le=THREADS_MAX, description="password hashes at a time, 19 MiB each")] = (
        msgspec.field(default_factory=default_threads)
    )
    token_days: Annotated[int, Meta(ge=1, le=36_500, description="how long a login lasts, in days")] = (
        365  # a cron job should not have to log in twice a year
    )
    lifeline_fd: Annotated[int | None, Meta(description="descriptor whose end of file means: stop")] = None
    notify_fd: Annotated[int | None, Meta(description="descriptor on which to report to a supervisor")] = None
    pulse: Annotated[Path | None, Meta(description="file touched while the loop turns, for health checks")] = None
    control: Annotated[str | None, Meta(description="ipc endpoint on which a running worker is asked for a backup")] = (
        None
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="the least that is logged")] = (
        "info"
    )
