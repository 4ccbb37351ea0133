"""What a power cut leaves: pure bookkeeping over a disk's log.

What was synced is there. Of what was not, the disk may have taken any part, in any order: nothing, everything, the
first few writes, any of them, any of their sectors, and of the sector that it was writing just then only the first
bytes. What is not promised by the file system isn't assumed: a file that was made, or deleted, is so for good only when
its directory was synced.

One thing is assumed, as SQLite assumes it of every disk of today (*powersafe overwrite*): a write that is cut harms no
byte outside the range that it was to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Literal, get_args

from msgspec import Struct, field

from tests.disk.vfs import Op

SECTOR: Final = 512

Loss = Literal["all lost", "all kept", "in order", "scattered", "torn"]
"""What becomes of what was not synced."""

LOSSES: Final[tuple[Loss, ...]] = get_args(Loss)


class Inode(Struct):
    """One file, whatever its name."""

    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Op] = []
    """Writes and truncations since, in order."""


class Platter:
    """The state of a disk after the ops it was fed."""

    def __init__(self) -> None:
        self._now: dict[str, Inode] = {}
        self._directory: dict[str, Inode] = {}
        """As it was last synced."""

    def feed(self, op: Op) -> None:
        """Do one thing more."""
        match op.kind:
            case "create":
                self._now[op.file] = Inode()
            case "delete":
                del self._now[op.file]
            case "sync_directory":
                self._directory = dict(self._now)
            case "write" | "truncate":
                self._now[op.file].waiting.append(op)
            case "sync":
                inode = self._now[op.file]
                for one in inode.waiting:
                    apply(inode.synced, one)
                inode.waiting.clear()
            case "lose":
                self._now[op.file].waiting.clear()

    def cut(self, loss: Loss, dice: Random) -> dict[str, bytes]:
        """The files that are found when the power is back, by name."""
        keeps_directory = loss == "all kept" or (loss != "all lost" and dice.random() < 0.5)
        directory = self._now if keeps_directory else self._directory
        found = {}
        for name, inode in directory.items():
            image = bytearray(inode.synced)
            for op in _kept(inode.waiting, loss, dice):
                apply(image, op)
            found[name] = bytes(image)
        return found


def apply(image: bytearray, op: Op) -> None:
    """Write, or truncate; what lies between the old end and a write is zeros."""
    if op.kind == "truncate":
        del image[op.offset :]
        return
    if op.offset > len(image):
        image.extend(bytes(op.offset - len(image)))
    image[op.offset : op.offset + len(op.data)] = op.data


def _kept(waiting: Sequence[Op], loss: Loss, dice: Random) -> Sequence[Op]:
    """The ops, or parts of them, that the disk took of those not synced."""
    if loss == "all lost" or not waiting:
        return ()
    if loss == "all kept":
        return waiting
    if loss == "in order":
        *whole, last = waiting[: dice.randint(1, len(waiting))]
        return [*whole, _torn(last, dice)]
    kept = [op for op in waiting if dice.random() < 0.6]
    if loss == "torn":
        return [*waiting[:-1], _torn(waiting[-1], dice)]
    return [part for op in kept for part in _sectors(op, dice)]


def _torn(op: Op, dice: Random) -> Op:
    """The first bytes of a write, not only whole sectors."""
    return Op(op.kind, op.file, op.offset, op.data[: dice.randint(0, len(op.data))])


def _sectors(op: Op, dice: Random) -> list[Op]:
    """All of a write, or some of its sectors."""
    if op.kind == "truncate" or dice.random() < 0.5:
        return [op]
    parts = []
    start = 0
    while start < len(op.data):
        end = start + SECTOR - (op.offset + start) % SECTOR
        if dice.random() < 0.5:
            parts.append(Op("write", op.file, op.offset + start, op.data[start:end]))
        start = end
    return parts


def describe(image: Mapping[str, bytes]) -> str:
    """An image in a line, for a failure's report."""
    return ", ".join(f"{name} {len(data):,} B" for name, data in sorted(image.items())) or "no file"
