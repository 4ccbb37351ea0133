"""`chat send --batch`: lines of JSON in, one message each, streamed; a broken line keeps none of the others.

Lines are read as the server takes them, never the whole file. What became of each is told in the lines' order:
`Ledger` holds back a broken line's result until those before it have theirs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import click
import msgspec

from client_cli import exits
from client_cli.options import Options
from client_cli.output import Output
from client_cli.stdin import stdin
from restante.wire.errors import ChatError
from restante.wire.ids import once_id, read_id, show_id, uuid7
from restante.wire.limits import MESSAGE_BYTES_MAX, RECIPIENTS_PER_MESSAGE_MAX

if TYPE_CHECKING:
    from client_cli.progress import Progress
    from restante.messages import Outcome, Outgoing

LINE_BYTES_MAX: Final = 8 * MESSAGE_BYTES_MAX
"""A line's bytes: JSON may write one byte of content as six, and names stand beside it."""

FAILURES_SHOWN_MAX: Final = 100
"""Failed lines told one by one to a person; a million of them hide the sentence at the end."""


ENDING: Final = (exits.FORBIDDEN, exits.UNKNOWN)
"""Exits that end a batch: who isn't logged in isn't with the next line either, and a server that could not be reached
in the time allowed would cost each further line as much time again."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a batch. An unknown key is an error: a mistyped `once` would double messages in silence."""

    to: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=RECIPIENTS_PER_MESSAGE_MAX)]
    body: str | None = None
    body_base64: str | None = None
    once: str | None = None
    content_type: str | None = None
    reply_to: str | None = None


class BrokenLine(Exception):
    """A line that is no message; the text says why."""


class Entry(msgspec.Struct):
    """A line that was read: waiting for its outcome, or broken."""

    number: int
    message_id: bytes | None = None
    broken: str = ""


class Totals(msgspec.Struct):
    """What has become of the lines so far."""

    read: int = 0
    accepted: int = 0
    again: int = 0
    failed: int = 0
    without_once: int = 0

    @property
    def waiting(self) -> int:
        return self.read - self.accepted - self.failed


def parse_line(raw: bytes) -> Line:
    """The message of a line. Raises BrokenLine."""
    try:
        line = msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenLine(f"not a message: {error}") from None
    if (line.body is None) == (line.body_base64 is None):
        raise BrokenLine("not a message: it needs either `body` or `body_base64`")
    return line


def outgoing_of(line: Line) -> Outgoing:
    """What to send for a line; one without `once` gets an id of its own. Raises BrokenLine."""
    from restante.messages import Outgoing

    names = line.to.split(",") if isinstance(line.to, str) else line.to
    names = list(dict.fromkeys(name.strip() for name in names))
    if not all(names):
        raise BrokenLine(f"`to` has an empty name: {line.to!r}")
    try:
        if line.once is not None:
            once_id(0, line.once)
        body = line.body.encode() if line.body is not None else base64.b64decode(line.body_base64 or "", validate=True)
        reply_to = None if line.reply_to is None else read_id(line.reply_to)
    except (ValueError, binascii.Error) as error:
        raise BrokenLine(str(error)) from None
    if not body:
        raise BrokenLine("the body is empty")
    if len(body) > MESSAGE_BYTES_MAX:
        raise BrokenLine(f"the body has {len(body):,} bytes, the limit is {MESSAGE_BYTES_MAX:,}")
    return Outgoing(
        to=names,
        body=body,
        once=line.once,
        content_type=line.content_type or ("application/octet-stream" if line.body is None else None),
        reply_to=reply_to,
        id=None if line.once is not None else uuid7(time.time_ns() // 1000, os.urandom(10)),
    )


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers, blank ones passed over; None for one over LINE_BYTES_MAX.

    A last line without its newline is a line.
    """
    number = 0
    while raw := file.readline(LINE_BYTES_MAX):
        number += 1
        if not raw.endswith(b"\n") and len(raw) == LINE_BYTES_MAX:
            while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif raw.strip():
            yield number, raw


class Ledger:
    """Which lines are out, which have come back, and in which order to tell of them."""

    def __init__(self) -> None:
        self.totals = Totals()
        self._entries: deque[Entry] = deque()

    def outgoing(self, file: IO[bytes]) -> Iterator[Outgoing]:
        """The messages of a file's lines, as they are wanted; broken lines are entered and passed over."""
        for number, raw in lines_of(file):
            self.totals.read += 1
            try:
                if raw is None:
                    raise BrokenLine(f"longer than {LINE_BYTES_MAX:,} bytes")
                message = outgoing_of(parse_line(raw))
            except BrokenLine as error:
                self._entries.append(Entry(number, broken=str(error)))
                continue
            self.totals.without_once += message.once is None
            self._entries.append(Entry(number, message_id=message.id))
            yield message

    def broken(self) -> Iterator[Entry]:
        """The broken lines that are next in order."""
        while self._entries and self._entries[0].broken:
            self.totals.failed += 1
            yield self._entries.popleft()

    def settle(self, outcome: Outcome) -> Entry:
        """The line that an outcome belongs to: the next one that isn't broken (call `broken` before)."""
        entry = self._entries.popleft()
        if outcome.receipt is None:
            self.totals.failed += 1
        else:
            self.totals.accepted += 1
            self.totals.again += outcome.receipt.again
        return entry


class Report:
    """Tells what became of each line: as JSON on stdout, or the failures alone on stderr."""

    def __init__(self, options: Options, ledger: Ledger, progress: Progress | None) -> None:
        self._json = Output() if options.json else None
        self._ledger = ledger
        self._progress = progress
        self._shown = 0

    def broken(self) -> None:
        for entry in self._ledger.broken():
            self._failed(entry, "broken_line", entry.broken, "not sent")

    def outcome(self, outcome: Outcome) -> None:
        """Tell of an outcome, and of the broken lines before it. Raises Failure for one that ends the batch."""
        self.broken()
        entry = self._ledger.settle(outcome)
        receipt = outcome.receipt
        if receipt is None:
            assert outcome.error is not None
            failure = exits.failure_of(outcome.error)
            self._failed(entry, failure.code, failure.text, failure.advice.data)
            if failure.advice.exit in ENDING:
                raise failure
        elif self._json is not None:
            self._write(entry, ok=True, id=show_id(receipt.id), seq=receipt.seq, again=receipt.again)
        if self._progress is not None:
            self._progress.show(self._ledger.totals)

    def _failed(self, entry: Entry, code: str, text: str, data: str) -> None:
        if self._json is not None:
            known = {} if entry.message_id is None else {"id": show_id(entry.message_id)}
            self._write(entry, ok=False, **known, error=code, text=text)
        self._shown += 1
        if self._shown <= FAILURES_SHOWN_MAX:
            from client_cli.render import escape

            self._say(f"line {entry.number}: {escape(text.rstrip('.'))} ({data.rstrip('.').lower()})")
        elif self._shown == FAILURES_SHOWN_MAX + 1:
            self._say("More lines failed; only the first hundred are shown. --json tells of all.")

    def _write(self, entry: Entry, **fields: Any) -> None:
        from client_cli.render import json_line

        assert self._json is not None
        self._json.write(json_line({"line": entry.number, **fields}))

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.say(text)
        else:
            click.echo(text, err=True)


def send_batch(options: Options, path: str) -> int:
    """Send the lines of a file, `-` for stdin; the exit code. Raises OSError if it can't be read."""
    with contextlib.nullcontext(stdin()) if path == "-" else Path(path).open("rb") as file:
        from client_cli.progress import progress_for

        ledger = Ledger()
        with progress_for(options, file) as progress:
            report = Report(options, ledger, progress)
            stopped = _stream(options, file, ledger, report)
    totals = ledger.totals
    if stopped is not None:
        why = "Interrupted" if isinstance(stopped, KeyboardInterrupt) else "The batch ended early"
        click.echo(_standing(totals, why), err=True)
        raise stopped
    options.say(_summary(totals))
    return exits.PARTLY if totals.failed else exits.DONE


def _stream(
    options: Options, file: IO[bytes], ledger: Ledger, report: Report
) -> ChatError | exits.Failure | OSError | KeyboardInterrupt | None:
    """Send until the lines or the server are at an end; what stopped it, None if nothing did."""
    try:
        with options.connect() as client:
            for outcome in client.send_many(ledger.outgoing(file)):
                report.outcome(outcome)
            report.broken()
    except (ChatError, exits.Failure, OSError, KeyboardInterrupt) as error:
        return error
    return None


def _summary(totals: Totals) -> str:
    again = f" ({totals.again:,} of them had been before)" if totals.again else ""
    failed = f", {totals.failed:,} failed" if totals.failed else ""
    return f"{totals.accepted:,} accepted{again}{failed}."


def _standing(totals: Totals, why: str) -> str:
    """What can be relied on when a batch was cut short, and how to go on."""
    text = f"{why}: {_summary(totals)[:-1]}, {totals.waiting:,} not known, of {totals.read:,} lines read."
    if not totals.without_once:
        return f'{text} All of them carry "once": the same command can be repeated, and nothing is doubled.'
    return (
        f'{text} Repeating the command doubles no line that carries "once"; '
        "lines without it have a random id each, and would be sent as new messages."
    )
