"""What a store can be told, and what it does untold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One store's settings; see `runtime.settings` for where each may come from."""

    data: Annotated[Path, Meta(description="directory of the database, restante.db")]
    keys: Annotated[Path, Meta(description="key directory: self.key, peers/broker.pub")]
    listen: Annotated[str, Meta(description="endpoint on which brokers' batches are met")]
    broker: Annotated[str, Meta(description="endpoint of the broker's PULL for confirmations, to connect to")]
    lifeline_fd: Annotated[int | None, Meta(description="descriptor whose end of file means: stop")] = None
    notify_fd: Annotated[int | None, Meta(description="descriptor on which to report to a supervisor")] = None
    pulse: Annotated[Path | None, Meta(description="file touched while the loop turns, for health checks")] = None
    control: Annotated[str | None, Meta(description="ipc endpoint on which a running store is asked for a backup")] = (
        None
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"

    @property
    def database(self) -> Path:
        """The database file."""
        return self.data / "restante.db"
