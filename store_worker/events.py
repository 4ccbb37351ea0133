"""What happens to the store's core, and what it wants done."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from restante.wire.store_link import Ask, FromStore, Query, Reading, ToStore
from store_worker.journal import Write, Written

# --- events: what has happened ----------------------------------------------------------------------------


class Arrived(Struct, frozen=True):
    """A broker said something."""

    header: ToStore
    body: bytes = b""


class Malformed(Struct, frozen=True):
    """Something came in that is no envelope of this link."""

    text: str


class Drained(Struct, frozen=True):
    """All that had arrived was handed in: now is the time to commit it together."""


class OpenCounted(Struct, frozen=True):
    """`CountOpen` is durable: this is the generation."""

    name: str
    nonce: bytes
    generation: int


class OpenFailed(Struct, frozen=True):
    """`CountOpen` was rolled back."""

    name: str
    text: str


class Committed(Struct, frozen=True):
    """`Commit` is durable; what became of each batch."""

    written: Sequence[Written]


class CommitFailed(Struct, frozen=True):
    """`Commit` was rolled back: nothing of it is there. `code` and `text` are for the wire."""

    code: str
    text: str


class Found(Struct, frozen=True):
    """`Read` was answered."""

    ask: Ask
    reading: Reading
    body: bytes = b""


class Unsendable(Struct, frozen=True):
    """`Send` found the way to this broker full or gone; what was to be sent is lost."""

    name: str


class Due(Struct, frozen=True):
    """The deadline has passed."""


class CopyWanted(Struct, frozen=True):
    """A backup is to be made, a step at a time."""


class CopyOver(Struct, frozen=True):
    """`StepCopy` was the last, or the backup failed."""


class CaughtUp(Struct, frozen=True):
    """`CatchUp` was done, or could not be."""

    more: bool
    """There is more to do of it, and it can be done."""


class StopRequested(Struct, frozen=True):
    """Finish what is in hand, then end."""


Event = (
    Arrived
    | Malformed
    | Drained
    | OpenCounted
    | OpenFailed
    | Committed
    | CommitFailed
    | Found
    | Unsendable
    | Due
    | CopyWanted
    | CopyOver
    | CaughtUp
    | StopRequested
)

# --- actions: what is to be done, in order ------------------------------------------------------------------


class CountOpen(Struct, frozen=True):
    """Ask the journal for a generation. → `OpenCounted` or `OpenFailed`."""

    name: str
    nonce: bytes


class Connect(Struct, frozen=True):
    """Make a new way to this broker; the old one is closed, with all it holds (RULES 6)."""

    name: str


class Disconnect(Struct, frozen=True):
    """Close the way to this broker, with all it holds."""

    name: str


class Commit(Struct, frozen=True):
    """Execute these batches in one transaction. → `Committed` or `CommitFailed`."""

    writes: Sequence[Write]


class Read(Struct, frozen=True):
    """Ask the journal. → `Found`."""

    ask: Ask

    @property
    def query(self) -> Query:
        """What is asked."""
        return self.ask.query


class Send(Struct, frozen=True):
    """Say this to that broker. If that can't be: → `Unsendable`."""

    name: str
    header: FromStore
    body: bytes = b""


class Complain(Struct, frozen=True):
    """Tell the log of something that should not have come."""

    text: str


class StepCopy(Struct, frozen=True):
    """Copy a little more for the backup: no commit is under way. → `CopyOver`, once it is."""


class CatchUp(Struct, frozen=True):
    """Let the journal do a little of what commits left for later: nothing else is to be done now. → `CaughtUp`."""


class End(Struct, frozen=True):
    """All is done that was in hand."""


Action = CountOpen | Connect | Disconnect | Commit | Read | Send | Complain | StepCopy | CatchUp | End
