"""What happens to the broker's core, and what it wants done: its whole traffic with the world.

Events are past participles, actions imperatives. Both are plain data: a test, the simulator and the shell feed the
same ones.
"""

from __future__ import annotations

from msgspec import Struct

from restante.wire import auth_link, envelopes, store_link
from restante.wire.errors import RemoteProtocolError


class Peer(Struct, frozen=True, gc=False):
    """Who an envelope came from, as the connection knows it."""

    routing_id: bytes
    key: str
    """The client's CURVE public key (ZAP User-Id), "" where there is no CURVE. A routing id alone proves nothing."""
    address: str
    """The peer's network address without its port, for limits."""


# --- events -----------------------------------------------------------------------------------------------


class Arrived(Struct, frozen=True, gc=False):
    """A client's envelope."""

    peer: Peer
    envelope: envelopes.ToBroker
    body: bytes


class Malformed(Struct, frozen=True, gc=False):
    """A client's frames that are no envelope."""

    peer: Peer
    error: RemoteProtocolError


class Unreachable(Struct, frozen=True, gc=False):
    """A client's reply could not be handed to libzmq: it is gone, or has stopped reading."""

    routing_id: bytes


class WorkerArrived(Struct, frozen=True, gc=False):
    """An authentication worker's envelope."""

    routing_id: bytes
    envelope: auth_link.FromWorker


class WorkerUnreachable(Struct, frozen=True, gc=False):
    """An authentication worker could not be handed a question."""

    routing_id: bytes


class StoreArrived(Struct, frozen=True, gc=False):
    """The store's envelope."""

    envelope: store_link.FromStore
    body: bytes


class PushFailed(Struct, frozen=True, gc=False):
    """The store's socket took no more."""


class CutOff(Struct, frozen=True, gc=False):
    """A connection was shut down: libzmq would have had to hold too much for it."""


class Drained(Struct, frozen=True, gc=False):
    """Everything that had arrived has been handled: the moment to send one batch of it."""


class Due(Struct, frozen=True, gc=False):
    """`next_deadline` has come."""


class StopRequested(Struct, frozen=True, gc=False):
    """Finish what is in hand, then end."""


Event = (
    Arrived | Malformed | Unreachable | WorkerArrived | WorkerUnreachable | StoreArrived | PushFailed | CutOff | Drained
    | Due | StopRequested
)  # fmt: skip


# --- actions ----------------------------------------------------------------------------------------------


class Reply(Struct, frozen=True, gc=False):
    """Send a client an envelope."""

    routing_id: bytes
    envelope: envelopes.ToClient
    body: bytes = b""


class AskWorker(Struct, frozen=True, gc=False):
    """Send an authentication worker an envelope."""

    routing_id: bytes
    envelope: auth_link.ToWorker


class OpenLink(Struct, frozen=True, gc=False):
    """Close the socket to the store, with all that waits in it, and connect a new one."""


class Push(Struct, frozen=True, gc=False):
    """Send the store an envelope; its body in parts, to be joined."""

    envelope: store_link.ToStore
    body: tuple[bytes, ...] = ()


class Announce(Struct, frozen=True, gc=False):
    """The broker can serve, or no longer can: tell whoever started it."""

    ready: bool


class End(Struct, frozen=True, gc=False):
    """Stop the process. `reason` is empty after a wished stop, else what went wrong."""

    reason: str = ""


class Report(Struct, frozen=True, gc=False):
    """Log what was refused and thrown away since the last report, by kind (`counters`)."""

    counts: dict[str, int]


Action = Reply | AskWorker | OpenLink | Push | Announce | End | Report
