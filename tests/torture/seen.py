"""All that the people wrote down in a round, in the simulator's terms (`tests.simulation.history`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from restante.wire.envelopes import Result
from tests.simulation.history import Acknowledging, Following, Mailbox, Reading, Sending
from tests.torture import journal
from tests.torture.batch import Run, told_in
from tests.torture.people import is_final

NO_ANSWER: Final = {
    "outcome_unknown": "OutcomeUnknown",
    "unreachable": "UnreachableError",
    "wrong_server_key": "UnreachableError",  # a handshake that is cut again and again looks like one
}
"""What the command calls a message to which no server gave an answer, and what the library does."""


class Followed(Struct):
    """A following, and when it began."""

    began_at: float
    following: Following


class Seen(Struct):
    """All that was written down in a round."""

    names: list[str]
    mailboxes: dict[str, Mailbox]
    """At the end, read past the proxy by somebody who had no part in it."""
    sendings: list[Sending] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)
    acknowledgings: list[Acknowledging] = field(default_factory=list)
    reading_failures: int = 0
    """Readings and acknowledgements that ended with an error, and were begun again."""
    again: int = 0
    """Answers that a message had been stored before."""

    @property
    def retries(self) -> int:
        """Sends that were made again, in whatever doubt, and reading begun again after an error."""
        sent = {(each.sender, each.id) for each in self.sendings}
        return len(self.sendings) - len(sent) + self.reading_failures

    # --- what went in -------------------------------------------------------------------------------------

    def add_sender(self, name: str, path: Path) -> None:
        """A sender's journal."""
        last: dict[bytes, Sending] = {}
        for line in journal.lines_of(path):
            if isinstance(line, journal.Given):
                last[line.id] = self._give(name, line.at, line.id, line.to, line.body)
            elif isinstance(line, journal.Told):
                self._tell(last[line.id], line)

    def add_batches(self, name: str, runs: Sequence[Run]) -> None:
        """A batch sender's runs. What a run that ended in doubt did not tell of has failed in it."""
        for run in runs:
            given = [self._give(name, run.at, line.id, line.to, line.body) for line in run.lines]
            told = told_in(run)
            for each in told:
                code = str(each.get("error", ""))
                code = NO_ANSWER.get(code, code)
                sending = given[int(str(each["line"])) - 1]
                seq = int(str(each.get("seq", 0)))
                line = journal.Told(
                    id=sending.id,
                    seq=seq,
                    stored_at_us=self._stored_at_us(sending, seq),
                    again=bool(each.get("again")),
                    code=code if is_final(code) else "",
                    failure="" if is_final(code) else code,
                )
                self._tell(sending, line)
            if run.code is not None and run.code > 0:
                for sending in given[len(told) :]:
                    sending.failure = "OutcomeUnknown"

    def _stored_at_us(self, sending: Sending, seq: int) -> int:
        """The command doesn't tell the time of storing: it is what the mailbox says."""
        for name in sending.to:
            entries = self.mailboxes[name].entries if name in self.mailboxes else []
            at = bisect_left(entries, seq, key=lambda entry: entry.seq)
            if at < len(entries) and entries[at].seq == seq:
                return entries[at].stored_at_us
        return 0

    def _give(self, sender: str, at: float, message_id: bytes, to: Sequence[str], body: str) -> Sending:
        sending = Sending(
            order=len(self.sendings),
            at=at,
            sender=sender,
            device=sender,  # one process at a time, so it is one order
            run=0,
            id=message_id,
            to=tuple(to),
            content=body.encode(),
            reply_to=None,
        )
        self.sendings.append(sending)
        return sending

    def _tell(self, sending: Sending, told: journal.Told) -> None:
        sending.ended_at = told.at
        if told.failure:
            sending.failure = told.failure
        else:
            sending.result = Result(
                seq=told.seq, stored_at_us=told.stored_at_us, again=told.again, code=told.code
            )  # fmt: skip
            self.again += told.again

    # --- what came out ------------------------------------------------------------------------------------

    def add_reader(self, mailbox: str, path: Path) -> None:
        """A follower's or a poller's journal."""
        followed: Followed | None = None
        asked: dict[int, Acknowledging] = {}
        places = {entry.id: entry.seq for entry in self.mailboxes[mailbox].entries}
        for line in journal.lines_of(path):
            if isinstance(line, journal.Began):
                if line.following:
                    followed = Followed(line.at, Following(reader=mailbox, run=0, after=0, sender=""))
                    self.followed.append(followed)
                else:  # another life: what the last one asked for nobody waits for any more
                    followed, asked = None, {}
            elif isinstance(line, journal.Got):
                assert followed is not None, "a following begins with its line"
                followed.following.entries.append(line.entry)
                followed.following.contents.append(line.body.encode())
                followed.following.handed_at.append(line.at)
            elif isinstance(line, journal.Paged):
                self.readings.append(_reading(mailbox, line))
            elif isinstance(line, journal.Asked):
                seqs = (*line.seqs, *(places[each] for each in line.ids if each in places))
                asked[line.n] = Acknowledging(at=line.at, reader=mailbox, run=0, seqs=seqs, ids=())
                self.acknowledgings.append(asked[line.n])
            elif isinstance(line, journal.Acked):
                asked[line.n].confirmed, asked[line.n].ended_at = True, line.at
            elif isinstance(line, journal.Failed):
                self.reading_failures += 1


def _reading(mailbox: str, line: journal.Paged) -> Reading:
    return Reading(
        at=line.at,
        ended_at=line.ended_at,
        reader=mailbox,
        after=line.after,
        unread=True,
        sender="",
        limit=line.limit,
        through=line.through,
        more=line.more,
        entries=line.entries,
        contents=[body.encode() for body in line.bodies],
    )
