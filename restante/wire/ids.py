"""Ids: what makes a message itself, however often it is sent.

Pure: the caller brings the clock and the dice. UUIDv7 and UUIDv8 are those of RFC 9562.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Final

from restante.wire.limits import ONCE_BYTES_MAX

IDS_PER_LOT: Final = 1_000
"""Ids that random bytes are fetched for at a time: a call of the system for each costs more than the id."""

_LOT: Final = struct.Struct(f">{IDS_PER_LOT}Q")
_HALVES: Final = struct.Struct(">QQ")
_WITH_VARIANT: Final = bytes(0x80 | byte & 0x3F for byte in range(256))


def uuid7(now_us: int, random: bytes) -> bytes:
    """A UUIDv7 (RFC 9562, section 5.7), 16 bytes.

    `now_us` is wall time in microseconds since the epoch; `random` is 10 random bytes. The 12 bits after the version
    hold the fraction of the millisecond (section 6.2, method 3), so that ids made by one process sort as made. The time
    is a hint for locality in an index and for nothing else.
    """
    ms, rest_us = divmod(now_us, 1000)
    value = (ms & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= (rest_us * 4096 // 1000) << 64
    value |= 0b10 << 62
    value |= int.from_bytes(random[:8], "big") & 0x3FFF_FFFF_FFFF_FFFF
    return value.to_bytes(16, "big")


class IdMaker:
    """Makes one UUIDv7 after the other, each greater than the last whatever the clock does.

    The first of a millisecond is what `uuid7` makes; those that follow in it count on from there (section 6.2, method
    1), and past the last number begin the next millisecond. So most ids cost an addition, where the arithmetic of
    `uuid7` was the largest single cost of a message. `dice` gives that many random bytes.
    """

    def __init__(self, dice: Callable[[int], bytes]) -> None:
        self._dice = dice
        self._randoms: list[int] = []
        self._upper = self._upper_max = 0
        """The upper half of the next id, and the greatest of its millisecond."""
        self._next_us = 0
        """When the next millisecond begins."""

    def make(self, now_us: int) -> bytes:
        """An id, 16 bytes. `now_us` is wall time in microseconds since the epoch."""
        if now_us >= self._next_us or self._upper > self._upper_max:
            self._begin(now_us)
        if not self._randoms:
            self._throw()
        upper, self._upper = self._upper, self._upper + 1
        return _HALVES.pack(upper, self._randoms.pop())

    def make_many(self, count: int, now_us: int) -> list[bytes]:
        """As many ids as `make` would give one by one, at most IDS_PER_LOT; a third of the time."""
        if now_us >= self._next_us:
            self._begin(now_us)
        if self._upper + count - 1 > self._upper_max:
            return [self.make(now_us) for _ in range(count)]
        if len(self._randoms) < count:
            self._throw()
        uppers, lowers = range(self._upper, self._upper + count), self._randoms[-count:]
        self._upper += count
        del self._randoms[-count:]
        return list(map(_HALVES.pack, uppers, lowers))

    def _begin(self, now_us: int) -> None:
        """Begin a millisecond: that of the clock, or the one after the last if the clock is behind."""
        now_us = max(now_us, self._next_us)
        ms, rest_us = divmod(now_us, 1000)
        self._upper = ms << 16 | 0x7000 | rest_us * 4096 // 1000
        self._upper_max = ms << 16 | 0x7FFF
        self._next_us = (ms + 1) * 1000

    def _throw(self) -> None:
        """A lot of lower halves: 62 random bits, below the variant's two."""
        lot = bytearray(self._dice(_LOT.size))
        lot[::8] = lot[::8].translate(_WITH_VARIANT)
        self._randoms = list(reversed(_LOT.unpack(lot)))


def once_id(account: int, key: str) -> bytes:
    """The id that a `--once` key stands for, 16 bytes.

    A key that is a UUID is the id itself; any other string gives a UUIDv8 of SHA-256 over the sender's account number
    and the key, so that two people's `backup-2026-11-24` are two messages. Raises ValueError for an empty key or one
    over ONCE_BYTES_MAX.
    """
    raw = key.encode()
    if not raw or len(raw) > ONCE_BYTES_MAX:
        raise ValueError(f"a --once key has 1 to {ONCE_BYTES_MAX} bytes, this one has {len(raw)}")
    try:
        return uuid.UUID(key).bytes
    except ValueError:
        import hashlib  # it loads OpenSSL: 5 ms, that only a command with such a key has to wait for

        digest = hashlib.sha256(b"restante-once\0%d\0" % account + raw).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | (0x8 << 76)
    value = value & ~(0b11 << 62) | (0b10 << 62)
    return value.to_bytes(16, "big")


def show_id(message_id: bytes) -> str:
    """An id as people and JSON see it: the UUID's usual 36 characters."""
    return str(uuid.UUID(bytes=message_id))


def read_id(text: str) -> bytes:
    """The id that `show_id` showed. Raises ValueError for anything else."""
    return uuid.UUID(text).bytes
