"""Frames to types and types to frames: the one place where either is taken apart.

Whatever bytes come in, what goes out is a typed header or a `RemoteProtocolError` that says what was wrong; nothing
else is raised.

    frame ──▶ msgspec's decoder ──▶ header ──▶ packed again: the same bytes? ──yes──▶ header
                    └─ refused                       └─ no: other keys, another order
                          └──────────────┬──────────────┘
                                         ▼
                            msgpack ──▶ map ──▶ msgspec.convert ──▶ header, or the error

What stands is what the lower way makes of a frame: msgpack refuses what lies about its length, nests too deep or ends
too early; msgspec checks types and limits and names the field. The upper way takes a quarter of the time, and is taken
for nothing but the very bytes that we would write ourselves, of which the lower makes the same header
(`docs/decisions/`, 0005).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, get_args

import msgpack
import msgspec

from restante.wire import envelopes, limits
from restante.wire.errors import LocalProtocolError, RemoteProtocolError

PROTOCOL: Final = b"CHAT/1"

T = TypeVar("T")

_RAW: Final = (bytes,)

pack_header = msgspec.msgpack.Encoder().encode
"""A header's bytes. Raises nothing for a header of the types of this package.

msgspec writes the same bytes as msgpack, which the vectors hold, straight from the types: a twentieth of the time.
"""


class Reader(Generic[T]):
    """Reads one direction of one protocol: its first frame, its union of headers, its largest header.

    Where `any_keys`, a map under a key that is not known may have keys of any type but list and map. It is for what one
    trusts: unlike those of strings, hashes of integers can be foreseen, and keys chosen that all collide.
    """

    def __init__(self, protocol: bytes, headers: Any, header_bytes_max: int, *, any_keys: bool = False) -> None:
        self._protocol = protocol
        self._headers = headers
        self._kinds = {kind.__struct_config__.tag: kind for kind in get_args(headers)}
        self._header_bytes_max = header_bytes_max
        self._strict_keys = not any_keys

    @cached_property
    def _decode(self) -> Callable[[bytes], T]:
        """The quick decoder, made for the first frame: all of them take 20 ms, and a command speaks one protocol."""
        return msgspec.msgpack.Decoder(self._headers).decode

    def read(self, frames: Sequence[bytes]) -> tuple[T, bytes]:
        """The header and the body (b"" if there is none) of an envelope's frames.

        Raises RemoteProtocolError: `bad_frame`, `unsupported_version`, `too_large`, `unknown_type`, `bad_request`;
        with the request's id where it could be read.
        """
        if not 2 <= len(frames) <= limits.FRAMES_MAX:
            raise RemoteProtocolError("bad_frame", f"an envelope has 2 or 3 frames, this one has {len(frames)}")
        if frames[0] != self._protocol:
            raise self._other_protocol(frames[0])
        return self.read_header(frames[1]), frames[2] if len(frames) > 2 else b""

    def read_header(self, frame: bytes) -> T:
        """The header alone. Raises as `read` does."""
        if len(frame) > self._header_bytes_max:
            raise RemoteProtocolError(
                "too_large", f"the header has {len(frame)} bytes, the limit is {self._header_bytes_max}"
            )
        try:
            header = self._decode(frame)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return self._convert(frame)
        return header if pack_header(header) == frame else self._convert(frame)

    def _convert(self, frame: bytes) -> T:
        """The lower way. `convert` is told the kind: to find out what a union is made of takes it 20 µs, every time."""
        raw = _unpacked(frame, strict_keys=self._strict_keys)
        tag = raw.get("type")
        kind = self._kinds.get(tag, self._headers) if isinstance(tag, str) else self._headers
        try:
            header: T = msgspec.convert(raw, kind, builtin_types=_RAW)
        except (msgspec.ValidationError, UnicodeError, RecursionError) as error:
            raise _unfit(raw, error) from None
        return header

    def _other_protocol(self, first: bytes) -> RemoteProtocolError:
        name = self._protocol.split(b"/")[0]
        if first.startswith(name + b"/") and len(first) < 16:
            return RemoteProtocolError(
                "unsupported_version",
                f"this end speaks {self._protocol.decode()}, not {first.decode('ascii', 'backslashreplace')}",
            )
        return RemoteProtocolError("bad_frame", f"the first frame is not {self._protocol.decode()}")


def header_size(frames: Sequence[bytes]) -> int:
    """The bytes of what stands where a header does: what reading it would cost, before it is read."""
    return len(frames[1]) if len(frames) > 1 else 0


class _Foreign:
    """What stands for a value of msgpack's extension types, which no field has."""

    __slots__ = ()


_FOREIGN: Final = _Foreign()


def _unpacked(frame: bytes, *, strict_keys: bool) -> dict[Any, Any]:
    """The map that a frame holds. Raises RemoteProtocolError `bad_frame`."""
    try:
        raw = msgpack.unpackb(frame, strict_map_key=strict_keys, ext_hook=_foreign)
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # TypeError: a key that is a list or a map
        raise RemoteProtocolError("bad_frame", f"the header is not msgpack: {_reason(error)}") from None
    if not isinstance(raw, dict):
        raise RemoteProtocolError("bad_frame", f"the header is not a map but a {type(raw).__name__}")
    return raw


def _foreign(code: int, data: bytes) -> object:
    """The library's own `ExtType` takes eight times as long to make: 0.3 s for a header full of them."""
    return _FOREIGN


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _unfit(raw: dict[Any, Any], error: Exception) -> RemoteProtocolError:
    """The error for a map that is no header: with its id, if it has a sound one."""
    request_id = raw.get("id")
    if not isinstance(request_id, int) or isinstance(request_id, bool) or not 1 <= request_id <= 2**53 - 1:
        request_id = None
    text = _reason(error)
    unknown = text.startswith("Invalid value") and text.endswith("at `$.type`")
    if unknown:
        text = f"no envelope has the type {str(raw.get('type'))[:64]!r}"
    return RemoteProtocolError("unknown_type" if unknown else "bad_request", text[:500], request_id=request_id)


from_client: Final[Reader[envelopes.ToBroker]] = Reader(PROTOCOL, envelopes.ToBroker, limits.HEADER_BYTES_MAX)
"""Reads, at the broker, what clients say."""

from_broker: Final[Reader[envelopes.ToClient]] = Reader(
    PROTOCOL, envelopes.ToClient, limits.FRAME_BYTES_MAX, any_keys=True
)
"""Reads, at a client, what the broker says."""


def client_frames(header: msgspec.Struct, body: bytes = b"") -> list[bytes]:
    """The frames of an envelope between client and broker, in either direction."""
    return [PROTOCOL, pack_header(header), body]


def request_frames(header: msgspec.Struct, body: bytes = b"") -> list[bytes]:
    """The frames of a client's envelope. Raises LocalProtocolError `too_large` for what the broker would refuse."""
    frames = client_frames(header, body)
    for what, size, limit in (
        ("header", len(frames[1]), limits.HEADER_BYTES_MAX),
        ("body", len(body), limits.BODY_BYTES_MAX),
    ):
        if size > limit:
            raise LocalProtocolError("too_large", f"the {what} has {size} bytes, the limit is {limit}")
    return frames


def cut(body: bytes, sizes: Iterable[int]) -> list[bytes]:
    """A body's contents, cut at their sizes.

    Raises RemoteProtocolError `bad_request` unless the sizes add up to the body exactly: a length that lies is caught
    here and nowhere else.
    """
    sizes = list(sizes)
    total = sum(sizes)
    if total != len(body) or min(sizes, default=0) < 0:
        raise RemoteProtocolError("bad_request", f"the sizes add up to {total} bytes, the body has {len(body)}")
    ends = list(itertools.accumulate(sizes, initial=0))
    return [body[start:end] for start, end in itertools.pairwise(ends)]
