"""The form of a vector: how frames and their meaning are written down, and the values all lists share."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import msgspec

from restante.wire import codec, limits, links

Vector = dict[str, Any]
"""One vector as JSON."""

ONE, TWO, THREE = (bytes([n]) * 16 for n in (0x11, 0x22, 0x33))
MESSAGE = bytes.fromhex("019abcde012370008000000000000001")
HISTORY = bytes.fromhex("0f1e2d3c4b5a49788796a5b4c3d2e1f0")
TOKEN = bytes(range(32))
NOW_US = 1_763_966_400_000_000
INT_MAX, SEQ_MAX = 2**53 - 1, 2**62
NAME_MAX = "n" * limits.NAME_CHARS_MAX
UMLAUTS = "grüße 👋"

CHAT, AUTH, STORE = codec.PROTOCOL, links.AUTH_PROTOCOL, links.STORE_PROTOCOL
TO_BROKER, TO_CLIENT = "client→broker", "broker→client"
TO_WORKER, FROM_WORKER = "broker→auth", "auth→broker"
TO_STORE, FROM_STORE = "broker→store", "store→broker"
FIRST_FRAME = {
    TO_BROKER: CHAT,
    TO_CLIENT: CHAT,
    TO_WORKER: AUTH,
    FROM_WORKER: AUTH,
    TO_STORE: STORE,
    FROM_STORE: STORE,
}


def jsonable(value: Any) -> Any:
    """A header's plain form as JSON: bytes as `{"$bytes": hex}`."""
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {key: jsonable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [jsonable(part) for part in value]
    return value


def good(name: str, direction: str, header: msgspec.Struct, body: bytes = b"") -> Vector:
    """An envelope as Restante writes it."""
    first = FIRST_FRAME[direction]
    frames = [first, codec.pack_header(header)] + ([] if first == AUTH else [body])
    plain = msgspec.to_builtins(header, builtin_types=(bytes,))
    return {
        "name": name,
        "direction": direction,
        "frames": [frame.hex() for frame in frames],
        "meaning": {"header": jsonable(plain), "body": jsonable(body)},
    }


def lenient(
    name: str,
    header: dict[str, Any],
    meaning: dict[str, Any],
    packed: bytes = b"",
    frames: int = 3,
    direction: str = TO_BROKER,
) -> Vector:
    """An envelope that means what it says, in other bytes than Restante would choose."""
    raw = [CHAT, packed or msgpack.packb(header), b""][:frames]
    return {
        "name": name,
        "direction": direction,
        "canonical": False,
        "frames": [frame.hex() for frame in raw],
        "meaning": {"header": jsonable(meaning), "body": jsonable(b"")},
    }


Part = bytes | tuple[bytes, int]
"""A piece of a frame: bytes, or bytes and how often they follow one another."""


def bad(
    name: str,
    code: str,
    *frames: bytes | list[Part],
    direction: str = TO_BROKER,
    request_id: int | None = None,
) -> Vector:
    """Frames that are no envelope."""
    error: dict[str, Any] = {"code": code} | ({} if request_id is None else {"request_id": request_id})
    return {
        "name": name,
        "direction": direction,
        "frames": [_parts(frame) for frame in frames],
        "error": error,
    }


def _parts(frame: bytes | list[Part]) -> Any:
    if isinstance(frame, bytes):
        return frame.hex()
    return [part.hex() if isinstance(part, bytes) else {"repeat": part[0].hex(), "times": part[1]} for part in frame]


def unfit(name: str, code: str, header: Any, direction: str = TO_BROKER, request_id: int | None = None) -> Vector:
    """Well-formed msgpack that is no header."""
    frames = (FIRST_FRAME[direction], msgpack.packb(header), b"")
    return bad(name, code, *frames, direction=direction, request_id=request_id)


def written(vectors: list[Vector]) -> str:
    """A file's text: a line a part, so that a difference can be read."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    blocks = [
        "  {\n" + ",\n".join(f"    {compact(key)}: {compact(part)}" for key, part in vector.items()) + "\n  }"
        for vector in vectors
    ]
    return "[\n" + ",\n".join(blocks) + "\n]\n"
