"""What a broker can be told, and what it does untold."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from restante.wire.limits import PORT_DEFAULT, SESSIONS_MAX


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One broker's settings; see `runtime.settings` for where each may come from."""

    data: Annotated[Path, Meta(description="directory for the broker's durable name")]
    keys: Annotated[Path, Meta(description="key directory: self.key, peers/auth.pub, peers/store.pub")]
    store: Annotated[str, Meta(description="endpoint of the store's PULL, to connect to")]
    workers: Annotated[str, Meta(description="endpoint on which authentication workers are met")]
    confirms: Annotated[str, Meta(description="endpoint on which the store's confirmations are met")]
    listen: Annotated[str, Meta(description="endpoint on which clients are met; port 0 takes a free one")] = (
        f"tcp://127.0.0.1:{PORT_DEFAULT}"  # loopback: being reachable from elsewhere is a decision
    )
    advertise: Annotated[str, Meta(description="HOST[:PORT] by which clients reach it, if not as it listens")] = ""
    registration: Annotated[
        Literal["open", "closed"] | None, Meta(description="may newcomers register? untold: only on loopback")
    ] = None
    sessions_max: Annotated[int, Meta(ge=1, le=1_000_000, description="sessions at a time")] = SESSIONS_MAX
    lifeline_fd: Annotated[int | None, Meta(description="descriptor whose end of file means: stop")] = None
    notify_fd: Annotated[int | None, Meta(description="descriptor on which to report to a supervisor")] = None
    pulse: Annotated[Path | None, Meta(description="file touched while the loop turns, for health checks")] = None
    log_level: Annotated[str, Meta(description="debug, info, warning or error")] = "info"

    @property
    def registration_open(self) -> bool:
        """Whether newcomers are let in: told so, or listening on loopback only."""
        if self.registration is not None:
            return self.registration == "open"
        host = self.listen.removeprefix("tcp://").rpartition(":")[0]
        return host == "localhost" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name or an interface: it may lead anywhere
        return False
