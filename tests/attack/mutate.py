"""Hostile frames, from a seed: the published vectors, broken in ways that know what they break.

A third keeps the envelope's structure and changes a field of its header, so that much of it still decodes and reaches
the cores; a third damages bytes, which is what decoders must survive; the rest are other things altogether: random
msgpack, random bytes, too few frames and too many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, Final

import msgpack

from restante.wire import codec, links
from tests.protocol.vectors import envelopes, frames_of

Frames = list[bytes]

PROTOCOLS: Final = (codec.PROTOCOL, links.AUTH_PROTOCOL, links.STORE_PROTOCOL, b"CHAT/2", b"CHAT/", b"", b"\0" * 9)

NUMBERS: Final = (0, 1, -1, 2, 127, 128, 255, 256, 999, 1_000, 1_001, 65_535, 2**31, 2**32, 2**53 - 1, 2**53, 2**62,
                  2**63 - 1, 2**64 - 1, -(2**63))  # fmt: skip

STRINGS: Final = ("", "bob", "Bob", "eve", "nobody", "good", "a" * 32, "a" * 33, "a" * 5_000, "\0", "\u202e", "é", "ß",
                  "../etc/passwd", "bob\n", "%s%n", "'; --")  # fmt: skip

PEOPLE: Final = ("bob", "eve", "nobody")

SIZE_MAX: Final = 64 << 10
"""No vector larger than this is broken: their size is what they test, and copying it is all that would take time."""


class Mutator:
    """Makes frames. Two with one seed make the same ones."""

    def __init__(self, seed: str, vectors: Mapping[str, Sequence[Frames]]) -> None:
        self._random = Random(seed)
        self._by_direction = vectors
        self._corpus = [frames for direction in vectors.values() for frames in direction]
        self._types = sorted({header["type"] for header in map(_header, self._corpus) if _has_type(header)})
        self._keys = sorted({key for header in map(_header, self._corpus) for key in _keys(header)})
        self._ways: list[Callable[[Frames], Frames]] = [
            *[self._another_field] * 8,
            *[self._sound] * 3,
            *[self._another_header_byte] * 4,
            self._another_body,
            self._other_frames,
            self._random_msgpack,
            self._random_bytes,
        ]

    def frames(self, direction: str) -> Frames:
        """The next envelope for who reads this direction, or what is none. Now and then it begins as another's."""
        vectors = self._by_direction[direction] if self._random.random() < 0.95 else self._corpus
        chosen = self._random.choice(vectors)
        made = self._random.choice(self._ways)(list(chosen))
        while self._random.random() < 0.2:
            made = self._random.choice(self._ways)(made)
        return made

    # --- ways ---------------------------------------------------------------------------------------------

    def _sound(self, frames: Frames) -> Frames:
        return frames

    def _another_field(self, frames: Frames) -> Frames:
        header = _header(frames)
        if not isinstance(header, dict) or not header:
            return self._another_header_byte(frames)
        self._change(header)
        return [frames[0], _packed(header), *frames[2:]]

    def _change(self, header: dict[Any, Any]) -> None:
        """One field of it: removed, renamed, replaced, or changed inside."""
        random = self._random
        key = random.choice(list(header))
        what = random.randrange(6)
        if what == 0:
            del header[key]
        elif what == 1:
            header[random.choice(self._keys)] = header[key]
        elif what == 2:
            header["type"] = random.choice(self._types)
        elif what == 3 and isinstance(header[key], dict) and header[key]:
            self._change(header[key])
        else:
            header[key] = self._near(header[key])

    def _near(self, value: Any) -> Any:
        """A value like this one, or another altogether."""
        random = self._random
        if random.random() < 0.15:
            return self._value(2)
        match value:
            case bool():
                return not value
            case int():
                return random.choice((value + 1, value - 1, random.choice(NUMBERS)))
            case str():
                return random.choice((random.choice(STRINGS), random.choice(PEOPLE), value + "x", value[:-1]))
            case bytes():
                return random.choice((random.randbytes(len(value)), value + b"x", value[:-1], b""))
            case list():
                return self._near_list(value)
            case dict() if value:
                self._change(value)
                return value
        return self._value(2)

    def _near_list(self, values: list[Any]) -> list[Any]:
        random = self._random
        what = random.randrange(4)
        if what == 0 or not values:
            return [*values, self._value(1)]
        if what == 1:
            return values * random.choice((0, 2, 3, 50))
        at = random.randrange(len(values))
        return [*values[:at], self._near(values[at]), *values[at + 1 :]]

    def _another_header_byte(self, frames: Frames) -> Frames:
        if len(frames) < 2:
            return self._random_bytes(frames)
        return [frames[0], self._damaged(frames[1]), *frames[2:]]

    def _damaged(self, data: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(data) + 1)
        match random.randrange(6):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + random.randbytes(random.randrange(1, 9)) + data[at:]
            case 2:
                return data[:at] + data[at + random.randrange(1, 9) :]
            case 3:
                return data[:at] + bytes([random.choice((0xC1, 0xD9, 0xDB, 0xDD, 0xDF, 0xC6, 0xC9))]) + data[at + 1 :]
            case 4:
                return data[:at] + random.choice(self._corpus)[-1][:64] + data[at:]
        return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]

    def _another_body(self, frames: Frames) -> Frames:
        random = self._random
        last = b"".join(frames[-1:])
        body = random.choice((b"", b"x", last + b"x", last[:-1], random.randbytes(random.randrange(300))))
        return [*frames[:2], body]

    def _other_frames(self, frames: Frames) -> Frames:
        random = self._random
        match random.randrange(4):
            case 0:
                return frames[: random.randrange(len(frames) + 1)]
            case 1:
                return [*frames, *[b"more"] * random.randrange(1, 9)]
            case 2:
                return [random.choice(PROTOCOLS), *frames[1:]]
        return frames[::-1]

    def _random_msgpack(self, frames: Frames) -> Frames:
        header = {"type": self._random.choice(self._types), "id": self._random.choice(NUMBERS)}
        for _ in range(self._random.randrange(6)):
            header[self._random.choice(self._keys)] = self._value(4)
        return [self._random.choice(PROTOCOLS[:3]), _packed(header), b""]

    def _random_bytes(self, frames: Frames) -> Frames:
        random = self._random
        made = [random.randbytes(random.randrange(60)) for _ in range(random.randrange(6))]
        return [codec.PROTOCOL, *made] if random.random() < 0.5 else made

    def _value(self, depth: int) -> Any:
        """Any value that msgpack can hold."""
        random = self._random
        kind = random.randrange(9 if depth else 6)
        match kind:
            case 0:
                return random.choice(NUMBERS)
            case 1:
                return random.choice(STRINGS)
            case 2:
                return random.randbytes(random.choice((0, 1, 15, 16, 17, 32, 33, 200)))
            case 3:
                return random.choice((None, True, False, 0.5, float("nan"), float("inf")))
            case 4:
                return msgpack.Timestamp(random.randrange(2**32), 5)
            case 5:
                return msgpack.ExtType(random.randrange(128), random.randbytes(4))
            case 6 | 7:
                return [self._value(depth - 1) for _ in range(random.randrange(5))]
        keys = [random.choice((random.choice(self._keys), random.randrange(9))) for _ in range(random.randrange(4))]
        return {key: self._value(depth - 1) for key in keys}


@cache
def vectors() -> dict[str, list[Frames]]:
    """The frames of every published vector that is small enough, by direction."""
    found: dict[str, list[Frames]] = {}
    for _, vector in envelopes():
        frames = frames_of(vector)
        if frames and sum(map(len, frames)) <= SIZE_MAX:
            found.setdefault(vector["direction"], []).append(frames)
    return found


def _header(frames: Frames) -> Any:
    """The header, anew at each call, or None."""
    try:
        return msgpack.unpackb(frames[1], strict_map_key=False)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException):
        return None


def _packed(header: Any) -> bytes:
    try:
        return bytes(msgpack.packb(header))
    except (ValueError, OverflowError, TypeError):  # a number beyond 64 bits, or nesting beyond what is packed
        return b"\xc1"


def _has_type(header: Any) -> bool:
    return isinstance(header, dict) and isinstance(header.get("type"), str)


def _keys(value: Any) -> list[str]:
    """Every key that is a string, at any depth."""
    if isinstance(value, dict):
        own = [key for key in value if isinstance(key, str)]
        return own + [key for inner in value.values() for key in _keys(inner)]
    if isinstance(value, list):
        return [key for inner in value for key in _keys(inner)]
    return []
