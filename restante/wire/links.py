"""Frames to types and types to frames of the links between the broker and its workers.

As `codec` for clients, and apart from it: a command would else read a hundred types that it never meets, which is
three of the hundred milliseconds that it takes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from restante.wire import auth_link, limits, store_link
from restante.wire.codec import Reader, pack_header

AUTH_PROTOCOL: Final = b"AUTH/1"
STORE_PROTOCOL: Final = b"STORE/1"

from_auth_worker: Final[Reader[auth_link.FromWorker]] = Reader(
    AUTH_PROTOCOL, auth_link.FromWorker, limits.FRAME_BYTES_MAX
)
to_auth_worker: Final[Reader[auth_link.ToWorker]] = Reader(AUTH_PROTOCOL, auth_link.ToWorker, limits.FRAME_BYTES_MAX)
from_store: Final[Reader[store_link.FromStore]] = Reader(
    STORE_PROTOCOL, store_link.FromStore, limits.LINK_FRAME_BYTES_MAX
)
to_store: Final[Reader[store_link.ToStore]] = Reader(STORE_PROTOCOL, store_link.ToStore, limits.LINK_FRAME_BYTES_MAX)


def auth_frames(header: msgspec.Struct) -> list[bytes]:
    """The frames of an envelope between broker and authentication worker."""
    return [AUTH_PROTOCOL, pack_header(header)]


def store_frames(header: msgspec.Struct, body: bytes = b"") -> list[bytes]:
    """The frames of an envelope between broker and store."""
    return [STORE_PROTOCOL, pack_header(header), body]
