"""What a client process wrote down: what it was about to ask, and what it was told. A line of JSON each, in a file that
outlives a SIGKILL.

A line is one `write`, made before the request that it tells of goes out, and after the answer has come. So a process
that is killed and started again knows what it may have sent, and goes on with the same ids; and the judge knows at
least all that happened. Times are CLOCK_MONOTONIC seconds, which all processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from restante.wire.envelopes import Entry


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line."""

    at: float = msgspec.field(default_factory=time.monotonic)


class Began(Line, frozen=True, kw_only=True, tag="began"):
    """A life of the process begins, or one of its followings."""

    following: bool = False


class Given(Line, frozen=True, kw_only=True, tag="given"):
    """A message is about to be sent, for the first time or again."""

    id: bytes
    to: list[str]
    body: str


class Told(Line, frozen=True, kw_only=True, tag="told"):
    """What became of a message: its place, or a code, or the name of an exception."""

    id: bytes
    seq: int = 0
    stored_at_us: int = 0
    again: bool = False
    code: str = ""
    """Refused for good."""
    failure: str = ""
    """Refused for now, or nobody knows."""


class Got(Line, frozen=True, kw_only=True, tag="got"):
    """A message was handed over by a subscription."""

    entry: Entry
    body: str


class Paged(Line, frozen=True, kw_only=True, tag="paged"):
    """A page was asked for, `at`, and came."""

    ended_at: float
    after: int
    limit: int
    through: int
    more: bool
    entries: list[Entry]
    bodies: list[str]


class Asked(Line, frozen=True, kw_only=True, tag="asked"):
    """Messages are about to be acknowledged."""

    n: int
    seqs: list[int]
    ids: list[bytes]


class Acked(Line, frozen=True, kw_only=True, tag="acked"):
    """The n-th acknowledgement of this life is on disk."""

    n: int


class Failed(Line, frozen=True, kw_only=True, tag="failed"):
    """Reading or acknowledging ended with an error."""

    what: str
    failure: str


Any = Began | Given | Told | Got | Paged | Asked | Acked | Failed

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Any).decode


def lines_of(path: Path) -> Iterator[Any]:
    """A journal's lines. The last may be torn: its process died in it, before what it tells of."""
    if path.exists():
        *whole, _ = path.read_bytes().split(b"\n")
        yield from map(_decode, whole)


class Journal:
    """A process's own journal, to be written on. A torn last line is cut off first."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        whole = path.read_bytes().rpartition(b"\n")
        os.ftruncate(self._file, len(whole[0] + whole[1]))

    def write(self, line: Any) -> None:
        data = _encode(line) + b"\n"
        written = os.write(self._file, data)
        assert written == len(data), "the disk is full: what happened can't be told any more"

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
